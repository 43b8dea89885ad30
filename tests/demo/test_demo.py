"""The demo runs as a program; and each of its checks can fail."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.demo.checks import all_checks
from tests.demo.requests import in_slot
from tests.demo.screen import HELD, RECEIVED, RETURNED, Screen
from tests.demo.seen import Seen
from tests.demo.setting import CREDENTIAL
from tests.world.world import REPOSITORY

pytestmark = pytest.mark.world


class Ran(NamedTuple):
    done: subprocess.CompletedProcess[str]
    seen: Seen


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.demo", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    file: Path = tmp_path_factory.mktemp("demo") / "seen.json"
    done = demo("--json", str(file))
    assert file.exists(), done.stdout + done.stderr
    return Ran(done, msgspec.json.decode(file.read_bytes(), type=Seen))


def test_everything_is_as_it_should_be(ran: Ran) -> None:
    assert ran.done.returncode == 0, ran.done.stdout + ran.done.stderr
    assert "all as they should be" in ran.done.stdout
    assert "\x1b" not in ran.done.stdout  # plain in a pipe
    assert max(map(len, ran.done.stdout.splitlines())) <= 120


def test_the_credential_is_printed_in_the_service_s_column_only(ran: Ran) -> None:
    lines = ran.done.stdout.splitlines()
    header = next(line for line in lines if RECEIVED in line)
    left, right = header.index(RECEIVED), header.index(RETURNED)
    found = [line for line in lines if CREDENTIAL in line]
    assert len(found) == 3
    for line in found:
        assert line[left:right].strip() == CREDENTIAL
        assert line.count(CREDENTIAL) == 1
    assert CREDENTIAL not in ran.done.stderr


@pytest.mark.parametrize("width", [40, 78, 200])
def test_it_fits_the_width(
    ran: Ran, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen()
    screen.requests(ran.seen.clients)
    screen.attempts(ran.seen.attempts)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    if width == 78:  # one below the other
        assert [line.split()[-1] for line in out.splitlines() if RECEIVED in line] == [CREDENTIAL] * 3
        held = {line.split()[-1] for label in (HELD, RETURNED) for line in out.splitlines() if label in line}
        assert held == {ran.seen.agent.placeholder}


def test_a_policy_that_allows_too_much_is_noticed() -> None:
    done = demo("--break")
    assert done.returncode == 1
    assert "FAILED  the same, by its address: nothing of it arrived" in done.stdout
    assert "all of it: build/demo.log" in done.stderr


def test_each_check_fails_for_some_single_change_of_what_was_seen(ran: Ran) -> None:
    """A check that nothing can make fail is none."""
    names = {check.what for check in all_checks(ran.seen)}
    caught: set[str] = set()
    for altered in alterations(msgspec.to_builtins(ran.seen)):
        caught |= {check.what for check in all_checks(msgspec.convert(altered, Seen)) if not check.ok}
    assert names - caught == set()


@pytest.mark.parametrize(
    ("where", "value", "failing"),
    [
        (("clients", 0, "held"), CREDENTIAL, "curl: the agent held a placeholder as long as the credential"),
        (("clients", 1, "received"), "demo_other", "python3: the service received the credential"),
        (("clients", 2, "returned"), CREDENTIAL, "node: the agent got the placeholder back"),
        (
            ("clients", 0, "output"),
            "x WdlbnQ6ZGVtb19SZWFsQ3JlZGVudGlhbE9mU3ZjNDI0Mg== of agent:…",
            "curl: no form of the credential is in what the agent saw",
        ),
        (("clients", 0, "pid"), 1, "curl: the kernel knew its pid"),
        (("attempts", 4, "said"), "200", "another job's placeholder: the agent was refused, and told why"),
        (("attempts", 5, "reached"), ["UDP 9000"], "UDP (as QUIC would): nothing of it arrived"),
        (("attempts", 8, "outside"), "fails", "a raw socket, as root: outside of a job the same arrives"),
        (("log", "exit"), 1, "audit: the log is whole"),
        (("log", "forged_exit"), 0, "audit: a copy in which one word was changed is found out"),
        (("remains", "mounts"), ["bpf"], "left behind: no mounts"),
        (("token", "verified"), "InvalidSignatureError", "token: the vault's public key verifies it"),
    ],
)
def test_what_each_change_breaks(ran: Ran, where: tuple[Any, ...], value: object, failing: str) -> None:
    altered = put(msgspec.to_builtins(ran.seen), where, value)
    assert failing in {check.what for check in all_checks(msgspec.convert(altered, Seen)) if not check.ok}


def test_the_slot_is_read_as_the_service_reads_it() -> None:
    assert in_slot({"headers": [["authorization", "Bearer abc"]]}) == "abc"
    assert in_slot({"headers": [["Authorization", "Basic YWdlbnQ6YTpiYw=="]]}) == "a:bc"
    assert in_slot({"headers": [["Authorization", "Basic %"]]}) is None
    assert in_slot({"headers": [["Host", "h"]], "path": "/x?a=1&key=abc"}) == "abc"
    assert in_slot({"headers": [], "path": "/x"}) is None


def alterations(tree: Any) -> Iterator[Any]:
    """The tree with one leaf changed, in several ways, or one element of a list taken out."""
    for where, leaf in leaves(tree):
        for value in changed(leaf):
            yield put(tree, where, value)


def leaves(tree: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*where, key))
        return
    yield where, tree
    if isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from leaves(value, (*where, index))


def changed(leaf: Any) -> list[Any]:
    if isinstance(leaf, bool):
        return [not leaf]
    if isinstance(leaf, (int, float)):
        return [0, leaf + 1, leaf + 1000]
    if isinstance(leaf, str):
        return ["", CREDENTIAL, f"{leaf} or not"]
    if isinstance(leaf, list):
        return [leaf[1:]] if leaf else [["something"]]
    return []


def put(tree: Any, where: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(tree)
    at = made
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    return made
