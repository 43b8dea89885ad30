"""The ClientHello parser against OpenSSL's and scapy's hellos, cut, spread over records, mutated."""

from __future__ import annotations

import random
import ssl
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.tls.extensions import ProtocolName as Protocol
from scapy.layers.tls.extensions import (
    ServerName,
    TLS_Ext_ALPN,
    TLS_Ext_ServerName,
    TLS_Ext_SupportedVersion_CH,
    TLS_Ext_Unknown,
)
from scapy.layers.tls.handshake import TLSClientHello
from scapy.layers.tls.record import TLS

from appliance.model.errors import PeerError
from appliance.wire.tls import ClientHello, parse_hello


def from_openssl(name: str | None, alpn: list[str], minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = minimum
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def records(message: bytes, sizes: list[int]) -> bytes:
    """One handshake message in records of these sizes, the last repeated."""
    out = b""
    position = 0
    while position < len(message):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        part = message[position : position + size]
        out += b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        position += size
    return out


def message(extensions: list[tuple[int, bytes]], session: bytes = b"", suites: bytes = b"\x13\x01") -> bytes:
    body = b"\x03\x03" + bytes(32) + bytes([len(session)]) + session
    body += len(suites).to_bytes(2, "big") + suites + b"\x01\x00"
    packed = b"".join(kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for kind, data in extensions)
    body += len(packed).to_bytes(2, "big") + packed
    return b"\x01" + len(body).to_bytes(3, "big") + body


def sni(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for name in names)
    return 0, len(entries).to_bytes(2, "big") + entries


def one(*extensions: tuple[int, bytes], **more: Any) -> bytes:
    return records(message(list(extensions), **more), [16384])


@pytest.mark.parametrize(
    ("name", "alpn"),
    [
        ("api.example.com", []),
        ("API.Example.COM", ["h2", "http/1.1"]),
        (None, ["http/1.1"]),
        ("a." * 60 + "example", []),
    ],
)
def test_hellos_of_openssl(name: str | None, alpn: list[str]) -> None:
    data = from_openssl(name, alpn)
    hello = parse_hello(data)
    assert isinstance(hello, ClientHello)
    assert hello.server_name == (name or "").lower()
    assert hello.alpn == tuple(alpn)
    assert hello.versions[:2] == (0x0304, 0x0303)
    assert hello.legacy_version == 0x0303
    assert not hello.has_ech


@settings(max_examples=30, deadline=None)
@given(
    st.from_regex(r"\A[a-z]{1,10}(\.[a-z][a-z0-9]{0,9}){0,3}\Z"),
    st.lists(st.sampled_from(["h2", "http/1.1", "spdy/3", "x" * 200]), max_size=3),
    st.lists(st.sampled_from([0x0304, 0x0303, 0x0302, 0x7A7A]), min_size=1, max_size=4),
    st.binary(max_size=32),
    st.booleans(),
)
def test_scapy_agrees(name: str, alpn: list[str], versions: list[int], session: bytes, ech: bool) -> None:
    extensions: list[Any] = [
        TLS_Ext_ServerName(servernames=[ServerName(servername=name.encode())]),
        TLS_Ext_SupportedVersion_CH(versions=versions),
    ]
    if alpn:
        extensions.append(TLS_Ext_ALPN(protocols=[Protocol(protocol=p.encode()) for p in alpn]))
    if ech:
        extensions.append(TLS_Ext_Unknown(type=0xFE0D, val=b"abcdef"))
    written = TLSClientHello(ciphers=[0x1301, 0xC02F], sid=session, ext=extensions)
    data = records(bytes(written), [16384])
    assert parse_hello(data) == ClientHello(name, tuple(alpn), tuple(versions), ech, 0x0303)


def test_scapy_reads_the_same_name() -> None:
    for name in ("a.example", "x" * 63 + ".example"):
        data = from_openssl(name, ["h2"])
        theirs = TLS(data).msg[0]
        found = next(e for e in theirs.ext if isinstance(e, TLS_Ext_ServerName)).servernames[0].servername.decode()
        ours = parse_hello(data)
        assert isinstance(ours, ClientHello)
        assert ours.server_name == found


def test_every_cut_asks_for_more_and_never_for_too_much() -> None:
    whole = from_openssl("api.example.com", ["h2", "http/1.1"])
    for data in (whole, records(whole[5:], [1, 2, 1, 50, 100]), records(whole[5:], [7])):
        expected = parse_hello(data)
        assert isinstance(expected, ClientHello)
        for cut in range(len(data)):
            need = parse_hello(data[:cut])
            assert isinstance(need, int)
            assert cut < need <= len(data)
        assert parse_hello(data + b"more") == expected
        have = 0
        while isinstance(need := parse_hello(data[:have]), int):
            have = need
        assert have == len(data)


@given(st.integers(0, 2**32))
def test_mutants_raise_nothing_but_peer_errors(seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(one(sni(b"a.example"), (16, b"\0\x03\x02h2"), (43, b"\x02\x03\x04"), (0xFE0D, b"x")))
    for _ in range(chance.randint(1, 5)):
        data[chance.randrange(len(data))] = chance.choice([0, 1, 0xFF, chance.randrange(256)])
    judge(bytes(data))
    judge(bytes(data[: chance.randrange(len(data))]))


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_peer_errors(data: bytes) -> None:
    judge(data)
    judge(b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data)
    judge(b"\x16\x03\x01" + (len(data) + 4).to_bytes(2, "big") + b"\x01" + len(data).to_bytes(3, "big") + data)


def judge(data: bytes) -> None:
    try:
        found = parse_hello(data)
    except PeerError:
        return
    assert isinstance(found, ClientHello) or found > len(data)


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("not-tls", b"GET / HTTP/1.1\r\n"),
        ("not-tls", b"\x80\x2e\x01\x00\x02"),
        ("not-tls", b"\x16\x02"),
        ("not-tls", b"\x15\x03\x01\x00\x02\x01\x00"),
        ("not-hello", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"),
        ("bad-record", b"\x16\x03\x01\x00\x00"),
        ("bad-record", b"\x16\x03\x01\x40\x01"),
        ("hello-too-large", b"\x16\x03\x01\x00\x04\x01\x01\x00\x00"),
        ("hello-too-large", records(b"\x01\x00\xff\x00" + bytes(300), [1])),
        ("bad-sni", one(sni(b"a.example", b"b.example"))),
        ("bad-sni", one(sni())),
        ("bad-sni", one(sni(b""))),
        ("bad-sni", one(sni(b"a.example", kind=1))),
        ("bad-sni", one(sni(b"attacker\0.example.com"))),
        ("bad-sni", one(sni(b"a_b.example"))),
        ("bad-sni", one(sni(b"127.0.0.1"))),
        ("bad-sni", one(sni(b"127.1"))),
        ("bad-sni", one(sni(b"[::1]"))),
        ("bad-sni", one(sni(b"::1"))),
        ("bad-sni", one(sni("bücher.example".encode()))),
        ("bad-sni", one((0, b"\x00\x05\x00\x00\x03abc"))),
        ("bad-hello", one(sni(b"a.example"), sni(b"a.example"))),
        ("bad-hello", one((1, b""), (1, b""))),
        ("bad-hello", one(suites=b"")),
        ("bad-hello", one(suites=b"\x13")),
        ("bad-hello", one(session=bytes(33))),
        ("bad-alpn", one((16, b""))),
        ("bad-alpn", one((16, b"\x00\x01\x00"))),
        ("bad-alpn", one((16, b"\x00\x03\x05h2"))),
        ("bad-hello", one((43, b"\x01\x03"))),
        ("bad-hello", one((43, b"\x04\x03\x04"))),
    ],
)
def test_what_is_refused(code: str, data: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        parse_hello(data)
    assert caught.value.code == code


def test_a_hello_without_extensions_and_a_trailing_dot() -> None:
    body = b"\x03\x01" + bytes(32) + b"\x00\x00\x02\x00\x2f\x01\x00"
    data = records(b"\x01" + len(body).to_bytes(3, "big") + body, [100])
    assert parse_hello(data) == ClientHello("", (), (), False, 0x0301)
    hello = parse_hello(one(sni(b"A.example.")))
    assert isinstance(hello, ClientHello)
    assert hello.server_name == "a.example"


def test_a_large_hello_over_several_records() -> None:
    data = records(message([sni(b"a.example"), (21, bytes(60000))]), [16384])
    hello = parse_hello(data)
    assert isinstance(hello, ClientHello)
    assert hello.server_name == "a.example"
