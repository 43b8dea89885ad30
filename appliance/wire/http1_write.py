"""HTTP/1.1 writers, and the removal of fields that are for one hop only (RFC 9112, RFC 9110 7.6.1).

The writer alone writes framing, connection and upgrade fields; it is given the end-to-end fields and refuses these.
What it returns has been matched against the reader's own grammar, and has as many lines as it was given fields:
nothing that it was given can split a message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from appliance.model.errors import InternalError
from appliance.wire.http1_events import Header, RequestHead, ResponseHead
from appliance.wire.http1_grammar import TOKEN

# One pass says that a head parses, and that it has no field that only the writer writes
_LINES: Final = (
    rb"(?:(?!(?=[CcTt])(?i:connection|content-length|transfer-encoding):)" + TOKEN + rb"++: [\t -~\x80-\xff]*+\r\n)*"
)
_REQUEST_LINE: Final = re.compile(TOKEN + rb'++ [!"$-~]++ HTTP/1\.1\r\n')
_FIELDS: Final = re.compile(_LINES)
_RESPONSE: Final = re.compile(rb"HTTP/1\.1 [1-5][0-9]{2} [\t -~\x80-\xff]*+\r\n" + _LINES)
_TRAILERS: Final = re.compile(rb"0\r\n" + _LINES)
_PROTOCOL: Final = re.compile(TOKEN + rb"++(?:/" + TOKEN + rb"++)?")

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
_RARE_HOP: Final = HOP - {b"connection", b"content-length", b"transfer-encoding"}
_FRAMED: Final = ("length", "chunked")  # by a field that says so
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


def write_request_line(method: str, target: bytes) -> bytes:
    """Raises InternalError if one of them is not fit to be sent."""
    line = b"%b %b HTTP/1.1\r\n" % (method.encode("ascii", "backslashreplace"), target)
    if _REQUEST_LINE.fullmatch(line) is None:
        raise InternalError("a request line is not fit to be sent")
    return line


def write_fields(
    headers: Sequence[Header],
    framing: Literal["none", "length", "chunked"],
    length: int = -1,
    *,
    close: bool = False,
    upgrade: str = "",
    te_trailers: bool = False,
) -> bytes:
    """A request's field section, with its empty line. `headers`: end-to-end fields, Host among them. `length`: bytes of
    the body for framing "length". Raises InternalError if what is given is not fit to be sent."""
    hop = _hop_lines(framing, length, close, upgrade)
    if te_trailers:
        hop += b"TE: trailers\r\n" if close or upgrade else b"TE: trailers\r\nConnection: TE\r\n"
    return _lines(_FIELDS, b"", headers) + hop + b"\r\n"


def write_response(
    status: int,
    reason: bytes,
    headers: Sequence[Header],
    framing: Literal["none", "length", "chunked", "close"],
    length: int = -1,
    *,
    close: bool = False,
    upgrade: str = "",
) -> bytes:
    """A response's head. Framing "none" writes nothing on the body: for 1xx, 204, 304, HEAD. To announce the length
    of a body that is not sent (HEAD, 304) give "length". "close" and `close` write Connection: close."""
    hop = _hop_lines(framing, length, close or framing == "close", upgrade)
    return _lines(_RESPONSE, b"HTTP/1.1 %d %b\r\n" % (status, reason), headers) + hop + b"\r\n"


def as_it_came(head: ResponseHead, *, close: bool) -> bytes:
    """The head that came, but for its Connection field; or nothing if more than that must change. The body must go on
    in the framing in which it came."""
    raw = head.raw
    if not raw or head.version == 0 or head.framing not in _FRAMED or not _RARE_HOP.isdisjoint(head.fields):
        return b""
    option = head.fields.get(b"connection")
    if option is not None:
        size = len(raw)
        if option in _HOP_OPTIONS:
            raw = raw.replace(b"\r\nConnection: " + option + b"\r\n", b"\r\n")
        if len(raw) != size - 14 - len(option):
            return b""
    return raw[:-2] + b"Connection: close\r\n\r\n" if close else raw


def _lines(grammar: re.Pattern[bytes], first: bytes, headers: Sequence[Header]) -> bytes:
    """The first line and the fields; matched, and counted, because a field could itself hold a well-formed line."""
    lines = first + b"".join([b"%b: %b\r\n" % header for header in headers])
    if grammar.fullmatch(lines) is None or lines.count(b"\n") != len(headers) + first.count(b"\n"):
        raise InternalError("a first line or a header is not fit to be sent")
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
        protocol = upgrade.encode("ascii", "replace")
        if _PROTOCOL.fullmatch(protocol) is None:
            raise InternalError("a protocol's name is not fit to be sent")
        return lines + b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocol
    if close:
        return lines + b"Connection: close\r\n"
    return lines


def chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 7.1); empty data gives nothing, for an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Sequence[Header] = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    return _lines(_TRAILERS, b"0\r\n", trailers) + b"\r\n"
