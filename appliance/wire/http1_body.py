"""Message bodies: by length, chunked, or until the connection ends (RFC 9112 6 and 7). Body bytes pass through;
only an unfinished chunk-size line or trailer section is left for the next call.

Own code rather than httptools: llhttp reports neither the length of chunk extensions nor, through httptools, the
trailers apart from the head's fields, and it cannot be started in the middle of a message.
"""

from __future__ import annotations

import re
from typing import Final, final

from appliance.model.errors import PeerError
from appliance.wire.http1_events import Event, Header, Trailers
from appliance.wire.http1_grammar import (
    CHUNK_EXTENSION,
    MAX_LENGTH,
    NOT_IN_TRAILERS,
    fields_of,
    refuse_line_ends,
)

# RFC 9112 7.1: chunk-size [ chunk-ext ] CRLF, no whitespace around the size
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16}+)(;[\t -~]{0,%d}+)?\r\n" % (CHUNK_EXTENSION - 1))
# What may still become one; group 1 is None while there is not even a digit
_SIZE_BEGUN: Final = re.compile(
    rb"[0-9A-Fa-f]{0,16}+(?:(?<=[0-9A-Fa-f])(?:;[\t -~]{0,%d}+)?\r?)?" % (CHUNK_EXTENSION - 1)
)
_ALL_EXTENSIONS: Final = 16384  # bytes of extensions in one body: more is an attack on our CPU (1-byte chunks)

_DONE, _LENGTH, _CLOSE, _SIZE, _DATA, _AFTER, _TRAILERS = range(7)


@final
class Body:
    """The body of the message in hand, one after the other. `done`: it is complete."""

    __slots__ = ("_extensions", "_left", "_max_head", "_max_headers", "_state", "done")

    def __init__(self, max_head: int, max_headers: int) -> None:
        self._max_head = max_head
        self._max_headers = max_headers
        self._state = _DONE
        self._left = 0  # bytes of the body, or of the chunk, that are still to come
        self._extensions = 0
        self.done = True

    def start(self, framing: str, length: int) -> None:
        """A head was read. `length` in bytes counts for framing "length" only."""
        self.done = False
        self._extensions = 0
        if framing == "length":
            self._state = _LENGTH
            self._left = length
        elif framing == "chunked":
            self._state = _SIZE
        elif framing == "close":
            self._state = _CLOSE
        else:
            self._state = _DONE

    @property
    def until_close(self) -> bool:
        return self._state == _CLOSE

    def read(self, data: bytes, position: int, events: list[Event]) -> int:
        """Append what `data[position:]` holds of the body to `events`; the position of the first byte that was not
        used. `done` says if that is the end of the message. Raises PeerError."""
        state = self._state
        if state == _LENGTH:
            rest = len(data) - position
            left = self._left
            if rest < left:
                if rest:
                    events.append(data[position:])
                    self._left = left - rest
                return position + rest
            if left:
                events.append(data[position : position + left])
                position += left
            self.done = True
            return position
        if state == _DONE:
            self.done = True
            return position
        if state == _CLOSE:
            if position < len(data):
                events.append(data[position:])
            return len(data)
        return self._chunks(data, position, events)

    def _chunks(self, data: bytes, position: int, events: list[Event]) -> int:
        pieces: list[bytes] = []
        size = len(data)
        trailers: list[Header] = []
        while True:
            if self._state == _DATA:
                end = position + self._left
                if end > size:
                    if position < size:
                        pieces.append(data[position:])
                        self._left = end - size
                    position = size
                    break
                pieces.append(data[position:end])
                position = end
                self._state = _AFTER
            if self._state == _AFTER:
                if not data.startswith(b"\r\n", position):
                    if data[position : position + 2] in (b"", b"\r"):
                        break
                    raise PeerError("bad-chunk", "a chunk does not end where its size says")
                position += 2
                self._state = _SIZE
            if self._state == _SIZE:
                after = self._size_line(data, position)
                if after < 0:
                    break
                position = after
            if self._state == _TRAILERS:
                position, trailers = self._trailers(data, position)
                break
        if pieces:
            events.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if trailers:
            events.append(Trailers(trailers))
        return position

    def _size_line(self, data: bytes, position: int) -> int:
        match = _SIZE_LINE.match(data, position)
        if match is None:
            if _SIZE_BEGUN.fullmatch(data, position) is None:
                raise PeerError("bad-chunk-size", "a chunk-size line is malformed, or its extension too long")
            return -1
        digits, extension = match.groups()
        left = int(digits, 16)
        if left > MAX_LENGTH:
            raise PeerError("bad-chunk-size", "a chunk is larger than 2**63-1")
        if extension is not None:
            self._extensions += len(extension)
            if self._extensions > _ALL_EXTENSIONS:
                raise PeerError("bad-chunk-size", "the chunk extensions of one body are too long")
        self._left = left
        self._state = _DATA if left else _TRAILERS
        return match.end()

    def _trailers(self, data: bytes, position: int) -> tuple[int, list[Header]]:
        """RFC 9112 7.1.2: *( field-line CRLF ) CRLF"""
        if data.startswith(b"\r\n", position):
            self.done = True
            return position + 2, []
        end = data.find(b"\r\n\r\n", position)
        if (len(data) if end < 0 else end + 4) - position > self._max_head:
            raise PeerError("head-too-large", f"a trailer section is larger than {self._max_head} bytes")
        if end < 0:
            refuse_line_ends(data[position:])
            return position, []
        headers, combined, _ = fields_of(data, position, end + 4, self._max_headers)
        if not NOT_IN_TRAILERS.isdisjoint(combined):
            raise PeerError("bad-trailer", "a trailer names a field that may not be sent in trailers")
        self.done = True
        return end + 4, headers
