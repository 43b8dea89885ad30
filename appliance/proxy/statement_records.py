"""Audit records of one flow's statements, written down as MessagePack without making the record first.

A session sends the same few statements again and again: of their records only the time and the number differ. What is
written here is what msgspec would have written of the record, but for numbers of fixed width; control decodes it as it
does any other.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from appliance.model.errors import InternalError
from appliance.model.ids import FlowId
from appliance.model.record import StatementDecided, StatementEnded
from appliance.session.postgres_judge import Ruling
from appliance.session.postgres_steps import Ending

_encode = msgspec.msgpack.Encoder().encode
_MOST: Final = 256  # rulings whose records are kept
_TIME: Final = b"\xa4time\xcb"  # and eight bytes
_NUMBER: Final = b"\xa9operation\x00"  # 0, in one byte
_ROWS: Final = b"\xa4rows\xcf"  # and eight bytes
_BYTES: Final = b"\xa8received\xcf"
_DURATION: Final = b"\xabduration_ms\xcb"


def _around(record: bytes, flow: FlowId) -> tuple[bytes, bytes, bytes]:
    """A record begins with its type, time, flow and number, in this order: what stands before the time's eight bytes,
    between them and those of the number, and after that."""
    time = record.index(_TIME) + len(_TIME)
    number = time + 8 + len(_encode("flow")) + len(_encode(flow))
    after = number + len(_NUMBER)
    if record[number:after] != _NUMBER:
        raise InternalError("a statement's record has another order of fields")
    return record[:time], record[time + 8 : after - 1] + b"\xcf", record[after:]


class _Known:
    """A record but for its time and number: `pack` puts them between the other three."""

    __slots__ = ("after", "before", "between", "pack", "ruling")

    def __init__(self, ruling: Ruling, record: StatementDecided) -> None:
        self.ruling = ruling
        self.before, self.between, self.after = _around(_encode(record), record.flow)
        self.pack = Struct(f">{len(self.before)}sd{len(self.between)}sQ{len(self.after)}s").pack


class StatementRecords:
    """`statement_most`: characters of a statement."""

    def __init__(self, flow: FlowId, statement_most: int) -> None:
        self._flow = flow
        self._most = statement_most
        self._known: dict[int, _Known] = {}
        record = StatementEnded(time=0.0, flow=flow, operation=0, rows=0, received=0, duration_ms=0.0)
        self._before, self._between, _ = _around(_encode(record), flow)
        self._pack = Struct(
            f">{len(self._before)}sd{len(self._between)}sQ{len(_ROWS)}sQ{len(_BYTES)}sQ{len(_DURATION)}sd"
        ).pack

    def decided(self, time: float, number: int, ruling: Ruling) -> msgspec.Raw:
        """That `ruling` was given, with its verdict and the statement without constants."""
        known = self._known.get(id(ruling))
        if known is None or known.ruling is not ruling:
            if len(self._known) >= _MOST:
                self._known.clear()
            verdict = ruling.verdict
            record = StatementDecided(
                time=0.0,
                flow=self._flow,
                operation=0,
                command=ruling.command,
                statement=ruling.shape[: self._most],
                tables=ruling.tables,
                decision=verdict.decision,
                rule=verdict.rule,
                reason=verdict.reason,
            )
            known = self._known[id(ruling)] = _Known(ruling, record)
        return msgspec.Raw(known.pack(known.before, time, known.between, number, known.after))

    def ended(self, time: float, ending: Ending, duration_ms: float) -> msgspec.Raw | StatementEnded:
        """That a statement has come to its end."""
        if ending.sqlstate:
            return StatementEnded(
                time=time,
                flow=self._flow,
                operation=ending.number,
                rows=ending.rows,
                received=ending.bytes,
                duration_ms=duration_ms,
                sqlstate=ending.sqlstate,
            )
        return msgspec.Raw(
            self._pack(
                self._before,
                time,
                self._between,
                ending.number,
                _ROWS,
                ending.rows,
                _BYTES,
                ending.bytes,
                _DURATION,
                duration_ms,
            )
        )
