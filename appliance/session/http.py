"""HTTP/1.1: what a request is to policy, and the heads that go on in either direction.

A request's field section is prepared once for a lease (`prepare`): most clients send the same fields again and again.
`judge` is called once for each request head, with everything already at hand (prepared fields, decider). Nothing here
does I/O, or decides by itself but what HTTP demands: a request must be for the destination that its flow was opened to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol, final

from appliance.model.errors import Denied, PeerError
from appliance.model.placeholder import LeasedPlaceholder
from appliance.model.verdict import Operation, Verdict
from appliance.placeholders.coding import CODINGS
from appliance.placeholders.slots import Swapper
from appliance.wire.http1 import (
    Framing,
    Header,
    RequestHead,
    ResponseHead,
    end_to_end,
    write_fields,
    write_request_line,
    write_response,
)
from appliance.wire.names import split_host_port
from appliance.wire.target import parse_target, query_names, query_pieces, split_absolute

Used = tuple[tuple[str, LeasedPlaceholder], ...]


class Decider(Protocol):
    def verdict(self, operation: Operation) -> Verdict: ...


@final
class Prepared:
    """A field section under one lease. `lines` are for the upstream, with their empty line: they carry the secret where
    a placeholder stood, are written to the verified upstream and go nowhere else. `named` is what Host says."""

    __slots__ = ("candidates", "content_type", "credentials", "lines", "named", "stray", "upgrade", "used")

    def __init__(
        self,
        lines: bytes,
        named: tuple[str, int] | None,
        content_type: str,
        upgrade: str,
        credentials: tuple[str, ...],
        used: Used,
        stray: tuple[str, ...],
        candidates: tuple[bytes, ...],
    ) -> None:
        self.lines: Final = lines
        self.named: Final = named
        self.content_type: Final = content_type
        self.upgrade: Final = upgrade
        self.credentials: Final = credentials
        self.used: Final = used
        self.stray: Final = stray
        self.candidates: Final = candidates

    def __repr__(self) -> str:
        return f"Prepared({self.named!r}, credentials={self.credentials!r}, …)"


@final
class Judged:
    """A request with its verdict. `head`, for the upstream, carries the secret as `Prepared.lines` do. `path` is for
    the record; there is never a secret or a placeholder in it."""

    __slots__ = ("candidates", "lines", "operation", "path", "stray", "target", "used", "verdict")

    def __init__(
        self,
        operation: Operation,
        verdict: Verdict,
        path: str,
        target: bytes,
        lines: bytes,
        used: Used,
        stray: tuple[str, ...],
        candidates: tuple[bytes, ...],
    ) -> None:
        self.operation: Final = operation
        self.verdict: Final = verdict
        self.path: Final = path
        self.target: Final = target
        self.lines: Final = lines
        self.used: Final = used
        self.stray: Final = stray
        self.candidates: Final = candidates

    def head(self) -> bytes:
        """The head for the upstream."""
        return write_request_line(self.operation.method, self.target) + self.lines

    def __repr__(self) -> str:
        return f"Judged({self.operation!r}, {self.verdict!r}, …)"


def prepare(head: RequestHead, swapper: Swapper, *, scrubbed: bool, allow_range: bool, default_port: int) -> Prepared:
    """The head's fields for the upstream. With `scrubbed`, nothing is asked for that could not be scrubbed when it
    comes back: no part of a body unless `allow_range` (RFC 9110 14.2 lets a server ignore Range), no coding that we
    cannot undo, no WebSocket compression (RFC 7692). Raises PeerError for a malformed Host, or two content
    types."""
    host = head.get(b"host")
    named = split_host_port(host, default_port) if host else None
    swap = swapper.swap(end_to_end(head), b"")
    # h2c is an offer that may be passed over (RFC 9110 7.8); what it would become could not be judged
    upgrade = "" if head.upgrade == "h2c" else head.upgrade
    lines = write_fields(
        _scrubbable(swap.headers, allow_range) if scrubbed and not _ASKING.isdisjoint(head.fields) else swap.headers,
        "none" if head.framing == "close" else head.framing,
        head.length,
        upgrade=upgrade,
        te_trailers=head.te_trailers,
    )
    return Prepared(
        lines=lines,
        named=named,
        content_type=_media_type(head.get(b"content-type")),
        upgrade=upgrade,
        credentials=_names(swap.used),
        used=tuple(swap.used),
        stray=tuple(swap.stray),
        candidates=tuple(swap.candidates),
    )


def split_target(head: RequestHead) -> tuple[bytes, bytes]:
    """(authority, origin-form) of a request's target; the authority is empty for all but absolute-form.
    Raises PeerError."""
    if head.form != "absolute":
        return b"", head.target
    return split_absolute(head.target)[1:]


def check_host(
    head: RequestHead, authority: bytes, prepared: Prepared, host: str, port: int, default_port: int
) -> None:
    """SNI, Host, an absolute target and the dialled port must agree. Raises Denied("host-mismatch") or PeerError."""
    if head.method == "CONNECT":
        raise Denied("no-connect", "CONNECT asks for a proxy; connections are taken as they are, without one")
    if prepared.named == (host, port) and not authority:
        return
    for named in (prepared.named, split_host_port(authority, default_port) if authority else None):
        if named is not None and named != (host, port):
            raise Denied(
                "host-mismatch",
                f"the request is for {named[0]}:{named[1]}, but the connection was opened to {host}:{port}",
            )
    if prepared.named is None and not authority:
        raise PeerError("missing-host", "the request names no host")


def judge(head: RequestHead, origin: bytes, prepared: Prepared, swapper: Swapper, decider: Decider) -> Judged:
    """The operation, its verdict, and what would be forwarded if it is allowed. `origin`: the target in origin-form.

    Raises PeerError for a target that cannot be read in one way only.
    """
    target = parse_target(origin)
    query = target.query
    used, stray, candidates, credentials = prepared.used, prepared.stray, prepared.candidates, prepared.credentials
    path = target.path
    in_path = swapper.stands_in(target.raw_path)
    if in_path:
        path = swapper.named(path)
    if query or in_path:
        swap = swapper.swap([], query, target.raw_path)
        if swap.used:
            used += tuple(swap.used)
            credentials = _names(used)
        stray += tuple(swap.stray)
        candidates += tuple(swap.candidates)
        if swap.query is not query:
            origin = target.with_query(swap.query)
    operation = Operation(
        "http",
        head.method,
        target.path,
        query_names(query_pieces(query)) if query else (),
        prepared.content_type,
        prepared.upgrade,
        credentials,
    )
    return Judged(operation, decider.verdict(operation), path, origin, prepared.lines, used, stray, candidates)


def _names(used: Sequence[tuple[str, LeasedPlaceholder]]) -> tuple[str, ...]:
    return tuple(sorted({name for name, _ in used}))


def _media_type(value: bytes | None) -> str:
    """type/subtype in lower case, without parameters (RFC 9110 8.3.1). Raises PeerError for two of them (8.3: servers
    differ over which one counts)."""
    if value and b"," in value and b"," in _QUOTED.sub(b"", value):
        raise PeerError("content-type", "the request has more than one content type")
    return value.split(b";", 1)[0].strip().lower().decode("latin-1") if value else ""


_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')


# ---- heads that go on ----

_ACCEPTED = frozenset(coding.encode() for coding in CODINGS) | {b"identity", b"*"}


_ASKING = frozenset((b"accept-encoding", b"sec-websocket-extensions", b"range", b"if-range"))


def _scrubbable(headers: list[Header], allow_range: bool) -> list[Header]:
    kept: list[Header] = []
    for field in headers:
        name = field[0].lower()
        if name == b"accept-encoding":
            tokens = [t.strip() for t in field[1].split(b",")]
            good = [t for t in tokens if t.split(b";", 1)[0].strip().lower() in _ACCEPTED]
            if len(good) != len(tokens):
                field = (field[0], b", ".join(good) or b"identity")
        elif name == b"sec-websocket-extensions" or (name in (b"range", b"if-range") and not allow_range):
            continue
        kept.append(field)
    return kept


def response_framing(head: ResponseHead, *, length_changes: bool, version: int) -> Framing:
    """How the body goes on to an agent of HTTP/1.`version`: as it came, unless scrubbing may change its length or the
    agent does not know chunks."""
    if head.framing == "none":
        return "none"
    if head.framing == "length" and not length_changes:
        return "length"
    return "chunked" if version == 1 else "close"


def response_head(head: ResponseHead, headers: list[Header], reason: bytes, framing: Framing, *, close: bool) -> bytes:
    """The head for the agent; `headers` and `reason` are end to end and scrubbed already."""
    if framing == "none" and head.length >= 0 and not head.informational and head.status != 204:
        framing = "length"  # announced, not sent: HEAD, 304
    return write_response(
        head.status,
        reason,
        headers,
        framing,
        head.length,
        close=close,
        upgrade=head.upgrade if head.status == 101 else "",
    )
