"""The grammar of an HTTP/1.1 head (RFC 9112, RFC 9110 5) and the rules that decide a body's framing.

One `re` pass validates and splits the field section as most senders write it (two passes where they do not): no
object per header but the two byte strings and their tuple. All are linear in the head's length: what is repeated
starts and ends with characters that nothing else in it may be. (Possessive quantifiers stand on character sets only:
on groups, CPython before 3.11.5 gets them wrong, and Debian 12 has 3.11.2.)

LIMITS, where we are stricter than the RFC allows us to be: no obs-fold (RFC 9112 5.2 lets a proxy replace it),
no empty line before a request (2.2), no identical repeats of Content-Length (6.3 (5)), no transfer coding but
`chunked` (7), no whitespace in a chunk-size line (7.1.1). Where we are more lenient: a status line may lack the
space before an absent reason (4), which says nothing about framing.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from appliance.model.errors import PeerError
from appliance.wire.http1_events import Header

MAX_LENGTH: Final = 2**63 - 1  # bytes; the largest body a signed 64-bit counter can hold
MAX_METHOD: Final = 32  # bytes
CHUNK_EXTENSION: Final = 256  # bytes of extension on one chunk-size line
MAX_INFORMATIONAL: Final = 16  # 1xx responses to one request

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 5.6.2 tchar
_VALUE: Final = rb"[\t -~\x80-\xff]"  # RFC 9110 5.5: field-vchar, SP, HTAB

# RFC 9112 3: request-line = method SP request-target SP HTTP-version. Targets are ASCII without `#` (3.2)
REQUEST_LINE: Final = re.compile(rb"(" + TOKEN + rb'{1,32}+) ([!"$-~]++) HTTP/1\.([01])\r\n')
# RFC 9112 4: status-line
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (" + _VALUE + rb"*+))?\r\n")
# RFC 9112 5: *( field-name ":" OWS field-value OWS CRLF ) CRLF
_FIELD_LINES: Final = re.compile(rb"(?:" + TOKEN + rb"++:" + _VALUE + rb"*+\r\n)*\r\n")
_SPLIT: Final = re.compile(rb"([^:\r]++):[ \t]*+([^\r]*+)\r\n")
# The same as nearly all senders write it: one space after the colon, none at the end. A match is one whole line, so
# that as many matches as lines says that every line was matched, in the pass that splits them
_USUAL_LINE: Final = re.compile(rb"(?m)^(" + TOKEN + rb"++): ([!-~\x80-\xff][\t -~\x80-\xff]*+)(?<![\t ])\r\n")
IS_TOKEN: Final = re.compile(TOKEN + rb"++")
IS_VALUE: Final = re.compile(_VALUE + rb"*+")
IS_LENGTH: Final = re.compile(rb"[0-9]{1,19}")

# RFC 9112 3.2.2, http and https only; userinfo is refused (RFC 9110 4.2.4)
ABSOLUTE: Final = re.compile(rb"(?i:(https?))://([^/?@\\]+)([/?].*)?")
AUTHORITY: Final = re.compile(rb"[A-Za-z0-9.\-_\[\]:]+")

# Repeats of these are refused: each has one value, and two readers may pick different ones
SINGLE: Final = frozenset(
    (
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"expect",
        b"host",
        b"location",
        b"proxy-authorization",
        b"range",
        b"transfer-encoding",
        b"upgrade",
    )
)
# RFC 9110 6.5.1: fields that steer framing, routing, authentication or content handling do not travel in trailers
NOT_IN_TRAILERS: Final = frozenset(
    (
        b"age",
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"expires",
        b"forwarded",
        b"host",
        b"http2-settings",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"keep-alive",
        b"location",
        b"max-forwards",
        b"origin",
        b"pragma",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"vary",
        b"www-authenticate",
    )
)


def fields_of(data: bytes, start: int, end: int, max_headers: int) -> tuple[list[Header], dict[bytes, bytes], bool]:
    """The field section `data[start:end]`, which ends with its empty line, as `(headers, combined, usual)`.

    `headers` holds names as sent and values without optional whitespace; `combined` maps each lower-case name to
    its value, repeats joined by ", " (RFC 9110 5.3). `usual`: every line is `name: value` with one space. Raises
    PeerError.
    """
    headers: list[Header] = _USUAL_LINE.findall(data, start, end)
    usual = len(headers) + 1 == data.count(b"\n", start, end)
    if not usual:
        if _FIELD_LINES.fullmatch(data, start, end) is None:
            _refuse_fields(data[start:end])
        headers = [(name, value.rstrip(b" \t")) for name, value in _SPLIT.findall(data, start, end)]
    if len(headers) > max_headers:
        raise PeerError("too-many-headers", f"a head has more than {max_headers} header fields")
    combined = {name.lower(): value for name, value in headers}
    if len(combined) != len(headers):
        combined = _combine(headers)
    return headers, combined, usual


def _combine(headers: list[Header]) -> dict[bytes, bytes]:
    combined: dict[bytes, bytes] = {}
    parts: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        parts.setdefault(name.lower(), []).append(value)
    for key, values in parts.items():
        if len(values) > 1 and key in SINGLE:
            raise PeerError("repeated-header", f"the header {key.decode()} is sent more than once")
        combined[key] = b", ".join(values)
    return combined


def _refuse_fields(section: bytes) -> NoReturn:
    """Say what is wrong with a field section that did not match: names the fault, never shows the bytes."""
    refuse_line_ends(section)
    for line in section[:-4].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            raise PeerError("obs-fold", "a header line starts with whitespace (obsolete line folding)")
        if not colon:
            raise PeerError("bad-header", "a header line has no colon")
        if not name:
            raise PeerError("bad-header-name", "a header has an empty name")
        if name[-1:] in (b" ", b"\t"):
            raise PeerError("space-before-colon", "there is whitespace between a header's name and its colon")
        if IS_TOKEN.fullmatch(name) is None:
            raise PeerError("bad-header-name", "a header's name has a character that is not allowed in a token")
        if IS_VALUE.fullmatch(value) is None:
            raise PeerError("bad-header-value", "a header's value has a control character")
    raise PeerError("bad-header", "the header section is malformed")


def refuse_line_ends(section: bytes | bytearray) -> None:
    """Raises PeerError if there is a LF without CR before it, or a CR without LF after it (RFC 9112 2.2).
    A CR that is the last byte may still be completed."""
    pairs = section.count(b"\r\n")
    if section.count(b"\n") != pairs:
        raise PeerError("bare-lf", "a line ends in LF without CR")
    if section.count(b"\r") - section.endswith(b"\r") != pairs:
        raise PeerError("bare-cr", "there is a CR without LF")


def length_of(value: bytes) -> int:
    """Content-Length (RFC 9110 8.6): digits only, one value, at most 2**63-1. Raises PeerError."""
    if IS_LENGTH.fullmatch(value) is None:
        raise PeerError("bad-content-length", "Content-Length is not one plain decimal number")
    length = int(value)
    if length > MAX_LENGTH:
        raise PeerError("bad-content-length", "Content-Length is larger than 2**63-1")
    return length


def check_coding(value: bytes, version: int, combined: dict[bytes, bytes]) -> None:
    """Transfer-Encoding must be exactly `chunked`, in HTTP/1.1, without Content-Length (RFC 9112 6.1, 6.3)."""
    if b"content-length" in combined:
        raise PeerError("ambiguous-framing", "both Transfer-Encoding and Content-Length are sent")
    if version == 0:
        raise PeerError("ambiguous-framing", "Transfer-Encoding is sent in an HTTP/1.0 message")
    if value.lower() != b"chunked":
        raise PeerError("bad-transfer-encoding", "Transfer-Encoding is not exactly `chunked`")


# Fields that every recipient needs: to list one in Connection is an attempt to have it dropped (RFC 9110 7.6.1)
NOT_OPTIONS: Final = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"range",
        b"set-cookie",
        b"trailer",
        b"transfer-encoding",
    )
)

# What most peers send, so that no list is split for them. Value: (close, keep-alive, upgrade)
_OPTIONS: Final[dict[bytes, tuple[bool, bool, bool]]] = {
    b"keep-alive": (False, True, False),
    b"Keep-Alive": (False, True, False),
    b"close": (True, False, False),
    b"Upgrade": (False, False, True),
    b"upgrade": (False, False, True),
}


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list of tokens, lower case (RFC 9110 5.6.1; empty members ignored).
    Raises PeerError if a member is not a token."""
    found = [part for part in (piece.strip(b" \t").lower() for piece in value.split(b",")) if part]
    for part in found:
        if IS_TOKEN.fullmatch(part) is None:
            raise PeerError("bad-header-value", "a list of tokens has a member that is not a token")
    return found


def connection_options(value: bytes) -> tuple[bool, bool, bool]:
    """`(close, keep-alive, upgrade)` of a Connection field (RFC 9110 7.6.1). Raises PeerError."""
    known = _OPTIONS.get(value)
    if known is not None:
        return known
    options = tokens(value)
    if not NOT_OPTIONS.isdisjoint(options):
        raise PeerError("bad-connection", "Connection names a field that is not for one hop only")
    return b"close" in options, b"keep-alive" in options, b"upgrade" in options


def upgrade_of(combined: dict[bytes, bytes], version: int) -> str:
    """The one protocol that a message upgrades to, lower case; "" if none. To be asked only if the
    connection option is there; in HTTP/1.0 the field says nothing (RFC 9110 7.8). Raises PeerError for a list."""
    value = combined.get(b"upgrade")
    if value is None or version == 0:
        return ""
    name = value.lower()
    if re.fullmatch(TOKEN + rb"+(?:/" + TOKEN + rb"+)?", name) is None:
        raise PeerError("bad-upgrade", "Upgrade does not name exactly one protocol")
    return name.decode("ascii")


def refuse_start_line(head: bytes, request: bool) -> NoReturn:
    """Say what is wrong with a first line that did not match."""
    line, _, _ = head.partition(b"\r\n")
    refuse_line_ends(line)
    if not line:
        raise PeerError("bad-start-line", "there is an empty line where a message should start")
    if request:
        parts = line.split(b" ")
        if len(parts) != 3:
            raise PeerError("bad-start-line", "the request line is not `method target version`")
        method, target, version = parts
        if len(method) > MAX_METHOD or IS_TOKEN.fullmatch(method) is None:
            raise PeerError("bad-method", "the method is not a token of at most 32 characters")
        if re.fullmatch(rb"HTTP/1\.[01]", version) is None:
            raise PeerError("bad-version", "the version is not HTTP/1.1 or HTTP/1.0")
        if not target or re.fullmatch(rb'[!"$-~]+', target) is None:
            raise PeerError("bad-target", "the request target has a character that is not allowed")
    if not request and re.match(rb"HTTP/1\.[01] ", line) is None:
        raise PeerError("bad-version", "the response is not of HTTP/1.1 or HTTP/1.0")
    raise PeerError("bad-start-line", "the first line is malformed")


Form = str


def target_form(method: bytes, target: bytes) -> Form:
    """`origin`, `absolute`, `authority` or `asterisk` (RFC 9112 3.2). Raises PeerError."""
    if method == b"CONNECT":
        if AUTHORITY.fullmatch(target) is None:
            raise PeerError("bad-target", "CONNECT needs host:port as its target")
        return "authority"
    if target[0] == 0x2F:
        return "origin"
    if target == b"*":
        if method != b"OPTIONS":
            raise PeerError("bad-target", "the target * is for OPTIONS only")
        return "asterisk"
    if ABSOLUTE.fullmatch(target) is None:
        raise PeerError("bad-target", "the target is neither a path nor an http(s) URL without userinfo")
    return "absolute"
