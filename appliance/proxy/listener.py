"""Accepts governed connections, and keeps accepting when the host runs short of something."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

import structlog

from appliance.attest.seen import Address

log = structlog.get_logger()

_BATCH = 64  # connections taken in one turn of the loop
_PAUSE = 0.1  # seconds without accepting when descriptors or memory have run out
_TELL_EVERY = 10.0  # seconds between two lines of the log
_SHORT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_RESET = b"\x01\0\0\0\0\0\0\0"  # struct linger {1, 0}: close(2) sends RST

Serve = Callable[[socket.socket, Address, Address], Awaitable[None]]


class Listener:
    """Hands each connection of `sock` (bound, listening, perhaps shared with other workers) to `serve` in a task of
    its own; over `most` of them at once the next ones are cut off."""

    def __init__(self, sock: socket.socket, serve: Serve, most: int, too_many: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._serve = serve
        self._most = most
        self._too_many = too_many
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._told = float("-inf")  # loop time
        self.short = 0  # times that accept(2) failed for want of something

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def start(self) -> None:
        self._resume = None
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._ready)

    async def stop(self, grace: float) -> None:
        """Accepts no more; waits up to `grace` seconds for what is under way, then ends it."""
        if self._resume is not None:
            self._resume.cancel()
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        if self._tasks:
            _, waiting = await asyncio.wait(self._tasks, timeout=grace)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _ready(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_BATCH):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORT:
                    raise
                self.short += 1
                if loop.time() - self._told > _TELL_EVERY:
                    self._told = loop.time()
                    log.warning("listener.short", error=error.strerror, times=self.short)
                loop.remove_reader(self._sock.fileno())
                self._resume = loop.call_later(_PAUSE, self.start)
                return
            if len(self._tasks) >= self._most:
                self._too_many()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.close()
                continue
            sock.setblocking(False)
            task = loop.create_task(self._run(sock, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, sock: socket.socket, peer: Address) -> None:
        try:
            local = sock.getsockname()
        except OSError:
            sock.close()
            return
        await self._serve(sock, peer, local)
