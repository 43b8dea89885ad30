"""The shape of `data.yaml`. Unknown keys are errors: a misspelt restriction must not restrict nothing."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from appliance.policy.globs import host_pattern, path_pattern

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Method = Annotated[str, Field(pattern=r"^[A-Z]{1,32}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Part):
    """Of a destination's rules the first that fits decides. What is not written fits all."""

    name: Name
    methods: tuple[Method, ...] | None = None
    paths: tuple[str, ...] | None = None
    content_types: tuple[str, ...] | None = None
    credentials: tuple[Name, ...] | None = None  # allow: all in use are among these; else: one is; []: none is
    query: tuple[str, ...] | None = None  # allow: all parameters are among these; else: one is; []: none is
    decision: Literal["allow", "deny", "hold"] = "allow"
    reason: str = ""
    ask: str = ""

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for glob in value or ():
            path_pattern(glob)
        return value


class DestinationSpec(_Part):
    """Where somebody may go, and what they may do there."""

    name: Name
    hosts: tuple[str, ...] = Field(min_length=1)
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)
    protocol: Literal["http", "plain-http", "tunnel"] = "http"
    addresses: tuple[str, ...] = ()
    principals: tuple[Name, ...] = ()
    groups: tuple[Name, ...] = ()
    labels: tuple[Name, ...] = ()
    secrets: tuple[Name, ...] = ()
    allow_range: bool = False
    upgrade: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            host_pattern(host)
        return value

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(
                    f"{network!r} is not a network: write for example 10.0.0.0/8 or 2001:db8::/32"
                ) from None
        return value


class Data(_Part):
    """The whole file."""

    destinations: tuple[DestinationSpec, ...] = ()

    @field_validator("destinations")
    @classmethod
    def _unique(cls, value: tuple[DestinationSpec, ...]) -> tuple[DestinationSpec, ...]:
        names = [each.name for each in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"there are two destinations named {name}")
        for each in value:
            if each.protocol == "tunnel" and (each.secrets or each.rules):
                raise ValueError(f"{each.name}: a tunnel is not ended, so it can have neither secrets nor rules")
        return value


def compiled(data: Data) -> dict[str, Any]:
    """The data as Rego sees it: as it was written, with `exact_hosts` and `host_patterns` (of those with a
    wildcard) beside `hosts`, and `path_patterns` beside `paths`."""
    plain: dict[str, Any] = data.model_dump(mode="json", exclude_none=True)
    for destination in plain["destinations"]:
        destination["exact_hosts"] = [host for host in destination["hosts"] if not host.startswith("*.")]
        destination["host_patterns"] = [host_pattern(host) for host in destination["hosts"] if host.startswith("*.")]
        for rule in destination.get("rules", ()):
            if "paths" in rule:
                rule["path_patterns"] = [path_pattern(glob, rule["decision"] != "allow") for glob in rule["paths"]]
    return plain
