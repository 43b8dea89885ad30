"""One response on its way to the agent: headers and body scrubbed, framed anew, held back when the agent is slow.

A body without content coding goes through in the same turn of the loop. A coded one is undone, scrubbed and coded
again piece by piece: a bomb of a few kilobytes is as much work as its plain size, so pieces are taken a few at a
time, the loop runs in between, and the upstream is paused meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from appliance.model.errors import CoatcheckError, EnvironmentFailed, PeerError
from appliance.placeholders.coding import ContentScrubber, parse_content_encoding
from appliance.placeholders.scrub import Scrubber, ScrubStream
from appliance.proxy.channel import Line
from appliance.session.http import response_framing, response_head
from appliance.wire.http1 import Framing, Header, ResponseHead, as_it_came, chunk, end_to_end, last_chunk

_PIECES_A_TURN = 4  # of up to 256 KiB each

Failed = Callable[[CoatcheckError], None]


def write_whole(client: Line, scrubber: Scrubber, head: ResponseHead, body: bytes, *, keep_alive: bool) -> bool:
    """Writes a response that came in one piece, if nothing in it must change. False: nothing was written."""
    if head.framing != "length" or head.status == 206 or (b"content-encoding" in head.fields and scrubber.active):
        return False
    raw = as_it_came(head, close=not keep_alive)
    if not raw or not scrubber.clean(raw) or not scrubber.clean(body):
        return False
    client.write(raw + body)
    return True


class ResponseWriter:
    """`head`, `body` and `end` in this order; `done` is True once all is written, and `on_done` is called if that
    happens later than in `end`. `on_failed` is called at most once, for a body that cannot be scrubbed."""

    _stream: ScrubStream | None = None
    _content: ContentScrubber | None = None
    _pieces: Iterator[bytes] | None = None
    _framing: Framing = "none"
    _left = 0  # bytes of a body of known length
    _trailers: Sequence[Header] = ()
    _ended = False
    _scheduled = False
    begun = False  # something of the final response is on its way
    busy = False  # coded pieces wait: send no more until `done` or not busy
    done = False
    held = False
    scrubbed = 0

    def __init__(
        self, client: Line, scrubber: Scrubber, version: int, on_done: Callable[[], None], on_failed: Failed
    ) -> None:
        self._client = client
        self._scrubber = scrubber
        self._version = version
        self._on_done = on_done
        self._on_failed = on_failed
        self._parts: list[bytes] = []

    def informational(self, head: ResponseHead) -> None:
        """A 1xx on its way (RFC 9110 15.2); an agent of HTTP/1.0 gets none."""
        if self._version == 1:
            headers, count = self._scrubber.headers(end_to_end(head))
            self.scrubbed += count
            self._parts.append(response_head(head, headers, b"", "none", close=False))

    def switching(self, head: ResponseHead) -> None:
        """The 101 after which the connection no longer speaks HTTP."""
        self.begun = True
        headers, count = self._scrubber.headers(end_to_end(head))
        self.scrubbed += count
        self._parts.append(response_head(head, headers, b"Switching Protocols", "none", close=False))

    def head(self, head: ResponseHead, *, keep_alive: bool, partial: bool) -> bool:
        """Writes the head; answers whether the agent's connection may stay open.

        Raises PeerError("upstream-…") for a body that could not be scrubbed; nothing is written then.
        """
        length_changes = False
        if head.framing != "none" and self._scrubber.active:
            try:
                codings = parse_content_encoding(head.get_all(b"content-encoding"))
            except CoatcheckError as error:
                raise PeerError("upstream-coding", str(error)) from None
            if codings:
                if head.status == 206:
                    raise PeerError("upstream-coded-range", "a part of a coded body cannot be scrubbed")
                try:
                    self._content = ContentScrubber(codings, self._scrubber)
                    self._coded: deque[bytes] = deque()
                except CoatcheckError as error:
                    raise PeerError("upstream-coding", str(error)) from None
                length_changes = True
            else:
                self._stream = self._scrubber.stream()  # each form keeps its length
            if head.status == 206 and not partial:
                raise PeerError("upstream-range", "the server sent a part of the body although none was asked for")
        framing = self._framing = response_framing(head, length_changes=length_changes, version=self._version)
        self._left = head.length
        keep_alive = keep_alive and framing != "close"
        raw = as_it_came(head, close=not keep_alive) if framing == head.framing else b""
        if raw and self._scrubber.clean(raw):
            self._parts.append(raw)
        else:
            headers, count = self._scrubber.headers(end_to_end(head))
            reason, in_reason = self._scrubber.text(head.reason)
            self.scrubbed += count + in_reason
            self._parts.append(response_head(head, headers, reason, framing, close=not keep_alive))
        self.begun = True
        return keep_alive

    def body(self, data: bytes) -> None:
        if self._content is not None:
            self._coded.append(data)
            self._take_pieces()
            return
        if self._stream is not None:
            last = self._framing == "length" and self._left == self._stream.held + len(data)
            data = self._stream.flush(data) if last else self._stream.feed(data)
        self._put(data)

    def end(self, trailers: Sequence[Header]) -> None:
        self._ended = True
        self._trailers = trailers
        if self._content is not None:
            self._take_pieces()
        else:
            if self._stream is not None:
                self._put(self._stream.flush())
                self.scrubbed += self._stream.count
            self._finish()

    def flush(self) -> None:
        """Hands what is ready to the channel in one write."""
        parts = self._parts
        if parts:
            self._client.write(parts[0] if len(parts) == 1 else b"".join(parts))
            parts.clear()

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        if self._content is not None and not self.done:
            self._later()

    # ---- within ----

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self._framing == "chunked":
            self._parts.append(chunk(data))
            return
        if self._framing == "length":
            self._left -= len(data)
            if self._left < 0:
                raise PeerError("upstream-length", "the scrubbed body is longer than its announced length")
        self._parts.append(data)

    def _finish(self) -> None:
        if self._framing == "length" and self._left:
            raise PeerError("upstream-length", "the scrubbed body is shorter than its announced length")
        if self._framing == "chunked":
            trailers, count = self._scrubber.headers(list(self._trailers))
            self.scrubbed += count
            self._parts.append(last_chunk(trailers))
        self.done = True

    def _later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._scheduled = False
        if self.done or self._client.closing:
            return
        try:
            self._take_pieces()
        except CoatcheckError as error:
            self._on_failed(error)
            return
        except Exception:  # the seam: a codec's own exception must not reach the loop
            self._on_failed(EnvironmentFailed("coding", "the body's content coding could not be undone"))
            return
        self.flush()
        self._on_done()

    def _take_pieces(self) -> None:
        """Codes a few pieces; what is left is taken in a later turn of the loop."""
        content = self._content
        assert content is not None  # noqa: S101  # callers' condition
        for _ in range(_PIECES_A_TURN):
            if self.held:
                self.busy = True
                return
            piece = self._next_piece(content)
            if piece is None:
                self.busy = False
                if self._ended:
                    self.scrubbed += content.count
                    self._finish()
                return
            self._put(piece)
        self.busy = True
        self._later()

    def _next_piece(self, content: ContentScrubber) -> bytes | None:
        while True:
            if self._pieces is not None:
                piece = next(self._pieces, None)
                if piece is not None:
                    return piece
                self._pieces = None
            if self._coded:
                self._pieces = iter(content.feed(self._coded.popleft()))
            elif self._ended and not content.flushed:
                self._pieces = iter(content.flush())
            else:
                return None
