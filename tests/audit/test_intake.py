"""Hostile records: whatever a worker hands over, it writes only records, only its kinds, and only as we encode them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from appliance.audit.chain import BEGIN, bind, read_line
from appliance.audit.intake import MAX_BATCH, MAX_RECORD, payload_of, read
from appliance.model.errors import PeerError
from appliance.model.ids import FlowId, JobId
from appliance.model.record import (
    JobEnded,
    JobStarted,
    OperationEnded,
    PlaceholderMinted,
    PolicyChanged,
    Record,
    Refused,
    ServiceEvent,
)

encode, decode = msgpack.encode, msgpack.decode
GOOD = encode(Refused(1.0, "no-record"))


def refused(**fields: Any) -> bytes:
    return encode({"type": "flow.refused", "time": 1.0, "reason": "x", **fields})


def without(field: str) -> bytes:
    return encode({name: value for name, value in decode(GOOD).items() if name != field})


HOSTILE = {
    "trailing bytes": GOOD + b"\0",  # it is then one more element than the list has
    "an unknown field": refused(seq=1),
    "the chain's own fields": encode({"seq": 9, "prev": "", "record": decode(GOOD)}),
    "an unknown type": refused(type="flow.pardoned"),
    "no type": without("type"),
    "no time": without("time"),
    "a wrong type of value": refused(time="1"),
    "a number that is none": refused(time=float("nan")),
    "a number without end": refused(time=float("inf")),
    "a number with another end": refused(time=float("-inf")),
    "an integer for a text": refused(reason=1),
    "bytes for a text": refused(reason=b"x"),
    "half a surrogate": refused(reason="abc").replace(b"abc", b"\xed\xa0\x80"),
    "not UTF-8": refused(reason="abc").replace(b"abc", b"ab\xff"),
    "cut off": GOOD[:-1],
    "nothing": b"",
    "nil": encode(None),
    "a list": encode([decode(GOOD)]),
    "an extension": encode(msgpack.Ext(5, GOOD)),
    "very deep": b"\x91" * 100_000,
    "a length that is not there": b"\xdb\xff\xff\xff\xff",
    "10 MB": refused(reason="x" * 10_000_000),
    "just over the limit": refused(reason="x" * MAX_RECORD),
}


def batch(*records: bytes) -> bytes:
    return b"\xdd" + len(records).to_bytes(4, "big") + b"".join(records)  # MessagePack's array 32


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_refuses_its_whole_batch(name: str) -> None:
    for records in ([GOOD, HOSTILE[name], GOOD], [GOOD, HOSTILE[name]]):
        with pytest.raises(PeerError):
            read(batch(*records))


@pytest.mark.parametrize("ends", [b"", GOOD, b"\xc0", b"\xdd\xff\xff\xff\xff"])
def test_what_is_no_list_of_records_is_refused(ends: bytes) -> None:
    with pytest.raises(PeerError):
        read(ends)


def test_a_batch_has_a_limit() -> None:
    read(batch(*[GOOD] * MAX_BATCH))
    with pytest.raises(PeerError):
        read(batch(*[GOOD] * (MAX_BATCH + 1)))


@given(st.lists(st.text()))
def test_a_record_is_one_line_whatever_it_says(texts: list[str]) -> None:
    _, payloads = read(batch(*[refused(reason=text) for text in texts]))
    assert payloads == [payload_of(Refused(1.0, text)) for text in texts]
    data, _ = bind(BEGIN, payloads)
    assert data.count(b"\n") == len(texts)
    for line, text in zip(data.split(b"\n"), texts, strict=False):
        record = read_line(line).record
        assert isinstance(record, Refused)
        assert record.reason == text


@given(st.floats(), st.floats())
def test_a_number_that_is_taken_can_be_read_again(time: float, duration: float) -> None:
    ended = OperationEnded(time, FlowId("f"), 1, 200, 0, 0, duration)
    try:
        _, payloads = read(batch(encode(ended)))
    except PeerError:
        assert not all(abs(number) <= 1e15 for number in (time, duration))
        return
    data, _ = bind(BEGIN, payloads)
    assert read_line(data[:-1]).record == ended


@given(st.binary(max_size=200))
def test_garbage_gives_only_a_peer_error(data: bytes) -> None:
    for raw in (data, batch(data)):
        try:
            records, _ = read(raw)
        except PeerError:
            continue
        assert records == []


def test_a_duplicate_key_reaches_the_log_once() -> None:
    twice = b"\x84" + GOOD[1:] + encode("reason") + encode("b")
    _, payloads = read(batch(twice))
    assert payloads == [b'{"type":"flow.refused","time":1.0,"reason":"b"}']


def test_a_worker_writes_only_what_it_knows() -> None:
    job = JobId("j-0000000000000001")
    forged: list[Record] = [
        JobStarted(1.0, job, "label", 0, 1, "/c"),
        JobEnded(1.0, job, "x"),
        PolicyChanged(1.0, "v", True),
        PlaceholderMinted(1.0, job, "s", 1.0, 1),
        ServiceEvent(1.0, "proxy", "started"),
    ]
    for record in forged:
        with pytest.raises(PeerError):
            read(encode([record]))
