"""Sends audit records to control in batches, and tells the flow once its record is written.

What must be on the record before it happens is given with a callback: it runs with True once control has
written it, with False if it could not; the operation then does not happen. What has already happened
(an end, a count) is given without one.

All that one turn of the loop brings goes in one message, and one message is under way at a time: under load
the batches grow, and the cost of a message is shared. What nobody waits for goes with the next message, or after
`_LATEST` at the latest: a worker that is killed takes that much of its ends along, never a decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from appliance.ipc.client import IpcClient
from appliance.ipc.frame import MAX_FRAME
from appliance.model.errors import CoatcheckError
from appliance.model.record import Record

_MOST_RECORDS = 2000  # in one message
_LARGEST = MAX_FRAME // 2  # bytes of one message; a single record is never larger
_LATEST = 0.05  # seconds that a record without a callback waits for one that has one
_MOST_WAITING = 50000  # records; over that, what waits for no answer is refused by `put` answering False

log = structlog.get_logger()

Done = Callable[[bool], None]
_encode = msgspec.msgpack.Encoder().encode


class Recorder:
    def __init__(self, control: IpcClient) -> None:
        self._control = control
        self._records: list[Record] = []
        self._done: list[Done | None] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._awaited = False  # what waits must go with the next message at once
        self.lost = 0  # records without a callback that control did not take

    @property
    def waiting(self) -> int:
        return len(self._records)

    def put(self, record: Record, done: Done | None = None) -> None:
        """Queues `record`; `done(written)` is called later, never from within this call."""
        if len(self._records) >= _MOST_WAITING:
            if done is not None:
                asyncio.get_running_loop().call_soon(done, False)
            else:
                self.lost += 1
            return
        self._records.append(record)
        self._done.append(done)
        if self._task is None:
            if done is not None:
                self._start()
            else:
                self._later()
        elif done is not None:
            self._awaited = True

    async def write(self, record: Record) -> bool:
        """`put` for a coroutine: True once written."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.put(record, lambda ok: None if written.done() else written.set_result(ok))
        return await written

    async def drain(self) -> None:
        """Returns once all that was put is written or refused."""
        while self._records or self._task is not None:
            self._start()
            if self._task is not None:
                await asyncio.wait([self._task])

    def _later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATEST, self._start)

    def _start(self) -> None:
        self._awaited = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._awaited:
                batch, many = self._batch()
                waiting, self._done = self._done[:many], self._done[many:]
                self._records = self._records[many:]
                self._awaited = bool(self._records)
                try:
                    await self._control.call("append", batch)
                    written = True
                except CoatcheckError:
                    written = False
                for done in waiting:
                    if done is not None:
                        _tell(done, written)
                    elif not written:
                        self.lost += 1
        finally:
            self._task = None
            if self._records:
                self._later()

    def _batch(self) -> tuple[msgspec.Raw, int]:
        """The first of what waits as one message, and how many that are."""
        many = min(len(self._records), _MOST_RECORDS)
        batch = _encode(self._records[:many])
        while len(batch) > _LARGEST and many > 1:
            many = (many + 1) // 2
            batch = _encode(self._records[:many])
        return msgspec.Raw(batch), many


def _tell(done: Done, written: bool) -> None:
    try:
        done(written)
    except Exception:  # the seam: one flow's bug must not leave the others waiting
        log.error("recorder.bug", exc_info=True)
