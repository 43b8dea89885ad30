"""Destinations, operations, plans and verdicts: what policy is asked and what it answers."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from appliance.model.ids import DestinationName, SecretName

Decision = Literal["allow", "deny", "hold"]
NameSource = Literal["sni", "host", "dns", "literal"]
Mode = Literal["http", "tunnel"]


class Destination(Struct, frozen=True):
    """Where a flow wants to go, before anything was dialled."""

    host: str  # canonical: lower case, A-labels, no trailing dot; an address literal if there is no name
    port: int
    address: str  # the address that the agent dialled, text form
    name_source: NameSource
    protocol: Literal["tls", "http", "unknown", "dns"]


class Operation(Struct, frozen=True):
    """One HTTP request in the form that policy sees. This is also the *shape* that verdicts are cached by:
    policy can depend on nothing that is not in here (plus the plan's own input)."""

    kind: Literal["http"]
    method: str
    path: str  # percent-decoding of unreserved characters only, dot segments refused before
    query: tuple[str, ...]  # names of the query parameters, sorted, without repeats
    content_type: str
    upgrade: str  # "" or lower-case protocol name
    credentials: tuple[str, ...]  # names of the secrets whose placeholder stands in a slot, sorted


class Plan(Struct, frozen=True):
    """What policy says of a principal and a destination, once per pair and policy version."""

    decision: Decision
    rule: str
    reason: str = ""
    destination: DestinationName = DestinationName("")
    mode: Mode = "http"
    secrets: tuple[SecretName, ...] = ()
    upstream_tls: bool = True  # False only for a destination that policy names as plain HTTP
    allow_range: bool = False  # let Range requests through although responses are scrubbed
    addresses: tuple[str, ...] = ()  # CIDRs that the dialled address must be in; empty: DNS must agree


class Verdict(Struct, frozen=True):
    decision: Decision
    rule: str
    reason: str = ""
    ask: str = ""  # how to ask for what was refused
    obligations: tuple[str, ...] = field(default_factory=tuple)
