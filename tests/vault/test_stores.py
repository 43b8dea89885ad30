"""Secrets from files, variables, commands and systemd credentials; and the cache over them."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.schema import SecretSpec
from appliance.model.errors import EnvironmentFailed
from appliance.model.secret import Secret
from appliance.vault.private_files import read_private, write_private
from appliance.vault.stores import store_of
from appliance.vault.stores.cache import Held, SecretCache
from appliance.vault.stores.command import CommandStore
from appliance.vault.stores.credential import read_credentials
from appliance.vault.stores.environment import EnvironmentStore
from appliance.vault.stores.file import FileStore
from appliance.vault.stores.sources import Store, secret_variables
from appliance.vault.stores.value import MAX_VALUE, Origin
from tests.vault.rig import CANARY, Clock, run, spec


def fetched(store: Store) -> bytes:
    return run(store.fetch).reveal()


def why_not(fetch: Callable[[], Awaitable[object]]) -> str:
    """The message of the one error; it names the secret and never has a value."""
    with pytest.raises(EnvironmentFailed) as caught:
        run(fetch)
    assert caught.value.code == "secret-unavailable"
    message = str(caught.value)
    assert message.startswith("secret github from ")
    assert "; " in message  # the next step
    assert CANARY not in message
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None
    return message


# ---- values ----


@given(st.binary(max_size=200))
def test_a_value_is_printable_or_refused_without_being_shown(value: bytes) -> None:
    origin = Origin("github", "here")
    expected = value[:-2] if value.endswith(b"\r\n") else value[:-1] if value.endswith(b"\n") else value
    if expected and all(0x20 <= byte < 0x7F for byte in expected):
        assert origin.secret_of(value, line=True).reveal() == expected
    else:
        with pytest.raises(EnvironmentFailed) as caught:
            origin.secret_of(value, line=True)
        if len(expected) > 6:
            assert expected.decode("latin-1") not in str(caught.value)


@pytest.mark.parametrize("content", [b"-----BEGIN KEY-----\nabc\n-----END KEY-----", b"-----BEGIN KEY-----\r\nabc"])
def test_pem_has_lines_and_nothing_else_that_is_strange(content: bytes) -> None:
    origin = Origin("github", "here")
    assert origin.secret_of(content, line=True).reveal() == content
    for strange in (b"\0", b"\t", b"\xff", b"\x1b"):
        with pytest.raises(EnvironmentFailed):
            origin.secret_of(content + strange, line=True)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"), (b"\n", "empty"), (b"a\nb\n", "a line break"), (b"a\n\n", "a line break"), (b"a\0b", "0x00"),
        ("ü".encode(), "0xc3"), (b"a" * (MAX_VALUE + 1), "64 KiB"), (b"a\tb", "0x09"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_says_why(tmp_path: Path, content: bytes, word: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    assert word in why_not(FileStore("github", str(file)).fetch)


# ---- files ----


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file(tmp_path: Path, end: str) -> None:
    file = tmp_path / "secret"
    file.write_text(CANARY + end, newline="")
    assert fetched(FileStore("github", str(file))) == CANARY.encode()


def test_the_longest_value(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"x" * MAX_VALUE + b"\r\n")
    assert len(fetched(FileStore("github", str(file)))) == MAX_VALUE


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "there is no such file; create it" in why_not(FileStore("github", str(tmp_path / "no")).fetch)
    assert "not a regular file" in why_not(FileStore("github", str(tmp_path)).fetch)
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in why_not(FileStore("github", str(tmp_path / "fifo")).fetch)
    assert "cannot be opened" in why_not(FileStore("github", str(tmp_path / ("x" * 300))).fetch)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be opened" in why_not(FileStore("github", str(tmp_path / "loop")).fetch)


def test_a_file_of_another_account(state: Path) -> None:
    file = state / "secret"
    file.write_text(CANARY)
    file.chmod(0o600)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            code = (
                0 if "the vault may not read it; let uid 65534" in why_not(FileStore("github", str(file)).fetch) else 2
            )
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "run the tests as root"


# ---- variables and credentials ----


def test_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COATCHECK_TEST", CANARY)
    assert fetched(EnvironmentStore("github", "COATCHECK_TEST")) == CANARY.encode()
    monkeypatch.setenv("COATCHECK_TEST", "")
    assert "it is empty" in why_not(EnvironmentStore("github", "COATCHECK_TEST").fetch)
    monkeypatch.delenv("COATCHECK_TEST")
    assert "does not have it" in why_not(EnvironmentStore("github", "COATCHECK_TEST").fetch)


def credential(name: str = "token") -> Store:
    each = spec(**{"from": {"credential": name}})
    return store_of(each, read_credentials([each, spec(name="other")]))


def test_a_systemd_credential(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "LoadCredentialEncrypted=token" in why_not(credential().fetch)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "unit does not have it" in why_not(credential().fetch)
    (tmp_path / "token").write_text(CANARY + "\n")
    store = credential()
    (tmp_path / "token").unlink()  # as for an account that may not look
    assert fetched(store) == CANARY.encode()
    for name in ("../token", "", ".", "..", "a/b"):
        assert "not a credential's name" in why_not(credential(name).fetch)


# ---- commands ----


def command(*words: str, timeout: float = 10.0) -> CommandStore:
    return CommandStore("github", words, timeout, hidden={"COATCHECK_TEST_HIDDEN"})


def script(text: str, timeout: float = 10.0) -> CommandStore:
    return command("/bin/sh", "-c", text, timeout=timeout)


def test_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetched(command("/bin/echo", CANARY)) == CANARY.encode()
    assert fetched(command("/bin/echo", "$HOME;`id`")) == b"$HOME;`id`"  # no shell
    monkeypatch.setenv("COATCHECK_TEST_HIDDEN", CANARY)
    assert fetched(script('echo "${COATCHECK_TEST_HIDDEN:-nothing}"')) == b"nothing"
    assert fetched(script("cat; echo end")) == b"end"  # no input


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (f"echo {CANARY} >&2; echo {CANARY}; exit 3", "exit code 3"),
        ("kill -9 $$", "ended by SIGKILL"),
        ("true", "it is empty"),
        ("while :; do echo 0123456789012345678901234567890123456789; done", "printed over 64 KiB"),
    ],
)
def test_a_command_that_fails(capfd: pytest.CaptureFixture[str], text: str, word: str) -> None:
    assert word in why_not(script(text).fetch)
    assert capfd.readouterr() == ("", "")


def test_a_command_that_cannot_be_started(tmp_path: Path) -> None:
    assert "cannot be started (No such file or directory)" in why_not(command("/no/such/program").fetch)
    assert "cannot be started (Permission denied)" in why_not(command(str(tmp_path)).fetch)
    assert "cannot be started" in why_not(command("/bin/echo", "a\0b").fetch)


def gone(pid_file: Path) -> bool:
    """Whether the process whose pid a script wrote has ended."""
    pid = int(pid_file.read_text())
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.01)


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    message = why_not(script(f"sleep 1000 & echo $! > {pid_file}; wait", timeout=0.5).fetch)
    assert "did not end within 0.5 s" in message
    wait_until(lambda: gone(pid_file))


def test_a_child_that_is_left_behind_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert fetched(script(f"sleep 1000 > /dev/null & echo $! > {pid_file}; echo value")) == b"value"
    wait_until(lambda: gone(pid_file))


def test_a_cancelled_fetch_leaves_no_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    async def scenario() -> None:
        task = asyncio.ensure_future(
            script(f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 999").fetch()
        )
        while not pid_file.exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)
    wait_until(lambda: gone(pid_file))


# ---- all ----


def test_every_source_has_its_store() -> None:
    for source, kind in (
        ({"file": "/x"}, "FileStore"),
        ({"environment": "X"}, "EnvironmentStore"),
        ({"command": ["/x"]}, "CommandStore"),
        ({"credential": "x"}, "CredentialStore"),
        ({"url": "https://v.test", "path": "p", "key": "k", "token_environment": "T"}, "KvStore"),
    ):
        each: SecretSpec = spec(**{"from": source})
        assert type(store_of(each, {})).__name__ == kind
    assert secret_variables([each, spec()]) == {"T", "COATCHECK_TEST_CANARY"}


# ---- the cache ----


class Source:
    """A store that counts, waits and fails as it is told."""

    def __init__(self) -> None:
        self.fetches = 0
        self.value = b"one"
        self.fails = False
        self.gate: asyncio.Event | None = None

    async def fetch(self) -> Secret:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise EnvironmentFailed("secret-unavailable", "secret github from here: gone; bring it back")
        return Secret(self.value)


def test_a_value_lives_as_long_as_was_said_and_not_longer(clock: Clock) -> None:
    async def scenario() -> None:
        source = Source()
        cache = SecretCache(source, 60, clock.ticks)
        first = await cache.get()
        assert first == Held(Secret(b"one"), clock.ticks() + 60)
        clock.move(54)
        assert await cache.get() == first
        assert source.fetches == 1
        source.value = b"two"
        clock.move(2)  # near the end: fetched anew already
        assert (await cache.get()).value == Secret(b"two")
        source.fails = True
        clock.move(57)
        assert (await cache.get()).value == Secret(b"two")  # the source is gone, the value still lives
        assert cache.problem
        clock.move(3)
        with pytest.raises(EnvironmentFailed):
            await cache.get()  # past its life: not used
        source.fails = False
        clock.move(1)
        assert (await cache.get()).value == Secret(b"two")
        assert not cache.problem

    run(scenario)


def test_however_many_ask_the_source_is_asked_once(clock: Clock) -> None:
    async def scenario() -> None:
        source = Source()
        source.gate = asyncio.Event()
        cache = SecretCache(source, 60, clock.ticks)
        waiting = [asyncio.ensure_future(cache.get()) for _ in range(100)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # who goes away does not take the others along
        source.gate.set()
        values = await asyncio.gather(*waiting[1:])
        assert {value.value.reveal() for value in values} == {b"one"}
        assert source.fetches == 1

    run(scenario)


def test_a_dead_source_is_not_run_into(clock: Clock) -> None:
    async def scenario() -> None:
        source = Source()
        source.fails = True
        cache = SecretCache(source, 60, clock.ticks)
        for _ in range(50):
            with pytest.raises(EnvironmentFailed, match="bring it back"):
                await cache.get()
        assert source.fetches == 1
        clock.move(1)
        with pytest.raises(EnvironmentFailed):
            await cache.get()
        assert source.fetches == 2

    run(scenario)


def test_life_counts_from_the_question(clock: Clock) -> None:
    async def scenario() -> None:
        source = Source()
        source.gate = asyncio.Event()
        cache = SecretCache(source, 60, clock.ticks)
        asked = clock.ticks()
        waiting = asyncio.ensure_future(cache.get())
        while not source.fetches:
            await asyncio.sleep(0)
        clock.move(10)
        source.gate.set()
        assert (await waiting).until == asked + 60

    run(scenario)


def test_only_the_owner_may_read_what_is_written_privately(state: Path) -> None:
    write_private(state / "k", b"1")
    write_private(state / "k", b"2")
    assert read_private(state / "k") == b"2"
    assert stat.S_IMODE((state / "k").stat().st_mode) == 0o600
    assert [file.name for file in state.iterdir()] == ["k"]
    assert read_private(state / "none") is None
