"""Why policy says what it says: for each destination, what of the question it fits and what not."""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from appliance.model.verdict import AnyOperation, Destination, Operation, Plan, PostgresPlan, SqlOperation, Verdict
from appliance.policy.data import Data, DestinationSpec, Rule
from appliance.policy.engine import DestinationInput, Input, Policy, Subject
from appliance.policy.globs import host_pattern, path_pattern
from appliance.policy.statement_reasons import against_statement, listed

_ON_THE_WIRE = {
    "http": ("tls",),
    "plain-http": ("http",),
    "tunnel": ("tls", "unknown"),
    "postgres": ("postgres",),
    "plain-postgres": ("postgres",),
}


class Considered(Struct, frozen=True):
    """A destination or a rule, and what kept it from deciding; `against` is empty for one that fits."""

    name: str
    against: tuple[str, ...]


class Explanation(Struct, frozen=True):
    plan: Plan
    verdict: Verdict | None  # None if the plan already denies
    destinations: tuple[Considered, ...]
    rules: tuple[Considered, ...]  # of the plan's destination, in order
    text: str
    operation: AnyOperation


def explain(
    policy: Policy, data: Data, subject: Subject, destination: Destination, operation: AnyOperation
) -> Explanation:
    """What the policy answers, and why. The reasons speak of the default policy's rules; where somebody has changed the
    Rego, the answers are still its own."""
    at = DestinationInput(
        destination.host, destination.port, destination.address, destination.name_source, destination.protocol, ""
    )
    asked = Input(subject.principal, subject.job, subject.process, destination=at)
    plan = policy.ask("plan", asked, Plan)
    verdict: Verdict | None = None
    rules: tuple[Considered, ...] = ()
    if plan.decision == "allow" and plan.mode == ("postgres" if isinstance(operation, SqlOperation) else "http"):
        there = DestinationInput(
            destination.host,
            destination.port,
            destination.address,
            destination.name_source,
            destination.protocol,
            plan.destination,
        )
        asked = Input(subject.principal, subject.job, subject.process, destination=there, operation=operation)
        verdict = policy.ask("verdict", asked, Verdict)
        rules = tuple(
            Considered(rule.name, _against(rule, operation, each))
            for each in data.destinations
            if each.name == plan.destination
            for rule in each.rules
        )
    destinations = tuple(
        Considered(each.name, _against_destination(each, subject, destination)) for each in data.destinations
    )
    text = _text(plan, verdict, destinations, rules)
    if isinstance(operation, SqlOperation):
        text += _outside(plan.postgres, operation) + "\n" + _reading(operation)
    return Explanation(plan, verdict, destinations, rules, text, operation)


def _outside(plan: PostgresPlan | None, operation: SqlOperation) -> str:
    """What keeps the session itself from being opened."""
    problems = []
    if plan is not None and plan.users and operation.user not in plan.users:
        problems.append(f"\n  the destination is not for user {operation.user or '(none)'}: no session is opened")
    if plan is not None and plan.databases and operation.database not in plan.databases:
        problems.append(f"\n  the destination is not for database {operation.database or '(none)'}")
    return "".join(problems)


def _reading(operation: SqlOperation) -> str:
    """The statement as the rules see it."""
    seen = [f"command {' with '.join((operation.command, *operation.inner))}"]
    for name, there in (
        ("reads", operation.reads),
        ("writes", operation.writes),
        ("columns", operation.columns),
        ("functions", operation.functions),
        ("marks", operation.marks),
    ):
        if there:
            seen.append(f"{name} {', '.join(there)}")
    return f"  the statement: {'; '.join(seen)}" + ("; with a WHERE" if operation.where else "")


def _against_destination(spec: DestinationSpec, subject: Subject, at: Destination) -> tuple[str, ...]:
    against: list[str] = []
    if not any(re.match(host_pattern(host), at.host) for host in spec.hosts):
        against.append(f"host {at.host} is not among {', '.join(spec.hosts)}")
    if at.port not in spec.ports:
        against.append(f"port {at.port} is not among {', '.join(map(str, spec.ports))}")
    if at.protocol not in _ON_THE_WIRE[spec.protocol]:
        against.append(f"protocol {spec.protocol} is not what {at.protocol} looks like on the wire")
    named = subject.principal.name in spec.principals or any(g in spec.groups for g in subject.principal.groups)
    if not named:
        against.append(f"{subject.principal.name} is neither among its principals nor in one of its groups")
    if spec.labels and subject.job.label not in spec.labels:
        against.append(f"the job's label {subject.job.label or '(none)'} is not among {', '.join(spec.labels)}")
    if spec.addresses and at.address and not any(_within(at.address, network) for network in spec.addresses):
        against.append(f"address {at.address} is not within {', '.join(spec.addresses)}")
    return tuple(against)


def _within(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _against(rule: Rule, operation: AnyOperation, at: DestinationSpec) -> tuple[str, ...]:
    if isinstance(operation, SqlOperation):
        return against_statement(rule, operation, at.statement_rules)
    return _against_rule(rule, operation)


def _against_rule(rule: Rule, operation: Operation) -> tuple[str, ...]:
    against: list[str] = []
    if rule.methods is not None and operation.method not in rule.methods:
        against.append(f"method {operation.method} is not among {', '.join(rule.methods)}")
    refuses = rule.decision != "allow"
    if rule.paths is not None and not any(re.match(path_pattern(each, refuses), operation.path) for each in rule.paths):
        against.append(f"path {operation.path} fits none of {', '.join(rule.paths)}")
    if rule.content_types is not None and operation.content_type not in rule.content_types:
        against.append(f"content type {operation.content_type or '(none)'} is not among its content types")
    if rule.credentials is not None and not listed(rule.decision, rule.credentials, operation.credentials, least=1):
        used = ", ".join(operation.credentials) or "none"
        against.append(f"the credentials in use ({used}) are not those that it is about")
    if rule.query is not None and not listed(rule.decision, rule.query, operation.query, least=0):
        against.append(f"the query parameters ({', '.join(operation.query) or 'none'}) are not those that it is about")
    return tuple(against)


def _text(
    plan: Plan, verdict: Verdict | None, destinations: tuple[Considered, ...], rules: tuple[Considered, ...]
) -> str:
    decided: Plan | Verdict = verdict if verdict is not None else plan
    lines = [f"{decided.decision} by {decided.rule}" + (f": {decided.reason}" if decided.reason else "")]
    for kind, considered in (("destination", destinations), ("rule", rules)):
        for each in considered:
            lines.append(f"  {kind} {each.name}: " + ("; ".join(each.against) if each.against else "fits"))
    return "\n".join(lines)
