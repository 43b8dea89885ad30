"""llhttp (through httptools) as the second opinion: what both accept, both must understand alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import httptools

from appliance.wire.http1 import END, Event, RequestHead, ResponseHead, Trailers


@dataclass
class Message:
    first: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class _Callbacks:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.done = True

    def on_message_begin(self) -> None:
        self.messages.append(Message())
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.messages[-1].first += url

    def on_status(self, status: bytes) -> None:
        self.messages[-1].first += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self.messages[-1].headers.append((name, value.rstrip(b" \t")))  # llhttp leaves OWS at the end

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.done = True


def requests(data: bytes) -> list[Message] | None:
    """What llhttp makes of these bytes; None if it refuses them, or is not finished."""
    seen = _Callbacks()
    try:
        httptools.HttpRequestParser(seen).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return seen.messages if seen.done else None


def responses(data: bytes) -> list[Message] | None:
    seen = _Callbacks()
    try:
        httptools.HttpResponseParser(seen).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return seen.messages if seen.done else None


def ours(events: list[Event]) -> list[Message]:
    """Our events in the same form (llhttp gives trailers as headers)."""
    messages: list[Message] = []
    for event in events:
        if isinstance(event, RequestHead):
            messages.append(Message(event.target, list(event.headers)))
        elif isinstance(event, ResponseHead):
            messages.append(Message(event.reason, list(event.headers)))
        elif isinstance(event, bytes):
            messages[-1].body += event
        elif isinstance(event, Trailers):
            messages[-1].headers += event.headers
        elif event is not END:
            raise AssertionError(f"an unknown event: {event!r}")
    return messages
