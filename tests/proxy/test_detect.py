"""The first bytes are one protocol, unknown, or more are needed: the same in any chunking, and never a guess."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import PeerError
from appliance.proxy.detect import HttpStart, PostgresStart, Start, TlsStart, Unknown, detect


def hello(name: str = "api.example.com") -> bytes:
    out = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def told(data: bytes) -> Start | int:
    return detect(data, 65536, 200)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", HttpStart(b"a.example")),
        (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", HttpStart(b"a")),
        (b"GET / HTTP/1.0\r\n\r\n", HttpStart(None)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Unknown("http2")),
        (b"SSH-2.0-OpenSSH\r\n", Unknown("ssh")),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", PostgresStart("ssl")),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x30", PostgresStart("gss")),
        (b"\x00\x00\x00\x10\x04\xd2\x16\x2e", PostgresStart("plain")),
        (b"\x00\x00\x00\x54\x00\x03\x00\x00", PostgresStart("plain")),
        (b"\x00\x00\x00\x54\x00\x04\x00\x00", Unknown("binary")),
        (b"hello\r\n", Unknown("binary")),
        (b"HELLO\r\n", Unknown("text")),
        (b"A" * 40, Unknown("text")),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", Unknown("binary")),
    ],
)
def test_each_protocol(data: bytes, expected: Start) -> None:
    assert told(data) == expected


def test_a_hello_is_told_by_its_name() -> None:
    start = told(hello())
    assert isinstance(start, TlsStart)
    assert start.hello.server_name == "api.example.com"


@pytest.mark.parametrize("data", [hello(), b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_a_beginning_needs_more_and_says_how_much_at_least(data: bytes) -> None:
    whole = told(data)
    for end in range(1, len(data)):
        needed = told(data[:end])
        assert isinstance(needed, int)
        assert end < needed <= len(data)
    assert told(data) == whole


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70000,
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 10,
        b"\x16" + b"\xff" * 300,
    ],
)
def test_a_beginning_that_breaks_its_own_protocol_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(PeerError):
        told(data)


@given(
    st.one_of(st.binary(min_size=1, max_size=100), st.binary(max_size=100).map(lambda noise: b"\x16\x03\x01" + noise))
)
def test_garbage_is_unknown_more_or_the_peers_fault(data: bytes) -> None:
    try:
        found = told(data)
    except PeerError:
        return
    assert isinstance(found, Unknown) or (isinstance(found, int) and found > len(data)) or isinstance(found, HttpStart)
