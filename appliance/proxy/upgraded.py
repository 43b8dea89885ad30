"""A connection that left HTTP by an upgrade that policy let through (WebSocket): bytes both ways.

What comes back is scrubbed: WebSocket message by message (a server's frames are not masked, RFC 6455 5.1, and
compression was not offered), any other protocol as a plain stream. What goes out is only watched.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.model.errors import PeerError
from appliance.placeholders.scrub import Scrubber, ScrubStream
from appliance.placeholders.slots import StrayWatcher
from appliance.proxy.channel import Line
from appliance.session.websocket import MessageScrubber

Ended = Callable[[str], None]


class Upgraded:
    """Takes both channels over. `ended` is called once, with "eof" or a fixed word, when either end is gone."""

    def __init__(
        self,
        protocol: str,
        agent: Line,
        upstream: Line,
        scrubber: Scrubber,
        watcher: StrayWatcher,
        ended: Ended,
    ) -> None:
        self._stream: MessageScrubber | ScrubStream = (
            MessageScrubber(scrubber) if protocol == "websocket" and scrubber.active else scrubber.stream()
        )
        self._watcher = watcher
        self._ended: Ended | None = ended
        self.agent = agent
        self.upstream = upstream
        self.sent = 0
        self.received = 0
        agent.attach(_Way(self, self.to_upstream, upstream))
        upstream.attach(_Way(self, self.to_agent, agent))

    @property
    def scrubbed(self) -> int:
        return self._stream.count

    @property
    def stray(self) -> tuple[str, ...]:
        return tuple(self._watcher.seen)

    def to_upstream(self, data: bytes) -> None:
        self.sent += len(data)
        self._watcher.feed(data)
        self.upstream.write(data)

    def to_agent(self, data: bytes) -> None:
        if self._ended is None:
            return
        self.received += len(data)
        try:
            scrubbed = self._stream.feed(data)
        except PeerError as error:
            self.agent.abort()
            self.end("upstream-" + error.code)
            return
        self.agent.write(scrubbed)

    def end(self, word: str) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            self.agent.write(self._stream.flush())
            self.agent.close()
            self.upstream.close()
            ended(word)


class _Way:
    """The sink of one channel."""

    def __init__(self, pair: Upgraded, forward: Callable[[bytes], None], other: Line) -> None:
        self._pair = pair
        self._forward = forward
        self._other = other

    def received(self, data: bytes) -> None:
        self._forward(data)

    def ended(self, clean: bool) -> None:
        self._pair.end("eof" if clean else "cut")

    def lost(self, error: Exception | None) -> None:
        self._pair.end("reset" if error else "eof")

    def hold(self) -> None:
        self._other.pause()

    def release(self) -> None:
        self._other.resume()
