"""One request and its response, as far as they have come."""

from __future__ import annotations

import time
from typing import Final

from appliance.placeholders.slots import StrayWatcher
from appliance.proxy.http_response import ResponseWriter
from appliance.session.http import Judged
from appliance.wire.http1 import Header, RequestHead, ResponseHead

PREPARING: Final = 0
RECORDING: Final = 1
FORWARDING: Final = 2
REFUSED: Final = 3

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))  # RFC 9110 9.2.2


class Exchange:
    __slots__ = (
        "dropped",
        "head",
        "judged",
        "keep_alive",
        "number",
        "origin",
        "phase",
        "put_at",
        "received",
        "request_done",
        "response_head",
        "response_trailers",
        "retried",
        "sent",
        "started",
        "stray",
        "trailers",
        "watcher",
        "writer",
    )

    def __init__(self, number: int, head: RequestHead) -> None:
        self.number = number
        self.head = head
        self.origin = b""  # the target in origin-form
        self.phase = PREPARING
        self.judged: Judged | None = None
        self.writer: ResponseWriter | None = None
        self.watcher: StrayWatcher | None = None
        self.response_head: ResponseHead | None = None
        self.request_done = False
        self.retried = False
        self.keep_alive = head.keep_alive
        self.sent = 0  # bytes of the request's body
        self.received = 0  # bytes of the response's body, as it came
        self.dropped = 0
        self.stray: tuple[str, ...] = ()
        self.trailers: list[Header] = []
        self.response_trailers: list[Header] = []
        self.started = time.time()
        self.put_at = 0.0  # loop time at which its decision went to the recorder

    @property
    def may_retry(self) -> bool:
        """Sending it a second time does no harm: idempotent, without a body, and no byte of an answer has come."""
        return (
            not self.retried
            and self.head.method in _IDEMPOTENT
            and self.head.framing == "none"
            and self.response_head is None
        )
