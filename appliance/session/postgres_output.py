"""What the agent gets of a PostgreSQL session: the server's messages as they came, others in their place, and ours.

Secrets are not in it: placeholders of the same length are in their place, because messages say how long they are.
"""

from __future__ import annotations

from typing import final

from appliance.session.postgres_steps import Scrub
from appliance.wire.postgres import Frame, Piece


@final
class Output:
    __slots__ = ("_from", "_partial", "_parts", "_said", "_segment", "_tail", "_to", "scrub")

    def __init__(self, scrub: Scrub | None) -> None:
        self.scrub = scrub
        self._parts: list[bytes] = []
        self._segment: bytes = b""  # what goes on as it came: `_segment[_from:_to]`
        self._from = 0
        self._to = 0
        self._partial = False  # the agent has a part of a message
        self._tail = b""  # of that message, what may be the beginning of a secret
        self._said: list[bytes] = []  # by us, for when it is whole

    def pass_on(self, frame: Frame) -> None:
        """As it came."""
        if isinstance(frame, Piece):
            self._pass_piece(frame)
            return
        if self._to == frame.start and self._segment is frame.data:
            self._to = frame.end
            return
        self.flush()
        self._segment, self._from, self._to = frame.data, frame.start, frame.end

    def _pass_piece(self, piece: Piece) -> None:
        """What may be the beginning of a secret waits for the message's next piece."""
        self.flush()
        scrub = self.scrub
        data = self._tail + piece.raw
        keep = 0
        if scrub is not None:
            data = scrub(data)
            keep = 0 if piece.last else min(scrub.longest, len(data))
        self._tail = data[len(data) - keep :] if keep else b""
        self._parts.append(data[: len(data) - keep] if keep else data)
        self._partial = not piece.last
        if piece.last and self._said:
            self._parts += self._said
            self._said = []

    def replace(self, data: bytes) -> None:
        """Whole messages, in place of one of the server's."""
        self.flush()
        self._send(data)

    def say(self, data: bytes) -> None:
        """A message of ours, at once or after the server's that the agent has a part of."""
        (self._said if self._partial else self._parts).append(data)

    def flush(self) -> None:
        """After the last of several frames."""
        if self._to:
            whole = self._from == 0 and self._to == len(self._segment)
            segment, start, end = self._segment, self._from, self._to
            self._segment, self._from, self._to = b"", 0, 0
            self._send(segment if whole else segment[start:end])

    def _send(self, data: bytes) -> None:
        self._parts.append(data if self.scrub is None else self.scrub(data))

    def take(self) -> bytes:
        """What is to be sent now."""
        parts = self._parts
        if not parts:
            return b""
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)
