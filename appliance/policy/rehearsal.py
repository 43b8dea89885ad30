"""Asks a policy what a proxy would ask it, for destinations of its own data, so that what never ends shows early."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.ipc.messages import PolicyBundle
from appliance.model.verdict import AnyOperation, Operation, Plan, SqlOperation, Verdict
from appliance.policy.engine import DestinationInput, Input, Policy, Subject, sample_subject

_MOST = 20  # destinations
_PROTOCOL = {
    "http": "tls",
    "plain-http": "http",
    "tunnel": "tls",
    "postgres": "postgres",
    "plain-postgres": "postgres",
}


def rehearse(policy: Policy, bundle: PolicyBundle) -> None:
    """Whatever is answered is right; only that it is answered is of interest."""
    destinations: list[dict[str, Any]] = msgspec.json.decode(bundle.data)["destinations"]
    for each in destinations[:_MOST]:
        principals = each["principals"] or [""]
        subject = sample_subject(principals[0], tuple(each["groups"]), (each["labels"] or [""])[0])
        host = each["hosts"][0].replace("*", "any")
        at = DestinationInput(host, each["ports"][0], "192.0.2.1", "sni", _PROTOCOL[each["protocol"]], "")
        policy.ask("name", _input(subject, name=host), Verdict)
        policy.ask("plan", _input(subject, destination=at), Plan)
        there = msgspec.structs.replace(at, name=each["name"])
        for operation in _statements(each) if "postgres" in each else _operations(each):
            policy.ask("verdict", _input(subject, destination=there, operation=operation), Verdict)


def _input(subject: Subject, **rest: Any) -> Input:
    return Input(subject.principal, subject.job, subject.process, **rest)


def _statements(destination: dict[str, Any]) -> list[AnyOperation]:
    """A plain statement, and one for each rule with what the rule names."""
    statements: list[AnyOperation] = [_statement({}), _statement({"commands": ["unparsed"]})]
    return statements + [_statement(rule) for rule in destination.get("rules", ())[:_MOST]]


def _statement(rule: dict[str, Any]) -> SqlOperation:
    def named(key: str, otherwise: str = "") -> tuple[str, ...]:
        return tuple(sorted({each.replace("*", "a") for each in rule.get(key, [otherwise] if otherwise else [])}))

    return SqlOperation(
        kind="sql",
        dialect="postgres",
        database=(named("databases") or ("a",))[0],
        user=(named("users") or ("a",))[0],
        command=(named("commands") or ("select",))[0],
        inner=(),
        reads=named("reads") or named("tables", "public.a"),
        writes=named("writes"),
        columns=named("columns"),
        functions=named("functions"),
        where=rule.get("where", False),
        marks=named("marks"),
        credentials=named("credentials"),
    )


def _operations(destination: dict[str, Any]) -> list[AnyOperation]:
    """A plain request, and one for each rule with what the rule names."""
    operations: list[AnyOperation] = [Operation("http", "GET", "/", (), "", "", ())]
    for rule in destination.get("rules", ())[:_MOST]:
        operations.append(
            Operation(
                kind="http",
                method=(rule.get("methods") or ["POST"])[0],
                path=(rule.get("paths") or ["/a/b"])[0].replace("*", "a"),
                query=tuple(sorted(rule.get("query", ()))),
                content_type=(rule.get("content_types") or [""])[0],
                upgrade="",
                credentials=tuple(sorted(rule.get("credentials", ()))),
            )
        )
    return operations
