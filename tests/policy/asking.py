"""What tests ask policy with: the default Rego, claims, destinations, operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from appliance.model.facts import ProcessFacts
from appliance.model.identity import Claims
from appliance.model.ids import JobId, PrincipalName
from appliance.model.verdict import Destination, Operation, SqlOperation
from appliance.policy.bundle import make_bundle, parse_data
from appliance.policy.engine import Policy

FOLDER = Path(__file__).resolve().parents[2] / "policies"
Protocol = Literal["tls", "http", "postgres", "unknown", "dns"]
MODULES = {file.name: file.read_text() for file in FOLDER.glob("*.rego")}


def policy(*destinations: dict[str, Any], modules: dict[str, str] | None = None) -> Policy:
    """The default Rego, or `modules`, over these destinations."""
    text = json.dumps({"destinations": destinations})  # JSON is YAML
    return Policy(make_bundle(MODULES if modules is None else modules, parse_data(text)))


def claims(name: str = "deploy", groups: tuple[str, ...] = (), label: str = "agent") -> Claims:
    facts = ProcessFacts(
        pid=7,
        start_ticks=7,
        uid=1000,
        gid=1000,
        groups=(),
        exe="/usr/bin/curl",
        exe_inode=7,
        exe_device=7,
        exe_sha256="ab" * 32,
        cmdline=("curl",),
        comm="curl",
        cgroup="/jobs/j-1",
        cgroup_id=7,
        unit="",
        netns=7,
        ancestors=(),
        job=JobId("j-1"),
        job_label=label,
        launched_uid=1000,
        complete=True,
    )
    return Claims("test", PrincipalName(name), groups, JobId("j-1"), facts, 0, 300, "t-1")


def destination(
    host: str = "api.example.com", port: int = 443, protocol: Protocol = "tls", address: str = "192.0.2.1"
) -> Destination:
    return Destination(host, port, address, "sni", protocol)


def operation(method: str = "GET", path: str = "/a/b", **changes: Any) -> Operation:
    fields: dict[str, Any] = {"query": (), "content_type": "", "upgrade": "", "credentials": (), **changes}
    return Operation(kind="http", method=method, path=path, **fields)


def statement(command: str = "select", **changes: Any) -> SqlOperation:
    """A SELECT from public.orders by app in shop, but for what `changes`."""
    fields: dict[str, Any] = {
        "database": "shop",
        "user": "app",
        "inner": (),
        "reads": ("public.orders",) if command == "select" else (),
        "writes": (),
        "columns": (),
        "functions": (),
        "where": False,
        "marks": (),
        "credentials": ("db",),
        **changes,
    }
    return SqlOperation(kind="sql", dialect="postgres", command=command, **fields)


def sql_spec(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return spec("db", protocol="postgres", rules=list(rules), **changes)


def sql_place(host: str = "api.example.com", port: int = 5432, protocol: Protocol = "postgres") -> Destination:
    return destination(host, port, protocol)


def spec(name: str = "api", **changes: Any) -> dict[str, Any]:
    """A destination that deploy may do anything at, but for what `changes`."""
    rules = [] if changes.get("protocol") == "tunnel" else [{"name": "any"}]
    return {"name": name, "hosts": ["api.example.com"], "principals": ["deploy"], "rules": rules, **changes}
