"""Hands audit records over to control, and tells the flow once its record is handed over.

What must be on the record before it happens is given with a callback: it runs with True once the record is in the pipe
to control (appliance.ipc.record_pipe), from where nobody can take it back; with False if it could not be put there, and
the operation then does not happen. What has already happened (an end, a count) is given without one.

All that one turn of the loop brings is one write. What nobody waits for goes with the next, or after `_LATEST` at the
latest: a worker that is killed takes that much of its ends along, never a decision.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import structlog

from appliance.audit import intake
from appliance.ipc.record_pipe import MOST, frame_of
from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.model.record import Record

_MOST_RECORDS = 2000  # in one frame
_LARGEST = intake.MAX_RECORD // 8  # bytes of one frame that has several records: escaped, none of them is too large
_LATEST = 0.05  # seconds that a record without a callback waits for one that has one
_MOST_WAITING = 50000  # records; over that, what waits for no answer is refused by `put` answering False
_PATIENCE: Final = 10.0  # seconds for control to make room in the pipe

log = structlog.get_logger()

Done = Callable[[bool], None]
_encode = msgspec.msgpack.Encoder().encode


class Control(Protocol):
    """`appliance.ipc.client.IpcClient`, as far as a recorder needs it."""

    async def call(self, method: str, params: Any = None, *, result: Any = None) -> Any: ...


class Recorder:
    """To be made within a loop. Asks `control` for a pipe when it has none, or control has left its own."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._records: list[Record | msgspec.Raw] = []
        self._done: list[Done | None] = []
        self._pipe = -1
        self._old: list[int] = []  # pipes that control has left: open until it has taken what is in them
        self._rest = b""  # of a frame for which the pipe had no room
        self._sent: list[Done | None] = []  # of that frame
        self._due = False  # to be sent in the next turn
        self._asking: asyncio.Task[None] | None = None  # for a pipe
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._stuck = False  # there has been no room for too long
        self._drained: list[asyncio.Future[None]] = []
        self.lost = 0  # records without a callback that were not handed over

    @property
    def waiting(self) -> int:
        return len(self._records)

    def put(self, record: Record | msgspec.Raw, done: Done | None = None) -> None:
        """Queues `record`, or its MessagePack; `done(written)` is called later, never from within this call."""
        if self._stuck or len(self._records) >= _MOST_WAITING:
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
        """`put` for a coroutine: True once it is handed over."""
        written: asyncio.Future[bool] = self._loop.create_future()
        self.put(record, lambda ok: None if written.done() else written.set_result(ok))
        return await written

    async def drain(self) -> None:
        """Returns once all that was put is handed over or refused."""
        while self._records or (self._rest and not self._stuck):
            self._start()
            drained: asyncio.Future[None] = self._loop.create_future()
            self._drained.append(drained)
            await drained

    def close(self) -> None:
        """Nothing may be put any more."""
        if self._rest:
            self._no_rest()
        self._leave()
        for pipe in self._old:
            os.close(pipe)
        self._old = []

    def _late(self) -> None:
        self._timer = None
        if self._records:
            self._start()

    def _start(self) -> None:
        if not self._due and not self._rest and self._asking is None:
            self._due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._due = False
        while self._records and not self._rest:
            if self._pipe < 0:
                if self._asking is None:
                    self._asking = self._loop.create_task(self._ask())
                return
            frame, many = self._batch()
            self._sent, self._done = self._done[:many], self._done[many:]
            self._records = self._records[many:]
            if frame:
                self._write(frame)
            else:
                self._answer(False)
        if self._drained and not self._rest:
            self._tell_drained()

    def _write(self, frame: bytes) -> None:
        try:
            written = os.write(self._pipe, frame)
        except BlockingIOError:
            written = 0
        except OSError:  # EPIPE: control has left it
            self._leave()
            self._answer(False)
            return
        if written == len(frame):
            self._answer(True)
            return
        if not self._rest:
            self._loop.add_writer(self._pipe, self._go_on)
            self._watch = self._loop.call_later(_PATIENCE, self._give_up)
        self._rest = frame[written:]

    def _go_on(self) -> None:
        """There is room again."""
        rest = self._rest
        try:
            written = os.write(self._pipe, rest)
        except BlockingIOError:
            return
        except OSError:
            self._no_rest()
            self._leave()
            self._answer(False)
            self._send()
            return
        self._rest = rest[written:]
        if not self._rest:
            self._no_rest()
            self._answer(True)
            self._send()

    def _no_rest(self) -> None:
        self._rest = b""
        self._stuck = False
        self._loop.remove_writer(self._pipe)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _give_up(self) -> None:
        """Control has taken too long. The frame that is begun is brought to its end once there is room."""
        self._watch = None
        self._stuck = True
        self._answer(False)
        self._refuse_all()

    def _leave(self) -> None:
        if self._pipe >= 0:
            self._old.append(self._pipe)
            self._pipe = -1

    async def _ask(self) -> None:
        try:
            path = await self._control.call("records", result=str)
            self._pipe = _opened(path)
        except Exception as error:  # the seam: whatever it is, nothing may be left waiting for a pipe
            log.warning("recorder.pipe", error=str(error))
            self._asking = None
            self._refuse_all()
            return
        self._asking = None
        for pipe in self._old:  # before it answers control has taken what was in them, or has them open itself
            os.close(pipe)
        self._old = []
        self._send()

    def _refuse_all(self) -> None:
        self._records = []
        self._sent, self._done = self._done, []
        self._answer(False)
        self._tell_drained()

    def _answer(self, written: bool) -> None:
        sent, self._sent = self._sent, []
        for done in sent:
            if done is not None:
                _tell(done, written)
            elif not written:
                self.lost += 1

    def _tell_drained(self) -> None:
        drained, self._drained = self._drained, []
        for each in drained:
            if not each.done():
                each.set_result(None)

    def _encoded(self, many: int) -> bytes:
        """Nothing, if one of them cannot be written down."""
        try:
            return _encode(self._records[:many])
        except Exception:  # the seam: half a surrogate, say
            log.error("recorder.bug", exc_info=True)
            return b""

    def _batch(self) -> tuple[bytes, int]:
        """The first of what waits as one frame, and how many that are. No frame for a record that control would not
        take: the agent chooses how long it is, and must not get anything past the log so."""
        many = min(len(self._records), _MOST_RECORDS)
        batch = self._encoded(many)
        while (not batch or len(batch) > _LARGEST) and many > 1:
            many = (many + 1) // 2
            batch = self._encoded(many)
        if not batch:
            return b"", many
        if len(batch) > _LARGEST and not _is_taken(batch):
            return b"", many
        return frame_of(batch), many


def _opened(path: str) -> int:
    """Raises OSError; EnvironmentFailed if it is no pipe."""
    pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
        os.close(pipe)
        raise EnvironmentFailed("audit", f"{path} is no pipe")
    return pipe


def _is_taken(batch: bytes) -> bool:
    if len(batch) > MOST:
        return False
    try:
        intake.read(batch)
    except PeerError as error:
        log.warning("recorder.record", error=str(error))
        return False
    return True


def _tell(done: Done, written: bool) -> None:
    try:
        done(written)
    except Exception:  # the seam: one flow's bug must not leave the others waiting
        log.error("recorder.bug", exc_info=True)
