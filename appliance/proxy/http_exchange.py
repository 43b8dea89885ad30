"""One request and its response, as far as they have come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from appliance.placeholders.scrub import Scrubber
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
    """What is not set in `__init__` starts with the value that stands here: one is made for each request."""

    phase = PREPARING
    judged: Judged | None = None
    writer: ResponseWriter | None = None
    watcher: StrayWatcher | None = None
    scrubber: Scrubber  # from the lease that it was forwarded under
    response_head: ResponseHead | None = None
    request_done = False
    retried = False
    sent = 0  # bytes of the request's body
    received = 0  # bytes of the response's body, as it came
    dropped = 0
    stray: tuple[str, ...] = ()
    trailers: Sequence[Header] = ()
    response_trailers: Sequence[Header] = ()
    put_at = 0.0  # loop time at which its decision went to the recorder

    def __init__(self, number: int, head: RequestHead) -> None:
        self.number = number
        self.head = head
        self.keep_alive = head.keep_alive
        self.started = time.time()

    @property
    def may_retry(self) -> bool:
        """Sending it a second time does no harm: idempotent, without a body, and no byte of an answer has come."""
        return (
            not self.retried
            and self.head.method in _IDEMPOTENT
            and self.head.framing == "none"
            and self.response_head is None
        )
