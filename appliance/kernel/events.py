"""What happened to jobs, numbered, for a reader that asks again and again (long poll)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Literal

from appliance.ipc.messages import EventBatch, JobEvent, JobInfo

_KEPT = 4096
POLL = 20.0  # seconds that a reader waits at most


class Events:
    """Numbers grow for as long as the machine runs, also over our restarts: they start at the time since boot."""

    def __init__(self) -> None:
        self._last = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        self._kept: deque[JobEvent] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()

    def put(self, kind: Literal["appeared", "emptied", "gone"], job: JobInfo) -> None:
        self._last += 1
        self._kept.append(JobEvent(self._last, kind, job))
        self._news.set()
        self._news = asyncio.Event()

    async def after(self, number: int) -> EventBatch:
        """The events after `number`; waits up to POLL seconds for the first. A reader that was away for more than
        the last 4096 compares with `jobs`."""
        end = time.monotonic() + POLL
        while True:
            news = self._news
            found = tuple(event for event in self._kept if event.number > number)
            left = end - time.monotonic()
            if found or left <= 0:
                return EventBatch(self._last, found)
            try:
                async with asyncio.timeout(left):
                    await news.wait()
            except TimeoutError:
                pass  # then the batch is empty
