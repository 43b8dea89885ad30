"""Hostile records: whatever a peer sends, it writes only records, only its own kinds, and only as we encode them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.chain import BEGIN, bind, read_line
from appliance.audit.intake import MAX_BATCH, MAX_RECORD, Intake, payload_of
from appliance.model.errors import Denied, PeerError
from appliance.model.ids import JobId
from appliance.model.record import (
    JobEnded,
    PlaceholderMinted,
    PolicyChanged,
    Refused,
    ServiceEvent,
)

GOOD = payload_of(Refused(1.0, "no-record"))
HOSTILE = {
    "a line break between records": GOOD + b"\n" + GOOD,
    "a line break in a string": b'{"type":"flow.refused","time":1,"reason":"a\nb"}',
    "trailing text": GOOD + b"x",
    "an unknown field": GOOD[:-1] + b',"seq":1}',
    "the chain's own field": b'{"seq":9,"prev":"","record":' + GOOD + b"}",
    "an unknown type": GOOD.replace(b"flow.refused", b"flow.pardoned"),
    "no type": b'{"time":1,"reason":"x"}',
    "a wrong type of value": b'{"type":"flow.refused","time":"1","reason":"x"}',
    "a number that is none": b'{"type":"flow.refused","time":NaN,"reason":"x"}',
    "a number too large": b'{"type":"flow.refused","time":1e999,"reason":"x"}',
    "an integer of 9,000 digits": b'{"type":"flow.closed","time":1,"flow":"f","sent":%s,"received":1,"operations":1,'
    b'"end":"x"}' % (b"9" * 9000),
    "half a surrogate": b'{"type":"flow.refused","time":1,"reason":"\\ud800"}',
    "not UTF-8": b'{"type":"flow.refused","time":1,"reason":"\xff"}',
    "nothing": b"",
    "null": b"null",
    "a list": b"[" + GOOD + b"]",
    "very deep": b"[" * 100_000,
    "10 MB": b'{"type":"flow.refused","time":1,"reason":"' + b"x" * 10_000_000 + b'"}',
    "just over the limit": payload_of(Refused(1.0, "x" * MAX_RECORD)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_refuses_its_whole_batch(name: str) -> None:
    with pytest.raises(PeerError):
        Intake("proxy").read([GOOD, HOSTILE[name], GOOD])


def test_a_batch_has_a_limit() -> None:
    with pytest.raises(PeerError):
        Intake("proxy").read([GOOD] * (MAX_BATCH + 1))


@given(st.text())
def test_a_record_is_one_line_whatever_it_says(text: str) -> None:
    raw = json.dumps({"type": "flow.refused", "time": 1, "reason": text}).encode()
    try:
        _, payloads = Intake("proxy").read([raw])
    except PeerError:
        assert any(0xD800 <= ord(c) < 0xE000 for c in text)
        return
    data, _ = bind(BEGIN, payloads)
    assert data.count(b"\n") == 1
    record = read_line(data[:-1]).record
    assert isinstance(record, Refused)
    assert record.reason == text


@given(st.binary(max_size=200))
def test_garbage_gives_only_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        Intake("proxy").read([data])


def test_a_duplicate_key_reaches_the_log_once() -> None:
    _, payloads = Intake("proxy").read([b'{"type":"flow.refused","time":1,"reason":"a","reason":"b"}'])
    assert payloads == [b'{"type":"flow.refused","time":1.0,"reason":"b"}']


def test_each_process_writes_only_what_it_knows() -> None:
    job = JobId("j-0000000000000001")
    for record in (JobEnded(1.0, job, "x"), PolicyChanged(1.0, "v", True), PlaceholderMinted(1.0, job, "s", 1.0, 1)):
        with pytest.raises(PeerError):
            Intake("proxy").read([payload_of(record)])
    Intake("vault").read([payload_of(PlaceholderMinted(1.0, job, "s", 1.0, 1))])
    Intake("proxy").read([payload_of(ServiceEvent(1.0, "proxy", "started"))])
    with pytest.raises(Denied):
        Intake("proxy").read([payload_of(ServiceEvent(1.0, "vault", "stopped"))])
