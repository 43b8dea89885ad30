"""What is written down without making the record is the record, to the last field."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import intake
from appliance.audit.intake import payload_of
from appliance.model.ids import FlowId
from appliance.model.record import Record, StatementDecided, StatementEnded
from appliance.model.verdict import Verdict
from appliance.proxy.statement_records import StatementRecords
from appliance.session.postgres_judge import Ruling
from appliance.session.postgres_steps import Ending

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
_NAMES = st.one_of(_TEXTS, st.sampled_from(["\xa4time\xcb", "operation\0", "\xa9operation\0"]))
_COUNTS = st.integers(0, 2**63 - 1)
_TIMES = st.floats(0, 1e12)
_RULINGS = st.builds(
    Ruling,
    command=_NAMES,
    name=st.just(b""),
    tables=st.lists(_NAMES, max_size=3).map(tuple),
    shape=_TEXTS,
    verdict=st.builds(Verdict, decision=st.just("allow"), rule=_NAMES, reason=_TEXTS),
    unnamed=st.just(()),
    flow=st.none(),
)


def read(raw: msgspec.Raw | Record) -> bytes:
    """As control takes it from the proxy, and writes it."""
    records, payloads = intake.read(msgspec.msgpack.encode([raw]))
    assert [payload_of(record) for record in records] == payloads
    return payloads[0]


@given(flow=_NAMES.map(FlowId), rulings=st.lists(_RULINGS, min_size=1, max_size=3), number=_COUNTS, time=_TIMES)
def test_a_decision_is_the_record(flow: FlowId, rulings: list[Ruling], number: int, time: float) -> None:
    records = StatementRecords(flow, 20)
    for ruling in rulings * 2:  # the second time it is known
        record = StatementDecided(
            time=time,
            flow=flow,
            operation=number,
            command=ruling.command,
            statement=ruling.shape[:20],
            tables=ruling.tables,
            decision=ruling.verdict.decision,
            rule=ruling.verdict.rule,
            reason=ruling.verdict.reason,
        )
        assert read(records.decided(time, number, ruling)) == payload_of(record)


@given(flow=_NAMES.map(FlowId), counts=st.tuples(_COUNTS, _COUNTS, _COUNTS), time=_TIMES, failed=st.booleans())
def test_an_end_is_the_record(flow: FlowId, counts: tuple[int, int, int], time: float, failed: bool) -> None:
    ending = Ending(*counts, "42501" if failed else "", 0.0)
    record = StatementEnded(
        time=time,
        flow=flow,
        operation=counts[0],
        rows=counts[1],
        received=counts[2],
        duration_ms=time / 2,
        sqlstate=ending.sqlstate,
    )
    assert read(StatementRecords(flow, 20).ended(time, ending, time / 2)) == payload_of(record)


def test_many_statements_do_not_stay() -> None:
    records = StatementRecords(FlowId("f-1"), 20)
    for number in range(1000):
        ruling = Ruling("select", b"", (), f"select {number}", Verdict("allow", "r"), (), None)
        assert f'"select {number}"'.encode() in read(records.decided(1.0, number, ruling))
    assert len(records._known) <= 256
