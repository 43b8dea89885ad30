"""What policy would say of somebody asking for something, and why: for `coatcheck policy explain`."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import unquote

from msgspec import Meta, Struct
from msgspec.structs import replace

from appliance.config.schema import Config
from appliance.control.checking import Checked
from appliance.lineage.catalogue import supposed
from appliance.model.errors import PeerError
from appliance.model.facts import ProcessFacts
from appliance.model.identity import Claims
from appliance.model.ids import JobId, PrincipalName
from appliance.model.verdict import AnyOperation, Destination, Operation, PostgresPlan, SqlOperation, Verdict
from appliance.policy.engine import Policy, subject_of
from appliance.policy.explain import Explanation, explain
from appliance.session.postgres_judge import Judge, Setting
from appliance.session.sql_operation import operation_of, server_first, unparsed
from appliance.sql.statements import Unparsed, statements
from appliance.wire.names import canonical_host, literal_of, split_host_port
from appliance.wire.target import parse_target, query_names, query_pieces, split_absolute

Text = Annotated[str, Meta(max_length=1000)]
_CONNECTION: Final = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^@/?:]*)@)?(?P<authority>[!-.0-~]+)(?:/(?P<database>[^/?]*))?", re.ASCII
)


class ExplainAsk(Struct, forbid_unknown_fields=True):
    """A principal as a workload names it, and a request that it might make, or SQL that it might send. `groups` None:
    those that the configured workload of that name has."""

    principal: Text
    url: Annotated[str, Meta(max_length=8000)]  # for SQL: postgres://user@host:port/database
    method: Annotated[str, Meta(pattern=r"^[A-Za-z]{1,32}$")] = "GET"
    groups: Annotated[tuple[Text, ...], Meta(max_length=100)] | None = None
    credentials: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()  # secrets whose placeholder is in a slot
    content_type: Text = ""
    label: Text = ""  # of the job
    exe: Text = ""
    exe_sha256: Text = ""
    uid: int = -1
    launched_uid: int = -1
    unit: Text = ""
    address: Text = ""  # that is dialled; "" leaves it open
    sql: Annotated[str, Meta(max_length=50_000)] = ""
    database: Text = ""  # instead of the URL's
    user: Text = ""


def explain_policy(config: Config, checked: Checked, ask: ExplainAsk) -> Explanation:
    """What the policy says. Raises PeerError if the URL is not one that could be asked for, or there is more than one
    statement."""
    policy, claims = Policy(checked.bundle), _claims(config, ask)
    destination: Destination
    operation: AnyOperation
    if ask.sql:
        destination, user, database = _database(ask)
        operation = _statement(policy.plan(claims, destination).postgres or PostgresPlan(), ask, user, database)
    else:
        destination, operation = _request(ask)
    found = explain(policy, checked.data, subject_of(claims), destination, operation)
    return _held_against_masks(found, operation, ask.sql) if isinstance(operation, SqlOperation) else found


class _Said:
    """A decider for what is decided already."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def verdict(self, operation: SqlOperation) -> Verdict:
        return self._verdict


def _held_against_masks(found: Explanation, operation: SqlOperation, sql: str) -> Explanation:
    """What the masks make of a statement that the rules let through, as far as they tell without the database."""
    plan, verdict = found.plan.postgres, found.verdict
    if plan is None or not plan.masks or verdict is None or verdict.decision == "deny":
        return found
    setting = Setting(
        found.plan.destination, operation.database, operation.user, operation.credentials, "utf-8", False, True
    )
    (ruling,) = Judge(_Said(verdict), plan, setting, supposed(plan.masks)).judge(sql.encode())
    lines = found.text.split("\n")
    if ruling.verdict.decision == "deny":
        verdict = ruling.verdict
        lines[0] = f"deny by {verdict.rule}: {verdict.reason}"
        lines.insert(1, f"  the rules alone: {found.text.partition(chr(10))[0]}")
    elif ruling.flow is not None and (hidden := sorted(ruling.flow.passes | ruling.flow.expressions)):
        lines.append(f"  hidden in the result by: {', '.join(plan.masks[index].name for index in hidden)}")
    lines.append("  masks: only the columns that they name are known here, not views, partitions or what `names` fits")
    return replace(found, verdict=verdict, text="\n".join(lines))


def _request(ask: ExplainAsk) -> tuple[Destination, Operation]:
    if not ask.url.isascii():
        raise PeerError("url", "a URL is ASCII: write its host as A-labels and escape the rest")
    scheme, authority, origin = split_absolute(ask.url.encode())
    host, port = split_host_port(authority, 443 if scheme == "https" else 80)
    host = canonical_host(host)
    target = parse_target(origin)
    literal = literal_of(host)
    destination = Destination(
        host=host,
        port=port,
        address=ask.address or literal or "",
        name_source="literal" if literal else "sni" if scheme == "https" else "host",
        protocol="tls" if scheme == "https" else "http",
    )
    operation = Operation(
        kind="http",
        method=ask.method.upper(),
        path=target.path,
        query=query_names(query_pieces(target.query)) if target.query else (),
        content_type=ask.content_type.lower(),
        upgrade="",
        credentials=tuple(sorted(set(ask.credentials))),
    )
    return destination, operation


def _database(ask: ExplainAsk) -> tuple[Destination, str, str]:
    """Destination, user and database of postgres://user@host:port/database (PostgreSQL documentation 32.1.1.2)."""
    match = _CONNECTION.fullmatch(ask.url)
    if match is None:
        raise PeerError("url", "for SQL the URL is postgres://host, with :port and /database if need be")
    host, port = split_host_port(match["authority"].encode(), 5432)
    host = canonical_host(host)
    literal = literal_of(host)
    user = ask.user or unquote(match["user"] or "")
    database = ask.database or unquote(match["database"] or "") or user
    where = Destination(host, port, ask.address or literal or "", "literal" if literal else "sni", "postgres")
    return where, user, database


def _statement(plan: PostgresPlan, ask: ExplainAsk, user: str, database: str) -> SqlOperation:
    credentials = tuple(sorted(set(ask.credentials)))
    try:
        found = statements(ask.sql, server_first=server_first(plan))
    except Unparsed:
        return unparsed(database, user, credentials)
    if len(found) != 1:
        raise PeerError("sql", f"one statement is explained at a time; these are {len(found)}")
    return operation_of(found[0], plan, database, user, credentials, is_utf8=True)


def _claims(config: Config, ask: ExplainAsk) -> Claims:
    """What the vault would sign for such a process; only what policy sees matters."""
    groups = ask.groups
    if groups is None:
        groups = next((workload.groups for workload in config.workloads if workload.name == ask.principal), ())
    facts = ProcessFacts(
        pid=0,
        start_ticks=0,
        uid=ask.uid,
        gid=-1,
        groups=(),
        exe=ask.exe,
        exe_inode=0,
        exe_device=0,
        exe_sha256=ask.exe_sha256,
        cmdline=(),
        comm="",
        cgroup="",
        cgroup_id=0,
        unit=ask.unit,
        netns=0,
        ancestors=(),
        job=JobId(""),
        job_label=ask.label,
        launched_uid=ask.launched_uid,
        complete=True,
    )
    return Claims("", PrincipalName(ask.principal), groups, JobId(""), facts, 0, 0, "")
