"""Saying no in PostgreSQL: ErrorResponse with SQLSTATE, the reason, the rule, and how to ask.

The one seam where our error families become answers of this protocol (PostgreSQL documentation, 55.8 and appendix A).
"""

from __future__ import annotations

from typing import Final

from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, PeerError
from appliance.model.ids import FlowId
from appliance.wire.postgres import read, write

_DENIED: Final = "42501"  # insufficient_privilege
_STATES: Final = {
    # rules that are built in, and what PostgreSQL itself says in that case
    "password-not-placeholder": "28P01",
    "placeholder-expired": "28P01",
    "placeholder-used-up": "28P01",
    "placeholder-revoked": "28P01",
    "placeholder-foreign": "28P01",
    "startup": "28000",
    "canceled": "57014",
    "kept-per-job": "53200",
    "max-rows": "54000",
    "max-bytes": "54000",
    "policy-changed": "57P01",
    "unknown-statement": "26000",
    "unknown-portal": "34000",
    "unknown-cursor": "34000",
}


class Refused(CoatcheckError):
    """The server said no, in its own words: an ErrorResponse, whole."""

    def __init__(self, raw: bytes) -> None:
        report = read.report(raw[5:])
        super().__init__(f"the server refuses the session: {report.message.decode('utf-8', 'replace')}")
        self.raw = raw
        self.sqlstate = report.sqlstate


def state_of(denied: Denied, *, fatal: bool = False) -> str:
    """The SQLSTATE of a denial."""
    return _STATES.get(denied.rule, "28000" if fatal else _DENIED)


def refusal(error: CoatcheckError, flow: FlowId, ask: str, *, fatal: bool = False) -> bytes:
    """`error` as an ErrorResponse. `ask`: the host's own sentence on how to ask, if the rule has none. `fatal`: the
    session ends with it, as every error before its start does."""
    severity = "FATAL" if fatal else "ERROR"
    if isinstance(error, Denied):
        return write.error(
            severity,
            state_of(error, fatal=fatal),
            f"Coatcheck denied this: {error.reason}",
            detail=f"rule {error.rule}, flow {flow}",
            hint=error.ask or ask,
        )
    if isinstance(error, PeerError):
        state = "08P01" if not error.code.startswith("upstream") else "08006"
        return write.error(severity, state, f"Coatcheck: {error}", detail=f"{error.code}, flow {flow}")
    if isinstance(error, EnvironmentFailed):
        state = "08001" if error.code.startswith("upstream") else "58000"
        return write.error(severity, state, f"Coatcheck: {error}", detail=f"{error.code}, flow {flow}")
    return write.error(
        severity, "XX000", "Coatcheck: an error within Coatcheck; its log says more", detail=f"flow {flow}"
    )
