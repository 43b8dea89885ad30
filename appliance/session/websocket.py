"""WebSocket messages on their way to the agent: scrubbed across fragments, and out as soon as a message is complete.

A plain stream would hold back a message's last bytes if a secret could begin with them, until the server speaks again,
which it may do only when the agent has answered. No secret goes on in another message, so a message's end lets go.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from appliance.model.errors import PeerError
from appliance.placeholders.scrub import Scrubber, ScrubStream
from appliance.wire.websocket import FrameEnd, FrameHead, FrameReader

_MOST_WAITING: Final = 1024  # frames that stand behind bytes that are held back


class MessageScrubber:
    """What `feed` and `flush` return is what goes to the agent; no frame changes its length. `count`: occurrences."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._frames = FrameReader()
        self._stream: ScrubStream = scrubber.stream()
        self._between: deque[tuple[int, bytes]] = deque()  # what stands before byte n of the message's payload
        self._fed = 0  # bytes of the message's payload that came
        self._sent = 0  # of these, how many went on
        self._head: FrameHead | None = None
        self._control = b""
        self._counted = 0

    @property
    def count(self) -> int:
        return self._counted + self._stream.count

    def feed(self, data: bytes) -> bytes:
        """Raises PeerError for what is no WebSocket."""
        parts: list[bytes] = []
        for event in self._frames.feed(data):
            if isinstance(event, FrameHead):
                self._head, self._control = event, b""
                if not event.control:
                    self._between.append((self._fed, event.raw))
            elif isinstance(event, FrameEnd):
                self._frame_ends(parts)
            elif self._head is not None and self._head.control:
                self._control += event
            else:
                self._fed += len(event)
                self._send(self._stream.feed(event), parts)
        self._send(b"", parts)
        if len(self._between) > _MOST_WAITING:
            raise PeerError("websocket", "too many WebSocket frames without an end of their message")
        return b"".join(parts)

    def flush(self) -> bytes:
        """What is held, at the connection's end."""
        parts: list[bytes] = []
        self._send(self._stream.flush(), parts)
        return b"".join(parts)

    def _frame_ends(self, parts: list[bytes]) -> None:
        head = self._head
        if head is not None and head.control:
            payload, found = self._scrubber.text(self._control)
            self._counted += found
            self._between.append((self._fed, head.raw + payload))
        elif head is not None and head.final:
            self._send(self._stream.flush(), parts)
            self._counted += self._stream.count
            self._stream = self._scrubber.stream()
            self._fed = self._sent = 0

    def _send(self, payload: bytes, parts: list[bytes]) -> None:
        """`payload`, with the heads and control frames that stand before and within it."""
        position = 0
        while self._between and self._between[0][0] <= self._sent + len(payload) - position:
            before, raw = self._between.popleft()
            step = before - self._sent
            parts += (payload[position : position + step], raw)
            position += step
            self._sent = before
        parts.append(payload[position:])
        self._sent += len(payload) - position
