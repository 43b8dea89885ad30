"""HTTP/1.1 writers, and the removal of fields that are for one hop only (RFC 9112, RFC 9110 7.6.1).

The writer alone writes framing, connection and upgrade fields; it is given the end-to-end fields and refuses these.
What it returns has been matched against the reader's own grammar: nothing that it was given can split a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from appliance.model.errors import InternalError
from appliance.wire.http1_events import Header, RequestHead, ResponseHead
from appliance.wire.http1_grammar import IS_TOKEN, TOKEN

# One pass says that it parses, and that there is no field that only the writer writes
_LINES: Final = re.compile(
    rb"(?:(?![CcTt](?i:onnection|ontent-length|ransfer-encoding):)" + TOKEN + rb"++: [\t -~\x80-\xff]*+\r\n)*+"
)
_TARGET: Final = re.compile(rb'[!"$-~]++')
_REASON: Final = re.compile(rb"[\t -~\x80-\xff]*+")

# For one hop (RFC 9110 7.6.1, and those that proxies before it knew), and what the writer writes itself
HOP: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
_HOP_OPTIONS: Final = frozenset((None, b"keep-alive", b"Keep-Alive", b"close", b"Close"))  # list no further field


def end_to_end(head: RequestHead | ResponseHead) -> list[Header]:
    """The fields that travel on: without those for one hop, without what Connection lists, without framing."""
    fields = head.fields
    drop = HOP
    option = fields.get(b"connection")
    if option not in _HOP_OPTIONS:
        drop = HOP.union([part.strip(b" \t").lower() for part in (option or b"").split(b",")])
    if len(fields) == len(head.headers):
        return [header for header, key in zip(head.headers, fields, strict=False) if key not in drop]
    return [header for header in head.headers if header[0].lower() not in drop]


def write_request(
    method: str,
    target: bytes,
    headers: Iterable[Header],
    framing: Literal["none", "length", "chunked"],
    length: int = -1,
    *,
    close: bool = False,
    upgrade: str = "",
    te_trailers: bool = False,
) -> bytes:
    """A request's head. `headers`: end-to-end fields, Host among them. `length`: bytes of the body for framing
    "length". Raises InternalError if what is given is not fit to be sent."""
    first = method.encode("ascii", "replace")
    if IS_TOKEN.fullmatch(first) is None or _TARGET.fullmatch(target) is None:
        raise InternalError("a method or a target is not fit to be sent")
    hop = _hop_lines(framing, length, close, upgrade)
    if te_trailers:
        hop += b"TE: trailers\r\n" if close or upgrade else b"TE: trailers\r\nConnection: TE\r\n"
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (first, target, _field_lines(headers), hop)


def write_response(
    status: int,
    reason: bytes,
    headers: Iterable[Header],
    framing: Literal["none", "length", "chunked", "close"],
    length: int = -1,
    *,
    close: bool = False,
    upgrade: str = "",
) -> bytes:
    """A response's head. Framing "none" writes nothing on the body: for 1xx, 204, 304, HEAD. To announce the length
    of a body that is not sent (HEAD, 304) give "length". "close" and `close` write Connection: close."""
    if not 100 <= status <= 599 or _REASON.fullmatch(reason) is None:
        raise InternalError("a status or a reason is not fit to be sent")
    hop = _hop_lines(framing, length, close or framing == "close", upgrade)
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason, _field_lines(headers), hop)


def _field_lines(headers: Iterable[Header]) -> bytes:
    lines = b"\r\n".join(map(b": ".join, headers))
    if not lines:
        return lines
    lines += b"\r\n"
    if _LINES.fullmatch(lines) is None:
        raise InternalError("a header is not fit to be sent")
    return lines


def _hop_lines(framing: str, length: int, close: bool, upgrade: str) -> bytes:
    lines = b""
    if framing == "length":
        if length < 0:
            raise InternalError("a body's length is negative")
        lines = b"Content-Length: %d\r\n" % length
    elif framing == "chunked":
        lines = b"Transfer-Encoding: chunked\r\n"
    elif framing not in ("none", "close"):
        raise InternalError("an unknown framing")
    if upgrade:
        if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~/-]+", upgrade) is None:
            raise InternalError("a protocol's name is not fit to be sent")
        return lines + b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade.encode("ascii")
    if close:
        return lines + b"Connection: close\r\n"
    return lines


def chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 7.1); empty data gives nothing, for an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Iterable[Header] = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    return b"0\r\n%b\r\n" % _field_lines(trailers)
