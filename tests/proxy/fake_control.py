"""Control as a recorder sees it: named pipes, and somebody who reads them, or does not, or goes away."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec

from appliance.ipc.record_pipe import batches_of
from appliance.model.errors import EnvironmentFailed


class FakeControl:
    """To be made within a loop. `batches`: what came, decoded, of all pipes. `gate`: answers wait for it. `broken`: no
    pipe is given. `room`: bytes that a new pipe holds."""

    def __init__(self, folder: Path, *, room: int = 1 << 20) -> None:
        self.folder = folder
        self.room = room
        self.batches: list[list[Any]] = []
        self.frames: list[bytes] = []  # the same, as they came
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.asked = 0
        self.paths: list[Path] = []
        self.ended: list[Path] = []  # that the worker has closed
        self._reading: dict[int, Path] = {}
        self._came: dict[Path, bytes] = {}
        self._stalled = False

    async def call(self, method: str, params: Any = None, *, result: Any = None) -> Any:
        assert (method, params, result) == ("records", None, str)
        self.asked += 1
        await self.gate.wait()
        if self.broken:
            raise EnvironmentFailed("audit", "the disk is full")
        path = self.folder / f"pipe-{len(self.paths)}"
        os.mkfifo(path)
        self.paths.append(path)
        self.open(path)
        return str(path)

    def open(self, path: Path) -> None:
        """Goes on with a pipe that was made before, as a control that is back does."""
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, self.room)
        self._reading[reading] = path
        if not self._stalled:
            asyncio.get_running_loop().add_reader(reading, self._read, reading)

    def stall(self) -> None:
        """Reads nothing until `go_on`."""
        self._stalled = True
        for reading in self._reading:
            asyncio.get_running_loop().remove_reader(reading)

    def go_on(self) -> None:
        self._stalled = False
        for reading in self._reading:
            asyncio.get_running_loop().add_reader(reading, self._read, reading)

    def leave(self) -> None:
        """What is in the pipes is not read: it is as if control were killed."""
        self.stall()
        self._stalled = False
        for reading in self._reading:
            os.close(reading)
        self._reading = {}

    @property
    def records(self) -> list[Any]:
        return [record for batch in self.batches for record in batch]

    @property
    def flows(self) -> list[str]:
        return [record["flow"] for record in self.records]

    def _read(self, reading: int) -> None:
        path = self._reading[reading]
        data = os.read(reading, 1 << 20)
        if not data:
            asyncio.get_running_loop().remove_reader(reading)
            os.close(reading)
            del self._reading[reading]
            self.ended.append(path)
            return
        came = self._came.get(path, b"") + data
        frames, size = batches_of(came)
        self._came[path] = came[size:]
        self.frames += frames
        self.batches += [msgspec.msgpack.decode(frame) for frame in frames]
