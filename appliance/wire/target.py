"""Request targets (RFC 3986, RFC 9112 3.2): a path that policy can match, query pieces that go out as they came in.

A path has one meaning or is refused. Servers differ over `//` (some merge slashes), dot segments, `\\` and `..;`; a
rule on `/admin/**` must not be passed by `//admin`, so all of these are refused, encoded or plain, and so are encoded
controls. What is left is put in one form: unreserved characters decoded, hex digits upper case, those that RFC 3986
does not allow raw (`"<>[]^`{|}`) encoded. That form is for policy; the raw bytes are what is forwarded.

`%2F` has two meanings: a character within a segment (npm's `/@scope%2Fname`, GitLab's `/projects/group%2Fname`), and a
slash to servers that decode first. It stays `%2F`; what would be refused if it were a slash is refused (empty and dot
segments beside it), and policy's patterns take it for whichever is worse (`appliance.policy.globs`).

LIMITS. `;` does not separate query pieces. `+` in a query name is a space (as in forms).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, final
from urllib.parse import unquote_to_bytes

from appliance.model.errors import PeerError
from appliance.wire.http1_grammar import ABSOLUTE

MAX_PIECES: Final = 1000  # pieces of one query

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PCHAR: Final = rb"[A-Za-z0-9\-._~!$&'()*+,;=:@]"
_DOTS: Final = rb"(?!\.{1,2}(?:[/;]|%3B|\Z))"
# The common case: nothing encoded, no empty segment but the last, no dot segment
_PLAIN: Final = re.compile(rb"(?:/" + _DOTS + _PCHAR + rb"+)*/?")
_NORMAL: Final = re.compile(rb"(?:/" + _DOTS + rb"(?:" + _PCHAR + rb"|%[0-9A-F]{2})+)*/?")
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_REFUSED: Final = re.compile(rb"%(?:[01][0-9A-F]|7F|5C)|\\")
_RAW: Final = re.compile(rb'["<>\[\]^`{|}]')
_QUERY: Final = re.compile(rb'[!"$-~]*')


@final
class Target:
    """`path`: for policy, "*" for the asterisk form. `raw_path` and `query` (without "?"): as sent. `has_query` tells
    "/x?" from "/x"."""

    __slots__ = ("has_query", "path", "query", "raw_path")

    def __init__(self, path: str, raw_path: bytes, query: bytes, has_query: bool) -> None:
        self.path: Final = path
        self.raw_path: Final = raw_path
        self.query: Final = query
        self.has_query: Final = has_query

    def with_query(self, query: bytes) -> bytes:
        """The target again, with this query in place of its own."""
        return self.raw_path + b"?" + query if self.has_query or query else self.raw_path


class Piece(NamedTuple):
    """One `name=value` of a query. `value` is None if there is no "=". `name` is decoded, `raw_*` are as sent."""

    raw_name: bytes
    raw_value: bytes | None
    name: str


def split_absolute(target: bytes) -> tuple[str, bytes, bytes]:
    """`(scheme, authority, origin-form)` of an absolute-form target (RFC 9112 3.2.2). Raises PeerError."""
    match = ABSOLUTE.fullmatch(target)
    if match is None:
        raise PeerError("bad-target", "the target is not an http(s) URL without userinfo")
    scheme, authority, rest = match.groups()
    if rest is None:
        rest = b"/"
    return scheme.lower().decode("ascii"), authority, rest if rest[:1] == b"/" else b"/" + rest


def parse_target(target: bytes) -> Target:
    """An origin-form target ("/path?query") or "*". Raises PeerError."""
    if target == b"*":
        return Target("*", target, b"", False)
    raw, mark, query = target.partition(b"?")
    if raw[:1] != b"/":
        raise PeerError("bad-target", "a target does not start with a slash")
    if query and (_QUERY.fullmatch(query) is None or (b"%" in query and _BAD_PERCENT.search(query) is not None)):
        raise PeerError("bad-target", "a query has a character that is not allowed, or a malformed percent escape")
    path = raw if _PLAIN.fullmatch(raw) is not None else _normal(raw)
    return Target(path.decode("ascii"), raw, query, bool(mark))


def _normal(raw: bytes) -> bytes:
    if _BAD_PERCENT.search(raw) is not None:
        raise PeerError("bad-target", "a path has a malformed percent escape")
    path = _RAW.sub(lambda found: b"%%%02X" % found[0][0], _PERCENT.sub(_decode, raw))
    if _REFUSED.search(path) is not None:
        raise PeerError("ambiguous-path", "a path has a backslash or an encoded control character")
    decoded = path.replace(b"%2F", b"/")
    if b"//" in decoded:
        raise PeerError("ambiguous-path", "a path has an empty segment")
    if _NORMAL.fullmatch(decoded) is None:
        if re.search(rb"/\.{1,2}(?:[/;]|%3B|\Z)", decoded) is not None:
            raise PeerError("ambiguous-path", "a path has a dot segment")
        raise PeerError("bad-target", "a path has a character that is not allowed")
    return path


def _decode(found: re.Match[bytes]) -> bytes:
    code = int(found[1], 16)
    return bytes((code,)) if code in _UNRESERVED else found[0].upper()


def query_pieces(query: bytes) -> list[Piece]:
    """The pieces between `&`, in order; `join_query` gives the same bytes again. Raises PeerError."""
    if not query:
        return []
    parts = query.split(b"&")
    if len(parts) > MAX_PIECES:
        raise PeerError("bad-target", f"a query has more than {MAX_PIECES} parameters")
    pieces: list[Piece] = []
    for part in parts:
        name, mark, value = part.partition(b"=")
        pieces.append(Piece(name, value if mark else None, _name(name)))
    return pieces


def _name(raw: bytes) -> str:
    if b"%" not in raw and b"+" not in raw:
        return raw.decode("ascii")
    if _BAD_PERCENT.search(raw) is not None:
        raise PeerError("bad-target", "a query has a malformed percent escape")
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("ascii")  # not text: stays as it was written, so that different names stay different


def join_query(pieces: Iterable[Piece]) -> bytes:
    """The bytes that these pieces were read from, but for values that were replaced."""
    return b"&".join(
        [piece.raw_name if piece.raw_value is None else piece.raw_name + b"=" + piece.raw_value for piece in pieces]
    )


def query_names(pieces: Iterable[Piece]) -> tuple[str, ...]:
    """The decoded names, sorted, without repeats; pieces that are empty between two `&` do not count."""
    return tuple(sorted({piece.name for piece in pieces if piece.raw_name or piece.raw_value is not None}))
