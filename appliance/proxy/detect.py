"""What the first bytes of a connection are. Unknown is a kind of its own; policy denies it unless told otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from appliance.model.errors import PeerError
from appliance.wire.http1 import RequestHead, RequestReader
from appliance.wire.tls import ClientHello, parse_hello

_METHOD: Final = re.compile(rb"[A-Z]{1,32} ?")  # enough of a request line to tell HTTP/1 from anything else
_TLS_HANDSHAKE: Final = b"\x16"  # RFC 8446 5.1: ContentType handshake
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4
# 1234.5679, 1234.5680 and 1234.5678: SSLRequest, GSSENCRequest, CancelRequest
_POSTGRES_CODES: Final[Mapping[bytes, Literal["ssl", "gss", "plain"]]] = {
    b"\x04\xd2\x16\x2f": "ssl",
    b"\x04\xd2\x16\x30": "gss",
    b"\x04\xd2\x16\x2e": "plain",
}


class TlsStart(Struct, frozen=True):
    hello: ClientHello


class HttpStart(Struct, frozen=True):
    """`host` is the first request's Host or authority, raw; None if it has none."""

    host: bytes | None


class PostgresStart(Struct, frozen=True):
    """PostgreSQL's first packet: asks for TLS ("ssl"), for GSS encryption ("gss"), or is what it is about ("plain")."""

    kind: Literal["ssl", "gss", "plain"]


class Unknown(Struct, frozen=True):
    """Bytes that belong to no protocol we know; `hint` is a fixed word for people."""

    hint: str


Start = TlsStart | HttpStart | PostgresStart | Unknown


def detect(data: bytes, max_head: int, max_headers: int) -> Start | int:
    """What `data`, the connection's first bytes, begin; or how many bytes are needed to tell.

    Raises PeerError for a beginning of TLS or HTTP that breaks its own protocol.
    """
    if data.startswith(_TLS_HANDSHAKE):
        hello = parse_hello(data)
        return hello if isinstance(hello, int) else TlsStart(hello)
    if data.startswith(b"\0"):
        return _postgres(data)
    if data.startswith(b"SSH-"):
        return Unknown("ssh")
    if _HTTP2_PREFACE.startswith(data[: len(_HTTP2_PREFACE)]) and data[:3] == b"PRI"[: len(data)]:
        return Unknown("http2") if len(data) >= len(_HTTP2_PREFACE) else len(data) + 1
    match = _METHOD.match(data)
    if match is None:
        return Unknown("binary")
    if match.end() == len(data):
        return len(data) + 1
    if not match[0].endswith(b" "):
        return Unknown("text")
    return _http(data, max_head, max_headers)


def _postgres(data: bytes) -> Start | int:
    """Length and code (PostgreSQL documentation 55.7). Nothing else that begins with a zero byte is known here."""
    if len(data) < 8:
        return 8
    kind = _POSTGRES_CODES.get(data[4:8], "plain" if data[4:6] == b"\0\x03" else None)
    return PostgresStart(kind) if kind else Unknown("binary")


def _http(data: bytes, max_head: int, max_headers: int) -> Start | int:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > max_head:
            raise PeerError("head-too-large", f"a head is larger than {max_head} bytes")
        return len(data) + 1
    head = RequestReader(max_head, max_headers).feed(data[: end + 4])[0]
    if not isinstance(head, RequestHead):
        raise PeerError("bad-head", "the first message is not a request")
    return HttpStart(head.get(b"host"))
