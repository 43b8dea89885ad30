"""The vault as a process of its own account: what it may, what others may, and what a crash leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.config.load import load
from appliance.config.places import Places
from appliance.daemon.notify import READY_FD
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import GrantAsk, Granted, Head, Lease, LeaseAsk, MintAsk, UseAsk, VaultStatus
from appliance.model.errors import CoatcheckError, Denied
from appliance.model.identity import Identity
from appliance.model.ids import DestinationName, SecretName
from appliance.model.placeholder import Narrowing
from tests.vault.accounts import KernelProcess, as_account
from tests.vault.rig import CANARY, JOB, KEY, FakeKernel

VAULT, PROXY, CONTROL, NOBODY = 1879120001, 1879120002, 1879120003, 1879120004
HOST = "api.github.test"
_AT_ONCE, _CRASHES = 3, 5
FILE_CANARY = "glpat-F1leC4n4ryF1leC4n4ryF1leC4"


class Installation:
    """One configuration, its folders, a kernel process, and a vault that is started, stopped and killed."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.log = base / "log"
        self.file = base / "vault-only"
        self.file.write_text(FILE_CANARY + "\n")
        self.file.chmod(0o600)
        os.chown(self.file, VAULT, VAULT)
        self.config_file = base / "coatcheck.yaml"
        self.config_file.write_text(f"""
state_dir: {base}/state
run_dir: {base}/run
processes: {{vault: {VAULT}, proxy: {PROXY}, control: {CONTROL}, group: {NOBODY}}}
workloads:
- {{name: ci, match: {{uid: [1000]}}}}
secrets:
- {{name: github, from: {{environment: COATCHECK_TEST_CANARY}}, env: GITHUB_TOKEN, destinations: [github],
   hosts: [{HOST}], slots: [{{in: header, name: authorization}}]}}
- {{name: gitlab, from: {{file: {self.file}}}, destinations: [gitlab], hosts: [gitlab.test],
   slots: [{{in: header, name: private-token}}]}}
- {{name: broken, from: {{command: [/bin/sh, -c, "echo {CANARY} >&2; echo {CANARY}; exit 7"]}},
   destinations: [x], hosts: [x.test], slots: [{{in: query, name: key}}]}}
- {{name: given, from: {{credential: token}}, destinations: [x], hosts: [x.test], slots: [{{in: query, name: key}}]}}
""")
        credentials = base / "credentials"
        credentials.mkdir(mode=0o500)
        (credentials / "token").write_text(CANARY + "\n")
        self.places = Places(load(self.config_file))
        Path(self.places.kernel_socket).parent.mkdir(parents=True)
        for folder in (self.places.run, Path(self.places.kernel_socket).parent):
            folder.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        reading, writing = os.pipe()
        environment = os.environ | {
            READY_FD: str(writing),
            "COATCHECK_TEST_CANARY": CANARY,
            "CREDENTIALS_DIRECTORY": str(self.base / "credentials"),
        }
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "appliance.daemon", "vault", "--config", self.config_file],
                env=environment, pass_fds=(writing,), stderr=log, stdout=log,
            )  # fmt: skip
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert pipe.readline() == b"ready\n", self.log.read_text()
        return self.process.pid

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait()
        self.process = None
        return code

    def call(self, uid: int, method: str, params: Any = None, result: Any = None) -> Any:
        return as_account(
            uid, lambda: IpcClient("vault", self.places.vault_socket, VAULT).call(method, params, result=result)
        )

    def end_when_told(self, pipe: int) -> None:
        os.read(pipe, 1)
        self.end(signal.SIGKILL)


@pytest.fixture
def place(state: Path) -> Iterator[Installation]:
    made = Installation(state.parent)
    with KernelProcess(made.places.kernel_socket, VAULT, FakeKernel()):
        try:
            yield made
        finally:
            if made.process is not None:
                made.process.kill()
                made.process.wait()


def everything_below(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def test_it_holds_no_right_and_nobody_reads_it(place: Installation) -> None:
    pid = place.start()
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == [str(VAULT)] * 4
    assert status["Gid"].split() == [str(VAULT)] * 4
    assert [status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")] == ["0" * 16] * 5
    assert (status["NoNewPrivs"], status["Groups"].strip()) == ("1", "")

    async def peek() -> list[str]:
        refused = []
        paths = [
            f"/proc/{pid}/environ", f"/proc/{pid}/mem", f"/proc/{pid}/fd", str(place.places.vault_state),
            str(place.places.vault_state / "ca.pem"),
        ]  # fmt: skip
        for path in paths:
            try:
                os.listdir(path) if os.path.isdir(path) else open(path, "rb").close()
            except OSError as error:
                refused.append(type(error).__name__)
        return refused

    assert as_account(PROXY, peek) == ["PermissionError"] * 5
    assert as_account(CONTROL, peek) == ["PermissionError"] * 5
    assert as_account(VAULT, peek)[:3] == ["PermissionError"] * 3  # not even a process of its own account

    async def read_public() -> list[int]:
        return [len(Path(p).read_bytes()) for p in (place.places.ca_file, place.places.ca_bundle, place.places.ca_java)]

    assert all(as_account(NOBODY, read_public))
    assert place.end(signal.SIGTERM) == 0


DIGEST = bytes(32)
USE = UseAsk("t", DIGEST, DestinationName("github"), HOST, "GET", "/")
CALLS: dict[str, tuple[Any, set[int]]] = {
    "identify": (KEY, {PROXY}),
    "identify_pid": (4711, {CONTROL}),
    "renew": ("token", {PROXY}),
    "lease": (LeaseAsk("t", DestinationName("github"), HOST, 443), {PROXY}),
    "use": (USE, {PROXY}),
    "whose": (DIGEST, {PROXY}),
    "leaf": ("a.test", {PROXY}),
    "grant": (GrantAsk(JOB, "ci"), {CONTROL}),
    "mint": (MintAsk(JOB, SecretName("github"), None, None, Narrowing()), {CONTROL}),
    "forget_job": (JOB, {CONTROL}),
    "jwks": (None, {CONTROL}),
    "sign_head": (Head(1, DIGEST, 0.0), {CONTROL}),
    "last_head": (None, {CONTROL}),
    "ca": (None, {CONTROL, 0}),
    "status": (None, {CONTROL, 0}),
}


def test_each_method_is_for_its_accounts_only(place: Installation) -> None:
    place.start()

    def try_all(uid: int) -> Callable[[], Awaitable[set[str]]]:
        async def work() -> set[str]:
            client = IpcClient("vault", place.places.vault_socket, VAULT)
            refused = set()
            for method, (params, _) in CALLS.items():
                try:
                    await client.call(method, params)
                except Denied as denied:
                    if denied.rule == "ipc":
                        refused.add(method)
                except CoatcheckError:
                    pass  # it was let in, and then had something to say
            return refused

        return work

    for uid in (0, VAULT, PROXY, CONTROL, NOBODY):
        expected = {method for method, (_, allowed) in CALLS.items() if uid not in allowed}
        assert as_account(uid, try_all(uid)) == expected, uid


def test_a_broken_secret_takes_nothing_else_down(place: Installation) -> None:
    place.start()
    granted: list[Granted] = place.call(CONTROL, "grant", GrantAsk(JOB, "ci"), list[Granted])
    assert {g.secret: bool(g.text) for g in granted} == {"github": True, "gitlab": True, "broken": False, "given": True}
    status: VaultStatus = place.call(CONTROL, "status", result=VaultStatus)
    assert {name: state for name, state in status.secrets.items() if name != "broken"} == {
        "github": "ok",
        "gitlab": "ok",
        "given": "ok",
    }
    assert "command /bin/sh: it failed with exit code 7" in status.secrets["broken"]


def test_what_a_crash_leaves_is_neither_lost_nor_doubled(place: Installation) -> None:
    """SIGKILL while a placeholder of 50 uses is used as fast as it goes, again and again."""
    place.start()
    place.call(CONTROL, "grant", GrantAsk(JOB, "ci"), list[Granted])
    text: str = place.call(CONTROL, "mint", MintAsk(JOB, SecretName("github"), None, 50, Narrowing()), str)
    digest = hashlib.sha256(text.encode()).digest()
    token = place.call(PROXY, "identify", KEY, Identity).token

    async def use_up() -> tuple[int, str]:
        """Uses it as fast as it goes until it is used up or the vault is gone; tells when the first use is granted."""
        client = IpcClient("vault", place.places.vault_socket, VAULT)
        granted, last = 0, ""

        async def one() -> None:
            nonlocal granted, last
            while not last:
                try:
                    await client.call("use", UseAsk(token, digest, DestinationName("github"), HOST, "GET", "/"))
                    granted += 1
                    os.write(telling, b"x")
                except Denied as denied:
                    last = denied.rule
                except CoatcheckError:
                    last = "gone"

        await asyncio.gather(*(one() for _ in range(_AT_ONCE)))
        return granted, last

    total, crashes, last = 0, 0, ""
    while last != "placeholder-used-up":
        heard, telling = os.pipe()
        killer = threading.Thread(target=place.end_when_told, args=(heard,))
        if crashes < _CRASHES:
            killer.start()
        granted, last = as_account(PROXY, use_up)
        total += granted
        if crashes < _CRASHES:
            os.write(telling, b"x")  # in case that none was granted any more
            killer.join()
            crashes += 1
            place.start()
        os.close(heard)
        os.close(telling)
    assert total <= 50
    assert total >= 50 - crashes * _AT_ONCE  # what was under way at a crash may be lost


def test_no_secret_and_no_placeholder_is_written_anywhere(place: Installation) -> None:
    place.start()
    granted: list[Granted] = place.call(CONTROL, "grant", GrantAsk(JOB, "ci"), list[Granted])
    token = place.call(PROXY, "identify", KEY, Identity).token
    lease: Lease = place.call(PROXY, "lease", LeaseAsk(token, DestinationName("github"), HOST, 443), Lease)
    assert [secret.value for secret in lease.secrets] == [CANARY.encode()]
    minted = place.call(CONTROL, "mint", MintAsk(JOB, SecretName("github"), None, 1, Narrowing()), str)
    for params in (b"\xff" * 10, {"token": CANARY}, [CANARY]):
        for method in CALLS:
            with pytest.raises(AssertionError):  # whatever is wrong, in the child
                place.call(PROXY, method, params, int)
    assert place.end(signal.SIGTERM) == 0
    place.start()
    place.end(signal.SIGKILL)
    written = everything_below(place.places.state) + everything_below(place.places.run) + place.log.read_bytes()
    assert b"vault.secret" in written  # the broken one was told of
    for text in (CANARY, FILE_CANARY, minted, *(g.text for g in granted if g.text)):
        assert text.encode() not in written
        assert text[4:20].encode() not in written


def test_files_of_others_stop_the_start_with_a_reason(place: Installation) -> None:
    place.start()
    place.end(signal.SIGTERM)
    os.chown(place.places.vault_state / "ca.pem", PROXY, PROXY)
    os.chmod(place.places.vault_state / "ca.pem", 0o644)
    with pytest.raises(AssertionError, match="others may have read"):
        place.start()
    assert "Traceback" not in place.log.read_text()


def test_a_state_folder_of_another_account_is_not_taken_over(place: Installation) -> None:
    place.places.vault_state.mkdir(parents=True)
    with pytest.raises(AssertionError, match=f"belongs to uid 0, but the vault runs as uid {VAULT}"):
        place.start()


def test_a_running_command_ends_with_the_vault(place: Installation) -> None:
    pid_file = place.base / "pid"
    pid_file.touch()
    os.chown(pid_file, VAULT, VAULT)
    text = place.config_file.read_text()
    place.config_file.write_text(text.replace("exit 7", f"echo $$ > {pid_file}; exec sleep 1000"))
    place.start()
    while not pid_file.read_text():
        time.sleep(0.01)
    pid = int(pid_file.read_text())
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert CANARY.encode() not in environment
    assert place.end(signal.SIGTERM) == 0
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
