"""Audit records: typed, apart from logs, and without any secret or placeholder value.

A record travels as MessagePack from the process that saw the event to `control`, which decodes it with these
types (unknown fields refused) and writes it as JSON of its own: a compromised proxy cannot forge the chain's
own fields or smuggle a line break.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from appliance.model.ids import FlowId, JobId

# MessagePack can say "not a number" and "infinite", JSON cannot: such a line could not be read again
Finite = Annotated[float, Meta(ge=-1e15, le=1e15)]


class Record(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", omit_defaults=True):
    """Common to all: `time` is seconds since the epoch at the process that saw it."""

    time: Finite


class FlowOpened(Record, frozen=True, tag="flow.opened"):
    flow: FlowId
    job: JobId
    principal: str
    jti: str
    pid: int
    uid: int
    exe: str
    exe_sha256: str
    address: str
    port: int
    host: str
    protocol: str
    decision: str
    rule: str
    reason: str = ""


class FlowClosed(Record, frozen=True, tag="flow.closed"):
    flow: FlowId
    sent: int  # bytes from the agent
    received: int  # bytes to the agent
    operations: int
    end: str  # fixed word: eof, error code, denied


class OperationDecided(Record, frozen=True, tag="operation.decided"):
    """Handed over before the operation happens."""

    flow: FlowId
    operation: int  # counts from 1 within the flow
    method: str
    host: str
    path: str
    decision: str
    rule: str
    reason: str = ""
    swapped: tuple[str, ...] = ()  # names of secrets
    stray: tuple[str, ...] = ()  # "secret@place": placeholders seen where they may not stand, left as they are


class OperationEnded(Record, frozen=True, tag="operation.ended"):
    flow: FlowId
    operation: int
    status: int
    sent: int
    received: int
    duration_ms: Finite
    scrubbed: int = 0
    stray: tuple[str, ...] = ()  # found in the body after the decision was recorded
    error: str = ""


class SessionStarted(Record, frozen=True, tag="session.started"):
    """A PostgreSQL session, logged in to with the credential."""

    flow: FlowId
    database: str
    user: str
    server_version: str
    tls: bool  # towards the server
    swapped: tuple[str, ...] = ()  # names of secrets


class StatementDecided(Record, frozen=True, tag="statement.decided"):
    """Handed over before the statement happens."""

    flow: FlowId
    operation: int  # counts from 1 within the flow
    command: str
    statement: str  # without constants, unless policy asks for more
    decision: str
    rule: str
    reason: str = ""
    tables: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


class StatementEnded(Record, frozen=True, tag="statement.ended"):
    flow: FlowId
    operation: int
    rows: int
    received: int  # bytes
    duration_ms: Finite
    sqlstate: str = ""  # of an error


class NameAsked(Record, frozen=True, tag="dns.asked"):
    job: JobId
    principal: str
    pid: int
    name: str
    kind: str  # A, AAAA, …
    decision: str
    rule: str
    addresses: tuple[str, ...] = ()


class Refused(Record, frozen=True, tag="flow.refused"):
    """A connection that never became a flow: no facts, no record, a foreign job's socket."""

    reason: str
    peer: str = ""
    detail: str = ""


class JobStarted(Record, frozen=True, tag="job.started"):
    job: JobId
    label: str
    uid: int
    pid: int
    cgroup: str
    secrets: tuple[str, ...] = ()


class JobEnded(Record, frozen=True, tag="job.ended"):
    job: JobId
    reason: str


class PlaceholderMinted(Record, frozen=True, tag="placeholder.minted"):
    job: JobId
    secret: str
    ttl: Finite
    uses: int | None
    host: str = ""
    method: str = ""
    path: str = ""


class PolicyChanged(Record, frozen=True, tag="policy.changed"):
    version: str  # SHA-256 of the bundle
    ok: bool
    detail: str = ""


class ServiceEvent(Record, frozen=True, tag="service"):
    """Start, stop and trouble of the appliance's own processes."""

    process: Literal["kernel", "vault", "proxy", "control"]
    event: str
    detail: str = ""


AnyRecord = (
    FlowOpened
    | FlowClosed
    | OperationDecided
    | OperationEnded
    | SessionStarted
    | StatementDecided
    | StatementEnded
    | NameAsked
    | Refused
    | JobStarted
    | JobEnded
    | PlaceholderMinted
    | PolicyChanged
    | ServiceEvent
)
