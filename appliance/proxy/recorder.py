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
from typing import Any, Final, Protocol

import msgspec
import structlog

from appliance.ipc.frame import MAX_FRAME
from appliance.model.errors import CoatcheckError, EnvironmentFailed
from appliance.model.record import Record

_MOST_RECORDS = 2000  # in one message
_LARGEST = MAX_FRAME // 2  # bytes of one message; a single record is never larger
_LATEST = 0.05  # seconds that a record without a callback waits for one that has one
_MOST_WAITING = 50000  # records; over that, what waits for no answer is refused by `put` answering False
_PATIENCE: Final = 10.0  # seconds for control to write a message

log = structlog.get_logger()

Done = Callable[[bool], None]
_encode = msgspec.msgpack.Encoder().encode


class Control(Protocol):
    """`appliance.ipc.client.IpcClient`, as far as a recorder needs it."""

    async def call(self, method: str, params: Any = None) -> Any: ...

    def post(self, method: str, params: msgspec.Raw, done: Callable[[CoatcheckError | None], None]) -> int: ...

    def forget(self, number: int) -> None: ...


class Recorder:
    """To be made within a loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._records: list[Record | msgspec.Raw] = []
        self._done: list[Done | None] = []
        self._sent: list[Done | None] = []  # of the message that is under way
        self._under_way = False
        self._due = False  # to be sent in the next turn
        self._post = 0  # the number that control's client gave it
        self._deadline = 0.0  # on the loop's clock
        self._calling: asyncio.Task[None] | None = None  # control, which is not connected
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._awaited = False  # what waits must go with the next message at once
        self._drained: list[asyncio.Future[None]] = []
        self.lost = 0  # records without a callback that control did not take

    @property
    def waiting(self) -> int:
        return len(self._records)

    def put(self, record: Record | msgspec.Raw, done: Done | None = None) -> None:
        """Queues `record`, or its MessagePack; `done(written)` is called later, never from within this call."""
        if len(self._records) >= _MOST_WAITING:
            if done is not None:
                self._loop.call_soon(done, False)
            else:
                self.lost += 1
            return
        self._records.append(record)
        self._done.append(done)
        if done is not None:
            self._start()
        elif self._timer is None:  # it is not stopped when the record goes earlier: a timer for each costs more
            self._timer = self._loop.call_later(_LATEST, self._late)

    async def write(self, record: Record) -> bool:
        """`put` for a coroutine: True once written."""
        written: asyncio.Future[bool] = self._loop.create_future()
        self.put(record, lambda ok: None if written.done() else written.set_result(ok))
        return await written

    async def drain(self) -> None:
        """Returns once all that was put is written or refused."""
        while self._records or self._under_way:
            self._start()
            drained: asyncio.Future[None] = self._loop.create_future()
            self._drained.append(drained)
            await drained

    def _late(self) -> None:
        self._timer = None
        if self._records:
            self._start()

    def _start(self) -> None:
        self._awaited = True
        if not self._under_way and not self._due:
            self._due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._due = False
        if self._under_way or not self._records:
            return
        batch, many = self._batch()
        self._sent, self._done = self._done[:many], self._done[many:]
        self._records = self._records[many:]
        self._awaited = bool(self._records)
        self._under_way = True
        self._post = self._control.post("append", batch, self._answered)
        if not self._post:
            self._calling = self._loop.create_task(self._call(batch))
            return
        self._deadline = self._loop.time() + _PATIENCE
        if self._watch is None:  # one for many messages
            self._watch = self._loop.call_later(_PATIENCE, self._look)

    async def _call(self, batch: msgspec.Raw) -> None:
        error: CoatcheckError | None = None
        try:
            await self._control.call("append", batch)
        except CoatcheckError as failed:
            error = failed
        self._calling = None
        self._answered(error)

    def _look(self) -> None:
        """Whether control has taken too long."""
        self._watch = None
        if not self._under_way or not self._post:
            return
        left = self._deadline - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._control.forget(self._post)
            self._answered(EnvironmentFailed("control-slow", "the control process did not answer in time"))

    def _answered(self, error: CoatcheckError | None) -> None:
        written = error is None
        sent, self._sent = self._sent, []
        self._under_way = False
        for done in sent:
            if done is not None:
                _tell(done, written)
            elif not written:
                self.lost += 1
        if self._awaited:
            self._start()
        elif self._records and self._timer is None:
            self._timer = self._loop.call_later(_LATEST, self._late)
        if self._drained:
            drained, self._drained = self._drained, []
            for each in drained:
                if not each.done():
                    each.set_result(None)

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
