"""`coatcheck up` and `coatcheck release`."""

from __future__ import annotations

import asyncio
import os

from appliance.cli.output import CONFIGURATION, FORBIDDEN, NO, fail
from appliance.config.load import FileError, load
from appliance.config.places import Places
from appliance.config.schema import Config
from appliance.model.errors import CoatcheckError


def read_config(path: str) -> Config:
    """The configuration, or the end of the program with a sentence."""
    try:
        return load(path)
    except FileError as error:
        fail(str(error), CONFIGURATION)


def _as_root(what: str) -> None:
    if os.geteuid() != 0:
        fail(f"{what} needs root: it attaches hooks and starts processes of other accounts", FORBIDDEN)


def up(config_file: str) -> None:
    config = read_config(config_file)
    _as_root("up")
    from appliance.daemon.__main__ import log_to_stderr
    from appliance.daemon.supervisor import Supervisor

    log_to_stderr()
    try:
        asyncio.run(Supervisor(config, os.path.abspath(config_file)).run())
    except (CoatcheckError, ValueError) as error:
        fail(str(error), NO)


def release(config_file: str) -> None:
    config = read_config(config_file)
    _as_root("release")
    from appliance.daemon.only_one import only_one
    from appliance.kernel import pins

    places = Places(config)
    if not places.run.exists():
        print("nothing is governed")
        return
    try:
        with only_one(places.run):
            pins.release(places.pins)
    except (CoatcheckError, OSError) as error:
        fail(f"the hooks could not be released: {error}", NO)
    print("released: nothing is governed any more")
