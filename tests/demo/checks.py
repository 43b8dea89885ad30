"""Is what was seen as it should be? Each check is one sentence that holds or does not; nothing is done here."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from tests.demo.seen import Agent, Attempt, Client, Log, Seen, Token
from tests.demo.setting import AGENT, CREDENTIAL

LIFE = 300  # seconds that an identity token lives
MARKER = "demo_"  # how the credential begins, and so the placeholder

# for each attempt, what the agent must have been told, and what must stand on the record
REFUSALS: dict[str, tuple[str, str]] = {
    "name": ("Could not resolve host", "dns.asked: denied by default-deny"),
    "destination": ("403 default-deny: ", "operation.decided: denied by default-deny"),
    "rule": ("403 service/no-deletion: deleting is for people", "operation.decided: denied by service/no-deletion"),
    "address": ("403 default-deny: ", "operation.decided: denied by default-deny"),
    "stolen": ("403 placeholder-foreign: ", "operation.decided: denied by placeholder-foreign"),
    "udp": ("Operation not permitted", "counted by the kernel: refused-udp"),
    "dns": ("answered: REFUSED", "dns.asked: denied by default-deny"),
    "tcp": ("Connection reset by peer", "flow.opened: denied by default-deny"),
    "raw": ("Operation not permitted", "counted by the kernel: refused-socket-kind"),
}
ROUND = ("udp", "dns", "tcp", "raw")  # those that were also tried outside of any job


class Check(Struct):
    what: str
    ok: bool
    seen: str


def all_checks(seen: Seen) -> list[Check]:
    parts: list[Iterator[Check]] = []
    for client in seen.clients:
        parts += [swapped(client), facts(client, seen.agent), recorded(client)]
    parts.append(token(seen.token, seen.agent, seen.clients))
    parts += [refused(attempt) for attempt in seen.attempts]
    parts += [log(seen.log, seen.agent), complete(seen), nothing_remains(seen.remains)]
    return [check for part in parts for check in part]


def swapped(client: Client) -> Iterator[Check]:
    name, held = client.name, client.held
    shape = held.startswith(MARKER) and len(held) == len(CREDENTIAL) and held != CREDENTIAL
    yield Check(f"{name}: the agent held a placeholder as long as the credential", shape, held)
    yield Check(f"{name}: the service received the credential", client.received == CREDENTIAL, str(client.received))
    yield Check(f"{name}: the agent got the placeholder back", client.returned == held, str(client.returned))
    yield Check(f"{name}: the service's answer came through", client.status == "200", client.status)
    leaked = [form for form in forms(CREDENTIAL) if form in client.output]
    yield Check(f"{name}: no form of the credential is in what the agent saw", not leaked, client.output)


def forms(secret: str) -> list[str]:
    """The secret as it is, for a URL, and in base64 at each of the three offsets (RFC 4648 4)."""
    coded = [base64.b64encode(bytes(offset) + secret.encode()).decode() for offset in range(3)]
    return [secret, quote(secret, safe=""), *(text[4:-4] for text in coded)]


def facts(client: Client, agent: Agent) -> Iterator[Check]:
    """What the kernel says, against what is known otherwise."""
    opened = _record(client, "flow.opened")
    expected = {"pid": client.pid, "uid": AGENT, "exe": client.program, "exe_sha256": client.program_sha256}
    expected |= {"job": agent.job, "principal": "demo-agent"}
    for key, value in expected.items():
        found = opened.get(key)
        yield Check(f"{client.name}: the kernel knew its {key}", bool(value) and found == value, str(found))


def recorded(client: Client) -> Iterator[Check]:
    """The record says what happened, in its order."""
    types = [each["type"] for each in client.records]
    order = ["flow.opened", "operation.decided", "operation.ended", "flow.closed"]
    yield Check(f"{client.name}: its flow is on the record from open to close", types == order, ", ".join(types))
    decided, ended = _record(client, "operation.decided"), _record(client, "operation.ended")
    judged = decided.get("decision") == "allow" and decided.get("rule") == "service/use"
    yield Check(f"{client.name}: the record has the rule that allowed it", judged, str(decided))
    swapped = list(decided.get("swapped", ())) == ["demo"]
    yield Check(f"{client.name}: the record names the secret that was swapped", swapped, str(decided))
    scrubbed = ended.get("status") == 200 and ended.get("scrubbed", 0) > 0
    yield Check(f"{client.name}: the record says that the answer was scrubbed", scrubbed, str(ended))


def token(token: Token, agent: Agent, clients: list[Client]) -> Iterator[Check]:
    claims = token.claims
    yield Check("token: the vault's public key verifies it", not token.verified, token.verified)
    who = (claims.get("sub"), claims.get("groups"))
    yield Check("token: it is the agent's", who == ("demo-agent", ["agents"]), str(who))
    yield Check("token: it is for this job", claims.get("job") == agent.job, str(claims.get("job")))
    life = (claims.get("iat", 0), claims.get("exp", 0))
    lives = life[0] <= token.at < life[1] and life[1] - life[0] <= LIFE
    yield Check("token: it lives now, and not for long", lives, f"from {life[0]} to {life[1]}, now {token.at:.0f}")
    found = claims.get("facts", {})
    yield Check("token: it has the cgroup that the job is in", _is(found, "cgroup", agent.cgroup), str(found))
    yield Check("token: it has the user", _is(found, "uid", agent.uid) and agent.uid == AGENT, str(found))
    others = [_record(client, "flow.opened").get("jti") for client in clients]
    own = claims.get("jti") not in others and len(set(others)) == len(others)
    yield Check("token: each process has one of its own", own and bool(claims.get("jti")), str(others))


def refused(attempt: Attempt) -> Iterator[Check]:
    what = attempt.what
    if attempt.name not in REFUSALS:  # `complete` says so
        return
    said, record = REFUSALS[attempt.name]
    yield Check(f"{what}: the agent was refused, and told why", said in attempt.said, attempt.said)
    yield Check(f"{what}: nothing of it arrived", not attempt.reached, ", ".join(attempt.reached))
    yield Check(f"{what}: it is on the record", attempt.record.startswith(record), attempt.record)
    if attempt.name in ROUND:
        yield Check(f"{what}: outside of a job the same arrives", attempt.outside == "arrives", attempt.outside)


def log(log: Log, agent: Agent) -> Iterator[Check]:
    whole = log.exit == 0 and log.verified.get("ok") is True and log.verified.get("lines", 0) > 0
    yield Check("audit: the log is whole", whole, str(log.verified))
    found = log.forged_exit == 1 and log.forged.get("ok") is False and bool(log.forged.get("findings"))
    yield Check("audit: a copy in which one word was changed is found out", found, str(log.forged))
    secret = [text for text in (*forms(CREDENTIAL), agent.placeholder) if text in log.text]
    yield Check("audit: neither credential nor placeholder is in it", not secret, ", ".join(secret))


def complete(seen: Seen) -> Iterator[Check]:
    """Nothing was left out."""
    names = [client.name for client in seen.clients]
    yield Check("all three clients asked", names == ["curl", "python3", "node"], ", ".join(names))
    tried = [attempt.name for attempt in seen.attempts]
    yield Check("every attempt was made", sorted(tried) == sorted(REFUSALS), ", ".join(tried))


def nothing_remains(remains: dict[str, list[str]]) -> Iterator[Check]:
    for kind, found in remains.items():
        yield Check(f"left behind: no {kind}", not found, "; ".join(found))


def _record(client: Client, kind: str) -> dict[str, Any]:
    return next((each for each in client.records if each["type"] == kind), {})


def _is(found: dict[str, Any], key: str, value: object) -> bool:
    return key in found and found[key] == value
