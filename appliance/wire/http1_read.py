"""HTTP/1.1 readers: bytes in, events out, no I/O (RFC 9112).

    RequestReader   bytes from an agent   -> RequestHead, body bytes, Trailers, END, …
    ResponseReader  bytes from an upstream -> ResponseHead, body bytes, Trailers, END, …

Any chunking of the same bytes gives the same events, but that body bytes may be cut differently. Whatever is not
plainly right is a PeerError; a reader that raised stays dead. Events that one `feed` found before the fault are
not returned: nothing of a connection that turned out bad goes further.

A reader holds back at most one unfinished head (`max_head` bytes), or one unfinished chunk-size line, or one
unfinished trailer section, plus what a single `feed` gave it. Body bytes are never held.

Why not httptools here: its callbacks take 1.1 us for a head of 7 fields, and the strict checks (bare LF, Host,
lengths, repeated fields) need a second pass over the same bytes and a second opinion on where lines end; one `re`
pass that validates and splits takes 0.9 us, and there is one opinion. It cannot be told of HEAD either.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, NoReturn, final

from appliance.model.errors import InternalError, PeerError
from appliance.model.recurring import Recurring
from appliance.wire.http1_body import Body
from appliance.wire.http1_events import END, Event, Framing, Header, RequestHead, ResponseHead
from appliance.wire.http1_grammar import (
    MAX_INFORMATIONAL,
    REQUEST_LINE,
    STATUS_LINE,
    check_coding,
    connection_options,
    fields_of,
    length_of,
    refuse_line_ends,
    refuse_start_line,
    target_form,
    upgrade_of,
)

_REMEMBERED: Final = 512  # field sections
_LARGEST: Final = 4096  # bytes of one that is remembered


class _Section(NamedTuple):
    """What the field section of an HTTP/1.1 request says, whatever its first line is."""

    headers: list[Header]
    fields: dict[bytes, bytes]
    framing: Framing
    length: int
    keep_alive: bool
    upgrade: str
    raw: bytes
    expect_continue: bool
    te_trailers: bool


class Sections:
    """The field sections that readers of the same limits meet again. A client sends the same fields with request after
    request: the same bytes mean the same, so they are read twice, and then no more."""

    __slots__ = ("_known", "get")

    def __init__(self) -> None:
        self._known: Recurring[bytes, _Section] = Recurring(_REMEMBERED)
        self.get = self._known.get

    def remember(self, section: _Section) -> None:
        if len(section.raw) <= _LARGEST:
            self._known.put(section.raw, section)


class _Reader:
    """What both readers share: the bytes held back, and death."""

    def __init__(self, max_head: int, max_headers: int) -> None:
        self._max_head = max_head
        self._max_headers = max_headers
        self._body = Body(max_head, max_headers)
        self._held = b""
        self._scanned = 0  # how much of _held is known not to end a head
        self._dead: PeerError | None = None

    @property
    def held(self) -> int:
        """Bytes that are held back, waiting for more."""
        return len(self._held)

    def _head_end(self, data: bytes, start: int) -> int:
        """Where the head that starts at `start` ends (after its empty line); -1 if it is not all there yet."""
        end = data.find(b"\r\n\r\n", start + self._scanned)
        if end >= 0:
            if end + 4 - start > self._max_head:
                raise PeerError("head-too-large", f"a head is larger than {self._max_head} bytes")
            self._scanned = 0
            return end + 4
        if len(data) - start > self._max_head:
            raise PeerError("head-too-large", f"a head is larger than {self._max_head} bytes")
        begin = start + self._scanned
        if self._scanned and data.startswith(b"\n", begin):
            begin += 1  # its CR was seen before
        refuse_line_ends(data[begin:])
        self._scanned = max(0, len(data) - start - 3)
        if data.startswith(b"\r\n", start):
            raise PeerError("bad-start-line", "there is an empty line where a message should start")
        return -1

    def _die(self, error: PeerError) -> NoReturn:
        self._dead = error
        self._held = b""
        raise error


@final
class RequestReader(_Reader):
    """Reads the requests of one connection. `max_head`: bytes of a head, or of a trailer section, at most;
    `max_headers`: fields at most. `sections`: shared by readers of the same limits; without, none is remembered.

    A request that asks for an upgrade, or CONNECT, pauses the reader after its END: `paused` is True and what
    follows stays in `leftover`, because only the answer says which protocol it is in. `resume()` goes on in HTTP.
    """

    def __init__(self, max_head: int, max_headers: int, sections: Sections | None = None) -> None:
        super().__init__(max_head, max_headers)
        self._sections = sections
        self._in_body = False
        self._last = False  # after the request in hand the connection ends
        self._pausing = False
        self.paused = False

    @property
    def leftover(self) -> bytes:
        """The bytes after the request that paused the reader."""
        return self._held if self.paused else b""

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order. Raises PeerError."""
        if self._dead is not None:
            raise self._dead
        if self._held:
            data = self._held + data
        try:
            return self._read(data)
        except PeerError as error:
            self._die(error)

    def resume(self) -> list[Event]:
        """The upgrade was not accepted: read on, with what was left over. Raises PeerError."""
        if not self.paused:
            raise InternalError("resume() of a reader that is not paused")
        self.paused = False
        self._pausing = False
        held, self._held = self._held, b""
        return self.feed(held)

    def eof(self) -> list[Event]:
        """The peer sends no more. Raises PeerError("truncated") in the middle of a message."""
        if self._dead is not None:
            raise self._dead
        if self._in_body or (self._held and not self.paused):
            self._die(PeerError("truncated", "the connection ended in the middle of a request"))
        return []

    def _read(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        position = 0
        size = len(data)
        while True:
            if self._in_body:
                position = self._body.read(data, position, events)
                if not self._body.done:
                    break
                self._in_body = False
                events.append(END)
                self.paused = self._pausing
            if self.paused:
                if size - position > self._max_head:
                    raise PeerError("data-after-upgrade", "too many bytes follow a request for an upgrade")
                break
            if position >= size:
                break
            if self._last:
                raise PeerError("data-after-close", "bytes follow a request that was said to be the last")
            end = self._head_end(data, position)
            if end < 0:
                break
            head = self._head(data, position, end)
            position = end
            events.append(head)
            self._last = not head.keep_alive
            self._pausing = head.upgrade != "" or head.form == "authority"
            if head.framing == "none":
                events.append(END)
                self.paused = self._pausing
            else:
                self._body.start(head.framing, head.length)
                self._in_body = True
        self._held = data[position:] if position else data
        return events

    def _head(self, data: bytes, start: int, end: int) -> RequestHead:
        line = REQUEST_LINE.match(data, start, end)
        if line is None:
            refuse_start_line(data[start:end], request=True)
        method, target, minor = line.groups()
        raw = data[line.end() : end]
        version = 0 if minor == b"0" else 1
        sections = self._sections if version else None
        section = None if sections is None else sections.get(raw)
        if section is None:
            section = _section(raw, version, self._max_headers)
            if sections is not None:
                sections.remember(section)
        headers, fields, framing, length, keep_alive, upgrade, raw, expect_continue, te_trailers = section
        return RequestHead(
            headers,
            fields,
            version,
            framing,
            length,
            keep_alive,
            upgrade,
            raw,
            method.decode("ascii"),
            target,
            "origin" if target[0] == 0x2F and method != b"CONNECT" else target_form(method, target),
            expect_continue,
            te_trailers,
        )


def _section(raw: bytes, version: int, max_headers: int) -> _Section:
    headers, fields, _ = fields_of(raw, 0, len(raw), max_headers)
    get = fields.get
    if (version and b"host" not in fields) or get(b"host") == b"":
        raise PeerError("missing-host", "an HTTP/1.1 request needs exactly one Host that is not empty")
    framing, length = _request_framing(fields, version)
    option = get(b"connection")
    keep_alive = version == 1
    upgrade = ""
    if option is not None:
        close, keep, asked = connection_options(option)
        keep_alive = not close and (version == 1 or keep)
        if asked:
            upgrade = upgrade_of(fields, version)
    expect = get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise PeerError("bad-expect", "Expect is not 100-continue")
    te = get(b"te")
    return _Section(
        headers,
        fields,
        framing,
        length,
        keep_alive,
        upgrade,
        raw,
        expect is not None and version == 1,
        te is not None and b"trailers" in tokens_of_te(te),
    )


def tokens_of_te(value: bytes) -> list[bytes]:
    """The codings named by a TE field, without weights (RFC 9110 10.1.4)."""
    return [part.partition(b";")[0].strip(b" \t").lower() for part in value.split(b",")]


def _request_framing(fields: dict[bytes, bytes], version: int) -> tuple[Framing, int]:
    """RFC 9112 6.3, for requests: chunked, a length, or no body."""
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        check_coding(coding, version, fields)
        return "chunked", -1
    length = fields.get(b"content-length")
    if length is not None:
        return "length", length_of(length)
    return "none", -1


@final
class ResponseReader(_Reader):
    """Reads the responses of one connection. Each must have been announced with `expect`, in the order of the
    requests. After 101, or a 2xx to CONNECT, `upgraded` is True, END has been given, and `leftover` holds what
    followed; feed() then takes nothing more."""

    def __init__(self, max_head: int, max_headers: int) -> None:
        super().__init__(max_head, max_headers)
        self._expected: deque[tuple[str, bool]] = deque()
        self._in_body = False
        self._last = False
        self._informational = 0
        self._last_head: ResponseHead | None = None
        self._last_method = ""  # of the request that it answered
        self.upgraded = False

    @property
    def leftover(self) -> bytes:
        """The bytes after the head that ended HTTP."""
        return self._held if self.upgraded else b""

    def expect(self, method: str, upgrade: bool = False) -> None:
        """A request with this method was sent. `upgrade`: it asked for one; else 101 is refused."""
        self._expected.append((method, upgrade))

    def forget(self) -> None:
        """Lets go of the last head, which may hold what nobody should keep."""
        self._last_head = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order. Raises PeerError."""
        if self._dead is not None:
            raise self._dead
        if self.upgraded:
            raise InternalError("feed() of a reader whose connection no longer speaks HTTP")
        if self._held:
            data = self._held + data
        try:
            return self._read(data)
        except PeerError as error:
            self._die(error)

    def eof(self) -> list[Event]:
        """The peer sends no more: ends a body that has no length (RFC 9112 8). Raises PeerError "truncated" in the
        middle of a message, "closed-before-response" if a response is owed and none of it came."""
        if self._dead is not None:
            raise self._dead
        if self._in_body and self._body.until_close:
            self._in_body = False
            return [END]
        if self.upgraded:
            return []
        if self._in_body or self._held or self._informational:
            self._die(PeerError("truncated", "the connection ended in the middle of a response"))
        if self._expected:
            self._die(PeerError("closed-before-response", "the connection ended before the response"))
        return []

    def _read(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        position = 0
        size = len(data)
        while True:
            if self._in_body:
                position = self._body.read(data, position, events)
                if not self._body.done:
                    break
                self._in_body = False
                events.append(END)
            if position >= size or self.upgraded:
                break
            if self._last or not self._expected:
                raise PeerError("unexpected-response", "bytes came that no request asked for")
            end = self._head_end(data, position)
            if end < 0:
                break
            head = self._head(data, position, end)
            position = end
            events.append(head)
            if head.informational:
                self._informational += 1
                if self._informational > MAX_INFORMATIONAL:
                    raise PeerError("too-many-1xx", f"more than {MAX_INFORMATIONAL} informational responses")
                continue
            self._informational = 0
            self._expected.popleft()
            self._last = not head.keep_alive
            if head.framing == "none":
                events.append(END)
            elif head.framing == "length" and 0 < head.length <= size - position:  # all there, as most are
                events.append(data[position : position + head.length])
                position += head.length
                events.append(END)
            else:
                self._body.start(head.framing, head.length)
                self._in_body = True
        self._held = data[position:] if position else data
        return events

    def _head(self, data: bytes, start: int, end: int) -> ResponseHead:
        """A server repeats itself (304, 204, an answer that has not changed): the same bytes mean the same."""
        method, asked = self._expected[0]
        head = self._last_head
        if head is None or method != self._last_method or data[start:end] != head.raw:
            head = self._read_head(data, start, end, method, asked)
            self._last_head, self._last_method = head, method
        return head

    def _read_head(self, data: bytes, start: int, end: int, method: str, asked: bool) -> ResponseHead:
        line = STATUS_LINE.match(data, start, end)
        if line is None:
            refuse_start_line(data[start:end], request=False)
        minor, code, reason = line.groups()
        version = 1 if minor == b"1" else 0
        status = int(code)
        headers, fields, usual = fields_of(data, line.end(), end, self._max_headers)
        framing, length = _response_framing(fields, version, status, method)
        option = fields.get(b"connection")
        keep_alive = version == 1
        upgrade = ""
        if option is not None:
            close, keep, offered = connection_options(option)
            keep_alive = not close and (version == 1 or keep)
            if offered:
                upgrade = upgrade_of(fields, version)
        if status == 101:
            if not asked or not upgrade:
                raise PeerError("unexpected-upgrade", "101 to a request that did not ask, or without Upgrade")
            self.upgraded = True
        elif method == "CONNECT" and 200 <= status < 300:
            self.upgraded = True
        return ResponseHead(
            headers,
            fields,
            version,
            framing,
            length,
            keep_alive and framing != "close",
            upgrade,
            data[start:end] if usual else b"",
            status,
            reason or b"",
            status < 200 and status != 101,
        )


def _response_framing(fields: dict[bytes, bytes], version: int, status: int, method: str) -> tuple[Framing, int]:
    """RFC 9112 6.3, for responses. What may have no body may not announce one either (1xx, 204, 2xx to CONNECT)."""
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        check_coding(coding, version, fields)
    announced = fields.get(b"content-length")
    length = -1 if announced is None else length_of(announced)
    if status < 200 or status == 204 or (method == "CONNECT" and status < 300):
        if coding is not None or length > 0:
            raise PeerError("ambiguous-framing", "a response that cannot have a body announces one")
        return "none", length
    if method == "HEAD" or status == 304:
        return "none", length
    if coding is not None:
        return "chunked", -1
    return ("close", -1) if announced is None else ("length", length)
