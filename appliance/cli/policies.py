"""The policy folder: is it whole, does it agree with the configuration, do its tests pass? Nothing is put in force."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli.output import NO, fail, say, show_json, warn
from appliance.cli.up import read_config
from appliance.config.load import DEFAULT_PATH

if TYPE_CHECKING:
    from appliance.policy.data import Data
    from appliance.policy.testing import TestResult


def check(folder: str | None, config_file: str | None) -> None:
    """Ends with status 1 for a policy that a reload would refuse, 78 for a bad configuration. What policy and
    configuration do not share is a warning: it grants nothing."""
    config = None
    if folder is None or config_file is not None or os.path.exists(DEFAULT_PATH):
        config = read_config(config_file or DEFAULT_PATH)
    where = Path(folder or (config.policy_dir if config else ""))
    data, results = _tried(where)
    failed = [result for result in results if not result.passed]
    for result in failed:
        warn(f"{where / result.file}: {_line(result)}")
    if failed:
        fail(f"{where}: {len(failed)} of {len(results)} tests fail", NO)
    if config is None:
        warn(f"there is no configuration ({DEFAULT_PATH}) to hold it against")
    else:
        from appliance.policy.crosscheck import cross_check

        for warning in cross_check(config, data):
            warn(f"warning: {warning}")
    say(f"{where}: whole; {len(data.destinations)} destinations, {len(results)} tests pass")


def test(folder: str | None, config_file: str | None, as_json: bool) -> None:
    """Ends with status 1 if a test fails, or the folder is not whole."""
    where = Path(folder or read_config(config_file or DEFAULT_PATH).policy_dir)
    _, results = _tried(where)
    failed = sum(not result.passed for result in results)
    if as_json:
        show_json([_plain(result) for result in results])
    else:
        for result in results:
            say(f"{'ok  ' if result.passed else 'FAIL'} {result.file}: {_line(result)}")
        say(f"{len(results) - failed} of {len(results)} tests pass")
    if failed:
        raise SystemExit(NO)


def _tried(folder: Path) -> tuple[Data, list[TestResult]]:
    """The folder's data and the outcome of its tests, or the end of the program with file, line and key."""
    from msgspec.structs import replace

    from appliance.control.policy_files import DATA_FILE, read_folder
    from appliance.control.trial import try_policy
    from appliance.model.errors import CoatcheckError
    from appliance.policy.bundle import make_bundle, parse_data

    try:
        modules, text = read_folder(folder)
        data = parse_data(text, str(folder / DATA_FILE))
        results = try_policy(make_bundle({str(folder / name): module for name, module in modules.items()}, data))
    except CoatcheckError as error:
        message = str(error)
        fail(message if str(folder) in message else f"{folder}: {message}", NO)
    return data, [replace(result, file=Path(result.file).name) for result in results]


def _line(result: TestResult) -> str:
    return result.name + (f" ({result.error})" if result.error else "")


def _plain(result: TestResult) -> dict[str, Any]:
    return {"file": result.file, "name": result.name, "passed": result.passed, "error": result.error}
