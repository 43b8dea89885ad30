"""HTTP/1.1 both ways: any chunking has the same fate; what was read and is written again is read as the same; what
llhttp accepts too, it reads alike."""

from __future__ import annotations

import random

from appliance.model.errors import PeerError
from appliance.wire.http1 import (
    Event,
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
    end_to_end,
    write_response,
)
from tests.fuzz.runner import Harness, main
from tests.wire import llhttp
from tests.wire.exchanges import REQUESTS, RESPONSES, write_request

MAX_HEAD = 4096
TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"\xff"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Host: b\r\n", b"Connection: close\r\n", b"%00"),
    *(
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"HEAD",
        b"CONNECT",
        b"Upgrade: x\r\n",
        b"Connection: upgrade\r\n",
        b"ffffffffffffffff",
    ),
]


def fate(reader: RequestReader | ResponseReader, pieces: list[bytes]) -> list[Event] | None:
    """The events, body bytes put together; None if refused."""
    events: list[Event] = []
    try:
        for piece in pieces:
            if isinstance(reader, ResponseReader) and reader.upgraded:
                break
            for event in reader.feed(piece):
                if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                    events[-1] += event
                else:
                    events.append(event)
            if reader.held > MAX_HEAD + len(piece):
                raise AssertionError(f"{reader.held} bytes are held back")
        events += reader.eof()
    except PeerError:
        return None
    return events


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    pieces = []
    position = 0
    while position < len(data):
        size = chance.choice((1, 2, 3, 10, 100, 1000))
        pieces.append(data[position : position + size])
        position += size
    return pieces


def check_requests(data: bytes, chance: random.Random) -> None:
    whole = fate(RequestReader(MAX_HEAD, 50), [data])
    if fate(RequestReader(MAX_HEAD, 50), cut(data, chance)) != whole:
        raise AssertionError("another chunking has another fate")
    second_opinion = None if whole is None else llhttp.requests(data)
    if whole is not None and second_opinion is not None and llhttp.ours(whole) != second_opinion:
        raise AssertionError(f"llhttp reads it differently: {second_opinion}")
    for head in whole or []:
        if isinstance(head, RequestHead):
            kept = end_to_end(head)
            framing = "length" if head.framing == "length" else "chunked" if head.framing == "chunked" else "none"
            again = write_request(head.method, head.target, kept, framing, head.length)
            second = RequestReader(2 * MAX_HEAD, 60).feed(again)[0]
            if not isinstance(second, RequestHead) or end_to_end(second) != kept or second.target != head.target:
                raise AssertionError("what is written is not what was read")


def check_responses(data: bytes, chance: random.Random) -> None:
    methods = chance.choices(("GET", "HEAD", "POST", "CONNECT"), weights=(6, 1, 6, 1), k=4)

    def fresh() -> ResponseReader:
        reader = ResponseReader(MAX_HEAD, 50)
        for method in methods:
            reader.expect(method, upgrade=method == "GET")
        return reader

    whole = fate(fresh(), [data])
    if fate(fresh(), cut(data, chance)) != whole:
        raise AssertionError("another chunking has another fate")
    second_opinion = llhttp.responses(data) if whole is not None and set(methods) <= {"GET", "POST"} else None
    if whole is not None and second_opinion is not None and llhttp.ours(whole) != second_opinion:
        raise AssertionError(f"llhttp reads it differently: {second_opinion}")
    for head in whole or []:
        if isinstance(head, ResponseHead):
            write_response(head.status, head.reason, end_to_end(head), "none")


REQUEST = Harness("http1 requests", REQUESTS, TOKENS, check_requests)
RESPONSE = Harness("http1 responses", [data for _, data in RESPONSES], TOKENS, check_responses)

if __name__ == "__main__":
    main(REQUEST, RESPONSE)
