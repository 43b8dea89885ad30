"""Appends for all callers: a batch is one write, and whoever asked knows at once.

A batch is large where it matters: a worker gathers what comes while its last one is under way. This one sees to it that
what was written becomes durable (fsync, at most `SYNC_DELAY` later) and that the vault
signs the chain's head every so many records or seconds. A head is signed only once all it covers is on the
disk, so a crash never takes away a signed line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from appliance.audit.chain import Tip, head_of
from appliance.audit.intake import payload_of
from appliance.audit.log import AuditLog
from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import CoatcheckError, Denied
from appliance.model.record import Record

SYNC_DELAY = 1.0  # seconds from a write to its fsync, at most

Sign = Callable[[Head], Awaitable[SignedHead]]


class Committer:
    """Owns the log. `clock` gives seconds since the epoch; `trouble` is told, once for each kind of it, what is
    wrong with checkpoints in words for the log (a failed append is its caller's to tell)."""

    def __init__(
        self,
        log: AuditLog,
        sign: Sign,
        clock: Callable[[], float],
        *,
        checkpoint_records: int,
        checkpoint_interval: float,
        trouble: Callable[[str], None],
    ) -> None:
        self._log = log
        self._sign = sign
        self._clock = clock
        self._every = checkpoint_records
        self._interval = checkpoint_interval
        self._trouble = trouble
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._syncs: set[asyncio.Future[None]] = set()
        self.unsigned = 0  # records that no signed head covers yet
        self.signed_through = 0
        self.oldest_unsigned = 0.0  # when the first of them was written; 0.0 if there is none
        self.failed = 0  # batches that could not be written

    @property
    def log(self) -> AuditLog:
        return self._log

    def start(self, last_head: SignedHead | None) -> None:
        """Begins checkpoints in the running loop. `last_head`: what the vault signed last."""
        self.signed_through = last_head.head.sequence if last_head is not None else 0
        self.unsigned = max(0, self._log.tip.sequence - self.signed_through)
        if self.unsigned:
            self.oldest_unsigned = self._clock()
        self._task = asyncio.get_running_loop().create_task(self._checkpoints())

    def append(self, payloads: list[bytes]) -> int:
        """Writes all, in order and side by side, and returns the sequence of the last of them.

        Raises EnvironmentFailed("audit") if none is written.
        """
        if not payloads:
            return self._log.tip.sequence
        try:
            last = self._log.append(payloads).sequence
        except CoatcheckError:
            self.failed += 1
            raise
        if not self.unsigned:
            self.oldest_unsigned = self._clock()
        self.unsigned += len(payloads)
        if self.unsigned >= self._every:
            self._due.set()
        if self._sync_timer is None:
            self._sync_timer = asyncio.get_running_loop().call_later(SYNC_DELAY, self._sync_soon)
        return last

    def reserve(self, room: int) -> None:
        """`AuditLog.reserve`."""
        self._log.reserve(room)

    def record(self, record: Record) -> int:
        """`append` of one record of our own."""
        return self.append([payload_of(record)])

    async def stop(self) -> None:
        """A last checkpoint, if the vault can be had; then the log is durable and closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._checkpoint()
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        if self._syncs:
            await asyncio.wait(self._syncs)
        try:
            self._log.sync()
        except CoatcheckError as error:
            self._trouble(str(error))
        self._log.close()

    def _sync_soon(self) -> None:
        self._sync_timer = None
        sync = asyncio.ensure_future(self._sync())
        self._syncs.add(sync)
        sync.add_done_callback(self._syncs.discard)

    async def _sync(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._log.sync)
        except CoatcheckError as error:
            self._trouble(str(error))

    async def _checkpoints(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._interval):  # wait_for may lose `stop`'s cancellation (CPython 3.11)
                    await self._due.wait()
            except TimeoutError:
                pass
            good = await self._checkpoint()
            if self.unsigned < self._every:  # what came while the vault signed waits for its own turn
                self._due.clear()
            if not good:
                await asyncio.sleep(min(1.0, self._interval))  # the vault is away: not a busy loop

    async def _checkpoint(self) -> bool:
        """Has the head signed and written. False if that failed; it is tried again with the next."""
        if not self.unsigned or self._log.broken:
            return True
        tip: Tip = self._log.tip
        unsigned = self.unsigned
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._log.sync)
            signed = await self._sign(head_of(tip, self._clock()))
            self._log.checkpoint(signed)
        except Denied as error:
            # the vault has signed something else at this place: the log or the vault's memory was rolled back
            self._log.break_off(f"the vault refuses to sign the audit log's head: {error.reason}")
            self._trouble(self._log.broken)
            return False
        except CoatcheckError as error:
            self._trouble(f"the audit log's head could not be signed or written: {error}")
            return False
        self.signed_through = tip.sequence
        self.unsigned -= unsigned
        self.oldest_unsigned = self._clock() if self.unsigned else 0.0
        return True
