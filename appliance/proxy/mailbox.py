"""What a connection brings, for a coroutine that asks for one message after the other: PostgreSQL's logins."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from appliance.model.errors import PeerError
from appliance.wire.postgres import MAX_START, Frame, Frames, Message, Start, parse_start

MOST: Final = 1 << 20  # bytes that nobody has asked for yet


class Mailbox:
    """`frames`: of this direction. `whose` ("agent", "server") names the peer in errors. Who sends more than anybody
    asks for is given up: neither side has reason to."""

    def __init__(self, frames: Frames, whose: str, most: int = MOST) -> None:
        self.frames = frames
        self._most = most
        self._whose = whose
        self._raw = b""
        self._framed = False
        self._inbox: deque[Frame] = deque()
        self._size = 0  # bytes in `_inbox`; each message counts as 64 more
        self._error: PeerError | None = None
        self._waiter: asyncio.Future[None] | None = None

    # ---- for the sink ----

    def put(self, data: bytes) -> None:
        if self._error is not None:
            return
        if not self._framed:
            self._raw += data
            if len(self._raw) > MAX_START + 65536:
                self.fail(PeerError("postgres-start", "too much came before the session began"))
        else:
            self._feed(data)
        self._wake()

    def fail(self, error: PeerError) -> None:
        """Nothing more will come."""
        if self._error is None:
            self._error = error
        self._wake()

    # ---- for the coroutine ----

    async def raw(self, count: int) -> bytes:
        """The next `count` bytes, before any message. Raises PeerError."""
        while len(self._raw) < count:
            await self._more()
        taken, self._raw = self._raw[:count], self._raw[count:]
        return taken

    async def start(self) -> Start:
        """The packet that begins a session; messages follow it. Raises PeerError."""
        while True:
            start = parse_start(self._raw)
            if not isinstance(start, int):
                break
            await self._more()
        self._raw = self._raw[start.consumed :]
        self.begin_messages()
        return start

    def begin_messages(self) -> None:
        """From here on messages come."""
        self._framed = True
        rest, self._raw = self._raw, b""
        if rest:
            self._feed(rest)

    async def message(self) -> Message:
        """The next message. Raises PeerError."""
        while not self._inbox:
            await self._more()
        frame = self._take()
        if not isinstance(frame, Message):
            raise PeerError("postgres-state", f"the {self._whose} sends data before the session has begun")
        return frame

    async def frame(self) -> Frame:
        """The next frame, of any kind. Raises PeerError."""
        while not self._inbox:
            await self._more()
        return self._take()

    @property
    def empty(self) -> bool:
        return not self._raw and not self._inbox

    def rest(self) -> list[Frame]:
        """What has come and was not asked for. Raises PeerError."""
        if self._error is not None:
            raise self._error
        rest = list(self._inbox)
        self._inbox.clear()
        self._size = 0
        return rest

    def _take(self) -> Frame:
        frame = self._inbox.popleft()
        self._size -= _size_of(frame)
        return frame

    def _feed(self, data: bytes) -> None:
        if self._error is not None:
            return
        try:
            frames = self.frames.feed(data)
        except PeerError as error:
            self.fail(error)
            return
        self._inbox.extend(frames)
        self._size += sum(map(_size_of, frames))
        if self._size > self._most:
            self.fail(PeerError("postgres-flood", f"the {self._whose} sends more than it was asked for"))
            self._inbox.clear()

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _size_of(frame: Frame) -> int:
    return frame.end - frame.start + 64
