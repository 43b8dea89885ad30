"""Control's end of the workers' pipes and a worker's, as they are but without the rest of either process.

As a program, to be killed: `handing_over control FOLDER [WHEN N]` says `ready` and serves until SIGTERM; with WHEN it
kills itself at its N-th write to the log, `before` it or `after` it. `handing_over worker FOLDER FIRST` hands over
records from number FIRST on, and says the number of each one that it was told is handed over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from appliance.audit import intake
from appliance.audit.log import files_of, open_log
from appliance.audit.pipes import RecordPipes
from appliance.audit.verify import verify_files
from appliance.ipc.client import IpcClient
from appliance.ipc.server import IpcServer
from appliance.model.errors import PeerError
from appliance.model.ids import FlowId
from appliance.model.record import FlowClosed
from appliance.proxy.recorder import Recorder
from tests.world.world import REPOSITORY

_WRITERS = 5  # that each wait for their record, as flows do


def record(number: int, end: str = "eof") -> FlowClosed:
    return FlowClosed(1.0, FlowId("f"), number, 0, 0, end)


class Taking:
    """To be made within a loop. `before` and `after` are called around each write to the log, and may raise."""

    def __init__(self, folder: Path, *, segment_bytes: int = 1 << 20) -> None:
        self.folder = folder / "records"
        if not self.folder.exists():
            self.folder.mkdir()
            self.folder.chmod(0o2710)
        self.log = open_log(folder / "audit.jsonl", None, segment_bytes=segment_bytes)
        self.troubles: list[str] = []
        self.wanted: list[int] = []  # room, each time
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None
        self.no_room: Exception | None = None
        self.pipes = RecordPipes(self.folder, self._write, self._reserve, self.troubles.append)

    def _write(self, batches: list[bytes]) -> None:
        payloads: list[bytes] = []
        for batch in batches:
            try:
                payloads += intake.read(batch)[1]
            except PeerError as error:
                self.troubles.append(str(error))
        self.before()
        self.log.append(payloads)
        self.after()

    def _reserve(self, room: int) -> None:
        self.wanted.append(room)
        if self.no_room is not None:
            raise self.no_room
        self.log.reserve(room)

    def close(self) -> None:
        self.pipes.stop()
        self.log.close()


def numbers(folder: Path) -> list[int]:
    """Of all records in the log; its chain is whole."""
    files = files_of(folder / "audit.jsonl")
    report = verify_files(files, None)
    assert report.ok, report.findings
    lines = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    return [line["record"]["sent"] for line in lines]


# ---- the programs ----


@contextmanager
def program(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.audit.handing_over", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def control(folder: Path, when: str, count: int) -> None:
    taking = Taking(folder, segment_bytes=50_000)
    writes = 0

    def die(at: str) -> None:
        nonlocal writes
        writes += at == when
        if at == when and writes == count:
            os.kill(os.getpid(), signal.SIGKILL)

    taking.before, taking.after = lambda: die("before"), lambda: die("after")
    async with serving(taking, folder):
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print("ready", flush=True)
        await stop.wait()


class serving:
    """`records` of control.sock."""

    def __init__(self, taking: Taking, folder: Path) -> None:
        self._taking = taking
        self._path = str(folder / "control.sock")
        self._server = IpcServer(lambda method, error: print(f"{method}: {error!r}", file=sys.stderr))

    async def __aenter__(self) -> None:
        async def records(_peer: object, _params: None) -> str:
            return self._taking.pipes.open()

        self._taking.pipes.start()
        self._server.method("records", None, records, frozenset({os.geteuid()}))
        await self._server.start(self._path)

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()
        self._taking.close()


class Worker:
    """To be made within a loop. `told`: the numbers of what is handed over."""

    def __init__(self, folder: Path, first: int, told: Callable[[int], Any]) -> None:
        self._client = IpcClient("control", str(folder / "control.sock"), os.geteuid())
        self.recorder = Recorder(self._client)
        self._told = told
        self._next = first
        self._stop = False
        self.refused = 0
        self._writers = [asyncio.create_task(self._work()) for _ in range(_WRITERS)]

    async def _work(self) -> None:
        while not self._stop:
            number, self._next = self._next, self._next + 1
            end = "x" * (number * 7919 % 30_000) if number % 10 == 0 else "eof"  # every tenth over what is atomic
            if await self.recorder.write(record(number, end)):
                self._told(number)
            else:
                self.refused += 1
                await asyncio.sleep(0.01)  # nothing to be seen while control is away, at full speed

    async def end(self) -> None:
        self._stop = True
        for writer in self._writers:
            await writer
        await self.recorder.drain()

    async def close(self) -> None:
        self.recorder.close()
        await self._client.close()


async def worker(folder: Path, first: int) -> None:
    Worker(folder, first, lambda number: os.write(1, b"%d\n" % number))
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "control":
        uvloop.run(control(Path(sys.argv[2]), *((sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else ("", 0))))
    else:
        uvloop.run(worker(Path(sys.argv[2]), int(sys.argv[3])))
