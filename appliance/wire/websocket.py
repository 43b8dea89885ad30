"""WebSocket frames from a server (RFC 6455 5.2), as far as a scrubber must know them: where each begins and ends.

Bytes in, events out: a FrameHead, its payload in any number of pieces, then FRAME_END. Held back is at most one
unfinished head (14 bytes).
"""

from __future__ import annotations

from typing import Final, final

from msgspec import Struct

from appliance.model.errors import PeerError

_FIN: Final = 0x80
_RESERVED: Final = 0x70  # 5.2: must be 0 unless an extension was negotiated, and none is
_MASK: Final = 0x80
_CONTINUATION: Final = 0
_CLOSE: Final = 8  # opcodes from here on are control frames (5.5)
_MOST_CONTROL: Final = 125  # bytes of a control frame's payload


class FrameHead(Struct, frozen=True):
    """`raw`: the head's bytes. `length`: bytes of payload."""

    raw: bytes
    final: bool  # the last frame of its message
    control: bool
    length: int


@final
class FrameEnd:
    """After the last byte of a frame's payload."""


FRAME_END: Final = FrameEnd()
FrameEvent = FrameHead | bytes | FrameEnd


class FrameReader:
    def __init__(self) -> None:
        self._held = b""
        self._left = -1  # bytes of payload still to come; -1: a head is next
        self._fragmented = False  # a message is under way

    def feed(self, data: bytes) -> list[FrameEvent]:
        """The events that these bytes complete, in order. Raises PeerError; what a server must not send could hide
        something from the scrubber."""
        if self._held:
            data, self._held = self._held + data, b""
        events: list[FrameEvent] = []
        position = 0
        while True:
            if self._left < 0:
                head = self._head(data, position)
                if head is None:
                    break
                events.append(head)
                position += len(head.raw)
                self._left = head.length
            piece = data[position : position + self._left]
            if piece:
                events.append(piece)
                position += len(piece)
                self._left -= len(piece)
            if self._left:
                break
            events.append(FRAME_END)
            self._left = -1
        self._held = data[position:]
        return events

    def _head(self, data: bytes, start: int) -> FrameHead | None:
        if len(data) < start + 2:
            return None
        first, second = data[start], data[start + 1]
        if first & _RESERVED:
            raise PeerError("websocket", "a WebSocket frame uses an extension that was not agreed on")
        if second & _MASK:
            raise PeerError("websocket", "a server's WebSocket frame is masked (RFC 6455 5.1)")
        size = {126: 2, 127: 8}.get(second, 0)
        end = start + 2 + size
        if len(data) < end:
            return None
        length = int.from_bytes(data[start + 2 : end], "big") if size else second
        if length >> 63:
            raise PeerError("websocket", "a WebSocket frame is longer than 2**63-1 bytes")
        final, opcode = bool(first & _FIN), first & 0x0F
        control = opcode >= _CLOSE
        if control and (not final or length > _MOST_CONTROL):
            raise PeerError("websocket", "a WebSocket control frame is too long, or cut in parts (RFC 6455 5.5)")
        if not control:
            if (opcode == _CONTINUATION) != self._fragmented:
                raise PeerError("websocket", "WebSocket messages are mixed up (RFC 6455 5.4)")
            self._fragmented = not final
        return FrameHead(data[start:end], final, control, length)
