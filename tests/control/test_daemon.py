"""The process itself: gives its rights up, serves, stops cleanly, and does not start where it must not."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import uvloop

from appliance.audit.log import files_of
from appliance.audit.verify import verify_files
from appliance.config.places import Places
from appliance.config.schema import Config
from appliance.ipc.server import peer_of
from tests.control.caller import exchange, reply_of, request_of
from tests.control.fakes import FakeKernel

ROOT = Path(__file__).parents[2]
VAULT, PROXY, CONTROL = 61001, 61002, 61003
RUN = (
    "import sys\n"
    "from appliance.config.schema import Config\n"
    "from appliance.daemon import control\n"
    "from appliance.model.errors import CoatcheckError\n"
    "try: control.run(Config.model_validate_json(sys.argv[1]), lambda: print('ready', flush=True))\n"
    "except CoatcheckError as error: sys.exit(f'{type(error).__name__}: {error}')\n"
)


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: the daemon starts as root and gives its rights up")


def configured(folder: Path, **more: object) -> Config:
    shutil.copytree(ROOT / "policies", folder / "policies", dirs_exist_ok=True)
    return Config.model_validate(
        {
            "state_dir": str(folder / "state"),
            "run_dir": str(folder / "run"),
            "policy_dir": str(folder / "policies"),
            "processes": {"vault": VAULT, "proxy": PROXY, "control": CONTROL, "group": 61004},
            **more,
        }
    )


class Neighbours:
    """FakeKernel here, FakeVault in a process with the vault's uid."""

    def __init__(self, config: Config) -> None:
        self._places = Places(config)
        self._kernel = FakeKernel(frozenset({CONTROL}))
        self._vault: subprocess.Popen[str] | None = None

    async def __aenter__(self) -> None:
        for path, uid in ((self._places.kernel_socket, 0), (self._places.vault_socket, VAULT)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            os.chown(Path(path).parent, uid, uid)
        await self._kernel.start(Path(self._places.kernel_socket))
        self._vault = subprocess.Popen(
            [sys.executable, "-m", "tests.control.fake_vault", self._places.vault_socket, str(VAULT), str(CONTROL)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self._vault.stdout is not None
        assert self._vault.stdout.readline() == "ready\n"

    async def __aexit__(self, *_: object) -> None:
        assert self._vault is not None
        self._vault.communicate("")
        await self._kernel.stop()


async def start(config: Config) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, config.model_dump_json(by_alias=True),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip


async def ready(daemon: asyncio.subprocess.Process) -> None:
    assert daemon.stdout is not None
    assert daemon.stderr is not None
    line = await daemon.stdout.readline()
    assert line == b"ready\n", (await daemon.stderr.read()).decode()


async def stop(daemon: asyncio.subprocess.Process) -> str:
    daemon.send_signal(signal.SIGTERM)
    _, errors = await daemon.communicate()
    assert daemon.returncode == 0, errors.decode()
    return errors.decode()


async def get(sock: str, path: str) -> object:
    raw = await asyncio.get_running_loop().run_in_executor(None, exchange, sock, request_of("GET", path, b""))
    return reply_of(raw).json


def test_control_serves_without_any_right_and_stops_cleanly(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = configured(tmp_path, metrics={"listen": f"127.0.0.1:{port}"})
    places = Places(config)

    async def main() -> None:
        async with Neighbours(config):
            daemon = await start(config)
            await ready(daemon)
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert status["Uid"].split() == [str(CONTROL)] * 4
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
                assert int(status[kind], 16) == 0, kind
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(places.admin_socket)
                assert peer_of(sock).uid == CONTROL  # clients can tell that it is us
            seen = await get(places.admin_socket, "/status")
            assert isinstance(seen, dict)
            assert (seen["kernel"]["ok"], seen["vault"]["ok"], seen["policy"]["ok"], seen["audit"]["ok"]) == (True,) * 4
            assert seen["proxy"]["ok"] is False

            def scrape() -> bytes:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
                    text: bytes = answer.read()
                    return text

            assert b"coatcheck_audit_sequence" in await asyncio.get_running_loop().run_in_executor(None, scrape)
            await stop(daemon)

    uvloop.run(main())
    log = places.audit_log
    assert log.stat().st_uid == CONTROL
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700
    report = verify_files(files_of(log), None)
    assert report.ok
    assert report.checkpoints >= 1  # the last thing that it did
    records = [json.loads(line).get("record", {}) for line in log.read_bytes().splitlines()]
    said = [(record.get("event") or record.get("type")) for record in records if record]
    assert said == ["started", "policy.changed", "stopped"]


def test_it_starts_again_after_sigkill_and_not_after_a_roll_back(tmp_path: Path) -> None:
    config = configured(tmp_path, audit={"checkpoint_interval": 0.05})
    log = Places(config).audit_log

    async def main() -> None:
        async with Neighbours(config):
            daemon = await start(config)
            await ready(daemon)
            early = log.read_bytes()
            while b'"head"' not in log.read_bytes():
                await asyncio.sleep(0.01)
            daemon.kill()
            await daemon.communicate()
            with open(log, "ab") as file:
                file.write(b'{"seq":99,"pr')  # as a crash in the middle of a write leaves it
            daemon = await start(config)
            await ready(daemon)
            await stop(daemon)
            assert b"cut off 13 bytes" in log.read_bytes()
            whole = log.read_bytes()
            log.write_bytes(early)
            daemon = await start(config)
            _, errors = await daemon.communicate()
            assert daemon.returncode != 0
            assert b"the vault has signed sequence" in errors
            log.write_bytes(whole)
            daemon = await start(config)
            await ready(daemon)
            await stop(daemon)

    uvloop.run(main())
    assert verify_files(files_of(log), None).ok


def test_it_does_not_start_without_a_policy_that_is_whole(tmp_path: Path) -> None:
    config = configured(tmp_path)
    (tmp_path / "policies" / "coatcheck.rego").write_text("package coatcheck\nplan := {")

    async def main() -> None:
        async with Neighbours(config):
            daemon = await start(config)
            _, errors = await daemon.communicate()
            assert daemon.returncode != 0
            assert b"coatcheck.rego" in errors

    uvloop.run(main())
