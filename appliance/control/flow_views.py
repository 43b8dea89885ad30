"""Flows as the admin API shows them. Apart from `flows`, which is compiled: Structs are not."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.model.record import Record


class FlowView(Struct):
    """One flow as `GET /flows` shows it."""

    flow: str
    job: str
    principal: str
    pid: int
    uid: int
    exe: str
    host: str
    address: str
    port: int
    protocol: str
    decision: str
    rule: str
    reason: str
    opened: float  # seconds since the epoch
    closed: float = 0.0
    end: str = ""
    operations: int = 0
    denied: int = 0
    swapped: int = 0
    last: str = ""  # the last operation: method, host and path, or the statement without its constants
    sent: int = 0
    received: int = 0


class FlowEvent(Struct, frozen=True, omit_defaults=True):
    """One line of `GET /flows?follow=1`. `lost`: so many events before this one were dropped for this follower."""

    event: Literal["open", "opened", "session", "operation", "answered", "closed", "refused"]
    flow: FlowView | None = None
    record: Record | None = None
    lost: int = 0
