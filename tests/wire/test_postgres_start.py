"""The packets that begin a PostgreSQL connection: read as written, whole or not at all, nonsense refused at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import InternalError, PeerError
from appliance.wire.postgres import (
    MAX_START,
    CancelRequest,
    GssEncRequest,
    SslRequest,
    Start,
    StartupMessage,
    cancel_request,
    gss_enc_request,
    looks_like_start,
    parse_start,
    ssl_request,
    startup,
)

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
names = words.filter(lambda name: name not in ("", "user"))


@st.composite
def packets(draw: st.DrawFn) -> tuple[bytes, Start]:
    """A packet, and what it is."""
    which = draw(st.integers(0, 3))
    if which == 0:
        return ssl_request(), SslRequest()
    if which == 1:
        return gss_enc_request(), GssEncRequest()
    if which == 2:
        pid, key = draw(st.integers(0, 2**32 - 1)), draw(st.binary(min_size=4, max_size=256))
        return cancel_request(pid, key), CancelRequest(pid, key, 12 + len(key))
    minor = draw(st.integers(0, 65535))
    parameters = draw(st.dictionaries(names, words, max_size=5))
    parameters["user"] = draw(words.filter(bool))
    packet = startup(minor, parameters)
    return packet, StartupMessage(minor, parameters, len(packet))


@given(packets(), st.binary(max_size=20))
def test_what_is_written_is_read(packet: tuple[bytes, Start], more: bytes) -> None:
    data, meant = packet
    found = parse_start(data + more)
    assert found == meant
    assert type(found) is type(meant)
    assert not isinstance(found, int)
    assert found.consumed == len(data)
    if isinstance(found, StartupMessage) and isinstance(meant, StartupMessage):
        assert list(found.parameters) == list(meant.parameters)


@given(packets())
def test_every_truncation_asks_for_what_it_needs(packet: tuple[bytes, Start]) -> None:
    data, _ = packet
    for end in range(len(data)):
        wanted = parse_start(data[:end])
        assert wanted == (8 if end < 8 else len(data))
        assert looks_like_start(data[:end])
    assert looks_like_start(data)


@given(st.binary(max_size=40) | st.binary(max_size=30).map(lambda raw: b"\0\0\0" + raw))
def test_noise_is_refused_or_waited_for(noise: bytes) -> None:
    looks = looks_like_start(noise)
    try:
        found = parse_start(noise)
    except PeerError:
        return
    assert looks
    if isinstance(found, int):
        assert len(noise) < found <= MAX_START
    else:
        assert 8 <= found.consumed <= len(noise)
    for end in range(len(noise)):
        assert looks_like_start(noise[:end])


def packet(code: int, rest: bytes = b"", length: int = -1) -> bytes:
    length = 8 + len(rest) if length < 0 else length
    return length.to_bytes(4, "big") + code.to_bytes(4, "big") + rest


V3 = 3 << 16
CANCEL, SSL, GSS = (1234 << 16 | low for low in (5678, 5679, 5680))


@pytest.mark.parametrize(
    "data",
    [
        packet(V3, b"user\0x\0\0", 0),
        packet(V3, b"user\0x\0\0", 7),
        packet(V3, b"user\0x\0\0", MAX_START + 1),
        packet(V3, b"user\0x\0\0", 0xFFFFFFFF),
        packet(SSL, b"x"),
        packet(GSS, b"x"),
        packet(SSL, length=7),
        packet(CANCEL, b"pid_"),
        packet(CANCEL, b"pid_" + b"k" * 3),
        packet(CANCEL, b"pid_" + b"k" * 257),
        packet(2 << 16),
        packet(4 << 16, b"user\0x\0\0"),
        packet(0),
        packet(1234 << 16 | 5681),
        packet(1234 << 16),
    ],
)
def test_a_head_that_cannot_be_is_refused_at_eight_bytes(data: bytes) -> None:
    assert not looks_like_start(data)
    for end in (8, len(data)):
        with pytest.raises(PeerError):
            parse_start(data[:end])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"user\0x",
        b"user\0x\0",
        b"user\0x\0\0\0",
        b"user\0x\0\0database\0y\0\0",
        b"user\0x\0database\0\0",
        b"user\0x\0database\0",
        b"user\0x\0x",
        b"\0x\0user\0x\0\0",
        b"user\0\0\0",
        b"user\0x\0user\0x\0\0",
        b"user\0x\0database\0y\0database\0z\0\0",
        b"user\0\xff\0\0",
        b"user\0x\0\xe9\0y\0\0",
        b"USER\0x\0\0",
        b"database\0x\0\0",
    ],
)
def test_parameters_that_cannot_be_are_refused(body: bytes) -> None:
    with pytest.raises(PeerError) as refused:
        parse_start(packet(V3, body))
    assert refused.value.code == "postgres-start"


def test_another_major_version_has_its_own_code() -> None:
    with pytest.raises(PeerError) as refused:
        parse_start(packet(2 << 16))
    assert refused.value.code == "postgres-version"


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"SSH-2.0-x\r\n", b"\x00\x00\x27\x15\x00\x03"]
)
def test_other_protocols_are_not_taken_for_it(first: bytes) -> None:
    assert not looks_like_start(first)
    with pytest.raises(PeerError):
        parse_start(first)


def test_what_a_startup_packet_says() -> None:
    found = parse_start(startup(2, {"user": "u", "database": "d", "_pq_.a": "1", "options": "-c a=b", "_pq_.b": ""}))
    assert isinstance(found, StartupMessage)
    assert (found.minor, found.user, found.database, found.options) == (2, "u", "d", ("_pq_.a", "_pq_.b"))
    for without in ({"user": "u"}, {"user": "u", "database": ""}):
        found = parse_start(startup(0, without))
        assert isinstance(found, StartupMessage)
        assert found.database == "u"
    longest = startup(0, {"user": "u", "x": "y" * (MAX_START - 8 - 7 - 2 - 2)})
    assert len(longest) == MAX_START
    assert isinstance(parse_start(longest), StartupMessage)


def test_what_would_be_read_otherwise_is_not_written() -> None:
    for parameters in ({"": "x"}, {"a\0": "x"}, {"a": "x\0user\0root"}, {"a": "x" * MAX_START}, {"a": "\ud800"}):
        with pytest.raises(InternalError):
            startup(0, {"user": "u", **parameters})
    for minor in (-1, 65536):
        with pytest.raises(InternalError):
            startup(minor, {"user": "u"})
    for key in (b"", b"123", b"x" * 257):
        with pytest.raises(InternalError):
            cancel_request(1, key)
    for pid in (-1, 2**32):
        with pytest.raises(InternalError):
            cancel_request(pid, b"1234")


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(parse_start(cancel_request(1, b"secret")))
