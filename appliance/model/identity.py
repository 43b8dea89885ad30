"""The identity token: what policy and audit see of a process, never a bare name."""

from __future__ import annotations

from msgspec import Struct

from appliance.model.facts import ProcessFacts
from appliance.model.ids import JobId, PrincipalName


class Principal(Struct, frozen=True):
    name: PrincipalName
    groups: tuple[str, ...]


class Claims(Struct, frozen=True):
    """The claims of an identity token (RFC 7519 names where they exist)."""

    iss: str
    sub: PrincipalName
    groups: tuple[str, ...]
    job: JobId
    facts: ProcessFacts
    iat: int  # seconds since the epoch
    exp: int
    jti: str


class Identity(Struct, frozen=True):
    """A signed token with its claims already read. `token` is the compact JWS."""

    token: str
    claims: Claims
