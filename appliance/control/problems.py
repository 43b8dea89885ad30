"""Errors as application/problem+json (RFC 9457): the one seam between our families and HTTP, on the admin socket."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, PeerError

JSON = "application/json"
PROBLEM = "application/problem+json"


def answer(value: Any, status: int = 200) -> Response:
    """`value` (builtins and Structs) as JSON; never cached, since answers may hold tokens."""
    return Response(msgspec.json.encode(value), status, {"cache-control": "no-store"}, JSON)


def problem(status: int, code: str, detail: str, ask: str = "") -> Response:
    """`code`: a fixed word for programs; `detail`: a sentence for people."""
    body = {"type": "about:blank", "title": _TITLES.get(status, "error"), "status": status, "code": code}
    body |= {"detail": detail} | ({"ask": ask} if ask else {})
    return Response(msgspec.json.encode(body), status, {"cache-control": "no-store"}, PROBLEM)


_TITLES = {
    400: "the request is wrong",
    403: "refused",
    404: "there is no such thing",
    405: "not with this method",
    409: "not in this state",
    413: "the request is too large",
    422: "the policy is wrong",
    500: "an error of ours; see the log",
    503: "something that is needed is missing",
}
_NOT_THERE = frozenset({"no-job", "no-secret"})


def problem_of(error: CoatcheckError) -> Response:
    match error:
        case Denied():
            return problem(404 if error.rule in _NOT_THERE else 403, error.rule, error.reason, error.ask)
        case PeerError():
            return problem(413 if error.code == "too-large" else 400, error.code, str(error))
        case EnvironmentFailed():
            return problem(503, error.code, str(error))
        case _:
            return problem(500, "internal", "see the log of the control process")
