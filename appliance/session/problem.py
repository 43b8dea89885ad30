"""Saying no in HTTP: `application/problem+json` (RFC 9457) with the rule, the reason and how to ask.

The one seam where our error families become answers of an agent's own protocol.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, PeerError
from appliance.model.ids import FlowId
from appliance.wire.http1 import write_response

_REASONS = {
    400: b"Bad Request",
    403: b"Forbidden",
    408: b"Request Timeout",
    421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
_TITLES = {
    "denied": "Coatcheck denied this",
    "peer": "Coatcheck does not understand this request",
    "upstream": "The destination could not be used",
    "appliance": "Coatcheck cannot serve this now",
}


class Problem(Struct, frozen=True, omit_defaults=True):
    """What the agent is told. `rule` names what refused; `ask` says how to get it allowed."""

    type: str
    title: str
    status: int
    detail: str
    rule: str = ""
    ask: str = ""
    flow: str = ""


def problem_of(error: CoatcheckError, flow: FlowId, ask: str) -> Problem:
    """`error` as the agent is told of it. `ask`: the host's own sentence on how to ask, if the rule has none."""
    if isinstance(error, Denied):
        status = 421 if error.rule == "host-mismatch" else 403
        kind = f"urn:coatcheck:denied:{error.rule}"
        return Problem(kind, _TITLES["denied"], status, error.reason, error.rule, error.ask or ask, flow)
    if isinstance(error, PeerError):
        status = 502 if error.code.startswith("upstream") else 431 if error.code == "head-too-large" else 400
        title = _TITLES["upstream" if status == 502 else "peer"]
        return Problem(f"urn:coatcheck:peer:{error.code}", title, status, str(error), flow=flow)
    if isinstance(error, EnvironmentFailed):
        status, title = _environment(error.code)
        return Problem(f"urn:coatcheck:unavailable:{error.code}", title, status, str(error), flow=flow)
    detail = "an error within Coatcheck; its log says more"
    return Problem("urn:coatcheck:internal", _TITLES["appliance"], 502, detail, flow=flow)


def _environment(code: str) -> tuple[int, str]:
    if code in ("upstream-timeout", "upstream-slow"):
        return 504, _TITLES["upstream"]
    if code.startswith("upstream"):
        return 502, _TITLES["upstream"]
    if code == "secret-unavailable":
        return 502, _TITLES["appliance"]
    if code == "request-slow":
        return 408, _TITLES["peer"]
    return 503, _TITLES["appliance"]


def answer(problem: Problem, *, head_only: bool, keep_alive: bool) -> bytes:
    """The whole response to the agent; `head_only` for HEAD (RFC 9110 9.3.2)."""
    body = msgspec.json.encode(problem) + b"\n"
    headers = [(b"Content-Type", b"application/problem+json"), (b"Cache-Control", b"no-store")]
    head = write_response(problem.status, _REASONS[problem.status], headers, "length", len(body), close=not keep_alive)
    return head if head_only else head + body
