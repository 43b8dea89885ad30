"""What policy would say of somebody asking for something, and why: for `coatcheck policy explain`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from appliance.config.schema import Config
from appliance.control.checking import Checked
from appliance.model.errors import PeerError
from appliance.model.facts import ProcessFacts
from appliance.model.identity import Claims
from appliance.model.ids import JobId, PrincipalName
from appliance.model.verdict import Destination, Operation
from appliance.policy.engine import Policy, subject_of
from appliance.policy.explain import Explanation, explain
from appliance.wire.names import canonical_host, literal_of, split_host_port
from appliance.wire.target import parse_target, query_names, query_pieces, split_absolute

Text = Annotated[str, Meta(max_length=1000)]


class ExplainAsk(Struct, forbid_unknown_fields=True):
    """A principal as a workload names it, and a request that it might make. `groups` None: those that the configured
    workload of that name has."""

    principal: Text
    url: Annotated[str, Meta(max_length=8000)]
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


def explain_policy(config: Config, checked: Checked, ask: ExplainAsk) -> Explanation:
    """What the policy says. Raises PeerError if the URL is not one that could be asked for."""
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
    subject = subject_of(_claims(config, ask))
    return explain(Policy(checked.bundle), checked.data, subject, destination, operation)


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
