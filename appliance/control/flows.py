"""The live table of flows, built from the records that go by. Bounded: the oldest give way.

It is a view and proves nothing: the audit log does. A worker that was killed never says that its flows ended; they
go when their job ends or the table is full.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from appliance.control.flow_views import FlowEvent, FlowView
from appliance.model.record import (
    FlowClosed,
    FlowOpened,
    JobEnded,
    OperationDecided,
    OperationEnded,
    Record,
    Refused,
    SessionStarted,
    StatementDecided,
    StatementEnded,
)

MOST_OPEN = 50_000
MOST_CLOSED = 1_000
_MOST_FOLLOWERS = 32
_MOST_QUEUED = 5_000  # events of one follower
_MOST_SHOWN = 200  # characters of a path or statement


class Follower:
    """The events since `follow`, as encoded lines."""

    __slots__ = ("_lines", "_lost", "_more")

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._more = asyncio.Event()

    def put(self, event: FlowEvent) -> None:
        if len(self._lines) >= _MOST_QUEUED:
            self._lost += 1
            return
        if self._lost:
            event = msgspec.structs.replace(event, lost=self._lost)
            self._lost = 0
        self._lines.append(_encode(event) + b"\n")
        self._more.set()

    async def lines(self) -> bytes:
        """The next lines together; waits for the first."""
        await self._more.wait()
        self._more.clear()
        lines = b"".join(self._lines)
        self._lines.clear()
        return lines


_encode = msgspec.json.Encoder(enc_hook=str).encode


class Flows:
    def __init__(self) -> None:
        self._open: OrderedDict[str, FlowView] = OrderedDict()
        self._closed: deque[FlowView] = deque(maxlen=MOST_CLOSED)
        self._followers: set[Follower] = set()
        self._take: dict[type[Record], Callable[[Any], None]] = {
            FlowOpened: self._opened,
            FlowClosed: self._ended,
            OperationDecided: self._decided,
            OperationEnded: self._answered,
            SessionStarted: self._logged_in,
            StatementDecided: self._judged,
            StatementEnded: self._answered,
            JobEnded: self._job_ended,
            Refused: self._refused,
        }

    def observe(self, records: Iterable[Record]) -> None:
        """Takes records that were written."""
        take = self._take
        for record in records:
            step = take.get(type(record))
            if step is not None:
                step(record)

    def open_flows(self) -> list[FlowView]:
        return list(self._open.values())

    def closed_flows(self) -> list[FlowView]:
        """The last ones that ended, oldest first."""
        return list(self._closed)

    def follow(self) -> Follower | None:
        """A follower that has got all open flows; None if there are too many already. Give it to `unfollow`."""
        if len(self._followers) >= _MOST_FOLLOWERS:
            return None
        follower = Follower()
        for view in self._open.values():
            follower.put(FlowEvent("open", view))
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: Follower) -> None:
        self._followers.discard(follower)

    def _tell(
        self,
        event: Literal["opened", "session", "operation", "answered", "closed", "refused"],
        view: FlowView | None,
        record: Record,
    ) -> None:
        for follower in self._followers:
            follower.put(FlowEvent(event, view, record))

    def _opened(self, record: FlowOpened) -> None:
        view = FlowView(
            flow=record.flow,
            job=record.job,
            principal=record.principal,
            pid=record.pid,
            uid=record.uid,
            exe=record.exe,
            host=record.host,
            address=record.address,
            port=record.port,
            protocol=record.protocol,
            decision=record.decision,
            rule=record.rule,
            reason=record.reason,
            opened=record.time,
        )
        if len(self._open) >= MOST_OPEN:
            self._open.popitem(last=False)
        self._open[record.flow] = view
        if self._followers:
            self._tell("opened", view, record)

    def _ended(self, record: FlowClosed) -> None:
        view = self._open.pop(record.flow, None)
        if view is None:
            return
        view.closed = record.time
        view.end = record.end
        view.sent = record.sent
        view.received = record.received
        self._closed.append(view)
        if self._followers:
            self._tell("closed", view, record)

    def _decided(self, record: OperationDecided) -> None:
        view = self._open.get(record.flow)
        if view is None:
            return
        view.swapped += len(record.swapped)
        self._operation(view, record, f"{record.method} {record.host}{record.path[:_MOST_SHOWN]}")

    def _judged(self, record: StatementDecided) -> None:
        view = self._open.get(record.flow)
        if view is not None:
            self._operation(view, record, record.statement[:_MOST_SHOWN])

    def _operation(self, view: FlowView, record: OperationDecided | StatementDecided, what: str) -> None:
        if record.decision != "hold":  # what it comes to is a record of its own
            view.operations += 1
            view.denied += record.decision != "allow"
        view.last = what
        if self._followers:
            self._tell("operation", view, record)

    def _logged_in(self, record: SessionStarted) -> None:
        view = self._open.get(record.flow)
        if view is None:
            return
        view.swapped += len(record.swapped)
        if self._followers:
            self._tell("session", view, record)

    def _answered(self, record: OperationEnded | StatementEnded) -> None:
        view = self._open.get(record.flow)
        if view is not None and self._followers:
            self._tell("answered", view, record)

    def _refused(self, record: Refused) -> None:
        if self._followers:
            self._tell("refused", None, record)

    def _job_ended(self, record: JobEnded) -> None:
        for flow in [flow for flow, view in self._open.items() if view.job == record.job]:
            self._ended(FlowClosed(record.time, self._open[flow].flow, 0, 0, 0, "job ended"))  # type: ignore[arg-type]
