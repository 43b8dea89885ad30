"""Fixtures that every test may ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from appliance.hot import fingerprint
from tests.world import World
from tests.world.world import REPOSITORY


def pytest_sessionstart() -> None:
    """What is compiled must be what is in the files: an edit that is not tested would be a trap. And signals do what
    they do in a terminal, as the tests expect of what they start: nohup(1), or a `&` in a script, has them ignored."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made = REPOSITORY / "appliance" / "hot.made-from"
    if made.exists() and made.read_text().strip() != fingerprint():
        pytest.exit("a compiled module has changed: run ./dev setup, or PURE=1 ./dev setup to go without", returncode=4)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder where other users, such as a job's, may read and write. Those of pytest are root's alone."""
    with TemporaryDirectory(prefix="cc-open-") as made:
        Path(made).chmod(0o777)
        yield Path(made)


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh world for one test (about 0.1 s). Mark the test `@pytest.mark.world`."""
    with World() as made:
        yield made
