"""The record, shown and verified: by the appliance, and from a copy without it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, sentence
from tests.e2e.spine import HOST, Spine

pytestmark = pytest.mark.world


@pytest.fixture(scope="module")
def copy(spine: Spine) -> tuple[Path, Path]:
    """(a copy of the log, the keys), as somebody would take them to another machine."""
    spine.shell(f"curl -sS https://{HOST}/; curl -sS https://{HOST}/again")
    spine.appliance.stop()  # the last head is signed now
    spine.appliance.start()
    folder = spine.world.dir / "copy"
    folder.mkdir()
    log, keys = folder / "audit.jsonl", folder / "jwks.json"
    log.write_bytes((spine.appliance.state_dir / "control" / "audit.jsonl").read_bytes())
    socket = str(spine.appliance.run_dir / "coatcheck.sock")
    url = "http://localhost/jwks"
    spine.world.run(["curl", "-sS", "--unix-socket", socket, url, "-o", str(keys)], check=True)
    return log, keys


def verify(cli: Callable[..., Run], log: Path, keys: Path, *more: str) -> Run:
    return cli("audit", "verify", "--file", str(log), "--jwks", str(keys), *more, env={"PATH": "/usr/bin:/bin"})


def test_the_running_appliances_log_is_whole(cli: Callable[..., Run], as_json: Callable[..., Any]) -> None:
    done = cli("audit", "verify")
    assert done.returncode == 0
    assert done.stdout.startswith("whole: ")
    report = as_json("audit", "verify")
    assert (report["ok"], report["findings"], report["first"]) == (True, [], 1)


def test_records_are_shown(spine: Spine, cli: Callable[..., Run], copy: tuple[Path, Path]) -> None:
    text = cli("audit", "show", "--limit", "1000").stdout
    assert text.splitlines()[0].split() == ["SEQ", "TIME", "RECORD", "JOB", "FLOW", "PRINCIPAL", "DECISION", "DETAIL"]
    for word in ("flow.opened", "operation.decided", "(signed head)", HOST, "allow service/any"):
        assert word in text


def test_shown_as_json_they_are_the_logs_own_bytes(spine: Spine, cli: Callable[..., Run]) -> None:
    done = cli("audit", "show", "--after", "2", "--limit", "3", "--json")
    log = (spine.appliance.state_dir / "control" / "audit.jsonl").read_text()
    assert done.stdout.splitlines() == log.splitlines()[2:5]
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [3, 4, 5]
    assert cli("audit", "show", "--after", "999999").stdout == "no records\n"


def test_a_copy_is_verified_without_a_daemon(cli: Callable[..., Run], copy: tuple[Path, Path]) -> None:
    done = verify(cli, *copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("whole: ")
    assert "cut off" in done.stdout  # what cannot be known from a copy is said
    assert json.loads(verify(cli, *copy, "--json").stdout)["signed_through"] > 1


def edited(lines: list[bytes]) -> list[bytes]:
    at = next(index for index, line in enumerate(lines) if HOST.encode() in line)
    return [*lines[:at], lines[at].replace(HOST.encode(), b"harmless.tst"), *lines[at + 1 :]]


@pytest.mark.parametrize(
    ("change", "problem", "line"),
    [
        (edited, "edited", None),
        (lambda lines: lines[:1] + lines[2:], "deleted", 2),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "deleted", 2),
        (lambda lines: [*lines[:-1], lines[-1][:-5]], "truncated", None),
    ],
    ids=["edited", "deleted", "reordered", "truncated"],
)
def test_a_changed_copy_is_found_out(
    cli: Callable[..., Run],
    copy: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[list[bytes]], list[bytes]],
    problem: str,
    line: int | None,
) -> None:
    log, keys = copy
    changed = log.parent / "changed.jsonl"
    changed.write_bytes(b"".join(change(log.read_bytes().splitlines(keepends=True))))
    done = verify(cli, changed, keys)
    assert done.returncode == 1
    assert done.stdout.startswith("BROKEN: ")
    assert problem in done.stdout
    report = json.loads(verify(cli, changed, keys, "--json").stdout)
    assert report["ok"] is False
    assert problem in [found["problem"] for found in report["findings"]]
    assert line is None or report["findings"][0]["line"] == line


def test_a_copy_with_another_hosts_keys_is_found_out(cli: Callable[..., Run], copy: tuple[Path, Path]) -> None:
    log, keys = copy
    other = keys.with_name("other.json")
    found = json.loads(keys.read_text())
    for key in found["keys"]:
        key["kid"] += "-other"
    other.write_text(json.dumps(found))
    assert "signature" in verify(cli, log, other).stdout


def test_files_that_are_not_what_they_should_be(cli: Callable[..., Run], copy: tuple[Path, Path]) -> None:
    log, keys = copy
    assert "there is no such file" in sentence(verify(cli, log.with_name("none"), keys), 64)
    assert "not a usable JWK set" in sentence(verify(cli, log, log), 64)
    empty = keys.with_name("empty.json")
    empty.write_text('{"keys": []}')
    assert "no key for audit logs" in sentence(verify(cli, log, empty), 64)


def test_an_edit_under_the_running_appliance_is_found(spine: Spine, cli: Callable[..., Run]) -> None:
    """Last of the module: the log is broken afterwards."""
    log = spine.appliance.state_dir / "control" / "audit.jsonl"
    text = log.read_bytes()
    assert b'"event":"started"' in text
    subprocess.run(["sed", "-i", '1s/"started"/"STARTED"/', str(log)], check=True)
    done = cli("audit", "verify")
    assert done.returncode == 1
    assert "audit.jsonl" in done.stdout
    assert "edited" in done.stdout
