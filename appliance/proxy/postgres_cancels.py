"""CancelRequest (PostgreSQL documentation 55.2.8): from the key that an agent holds to the session that it stands for.

An agent never sees the server's key: with it, it could cancel from where nobody looks. Ours works for the job's own
sessions only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from appliance.model.ids import JobId


class Cancel:
    """The right to cancel one session. `pid`: the server's own, which clients compare with what the server says of
    itself; `size`: bytes of the key: 4 in protocol 3.0, up to 256 from 3.2 on."""

    __slots__ = ("job", "key", "pid", "stop")

    def __init__(self, job: JobId, pid: int, size: int, stop: Callable[[], None]) -> None:
        self.job = job
        self.pid = pid
        self.key = os.urandom(size)
        self.stop = stop


class Cancels:
    """Of one worker."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes], Cancel] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, cancel: Cancel) -> None:
        self._known[cancel.pid, cancel.key] = cancel

    def forget(self, cancel: Cancel) -> None:
        self._known.pop((cancel.pid, cancel.key), None)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Until it is done: the loop holds tasks weakly."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def request(self, job: JobId, pid: int, key: bytes) -> bool:
        """Stops the session, if it is `job`'s. Whether there is such a session in this worker."""
        known = self._known.get((pid, key))
        if known is not None and known.job == job:
            known.stop()
        return known is not None
