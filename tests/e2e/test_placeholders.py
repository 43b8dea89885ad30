"""A placeholder is worth something once, in its slot, at its destination, in its job, for its life; else nothing."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.agent import Agent, reply_of
from tests.e2e.spine import HOST, Spine
from tests.world import OUTSIDE4
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world
OTHER = "other.test"  # a destination that may have no secret
ANY = [{"name": "any"}]


def _change(config: dict[str, Any], policy: dict[str, Any]) -> None:
    config["dns"]["hosts"][OTHER] = [OUTSIDE4]
    policy["destinations"].append(
        {"name": "other", "hosts": [OTHER], "principals": ["agent"], "addresses": [f"{OUTSIDE4}/32"], "rules": ANY}
    )
    policy["destinations"][0]["allow_range"] = False


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        made.serve(made.authority.issue(OTHER, HOST), 8443, made.world.dir / "other.jsonl")
        yield made


@pytest.fixture(scope="module")
def agent(spine: Spine) -> Iterator[Agent]:
    with Agent(spine) as made:
        yield made


def _mint(spine: Spine, agent: Agent, *options: str) -> str:
    done = spine.appliance.cli("mint", "demo", "--job", agent.job, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _bearer(placeholder: str) -> str:
    return f"Authorization: Bearer {placeholder}"


def _arrived(spine: Spine, path: str) -> list[dict[str, Any]]:
    """The requests for `path` (and whatever query) that the service got."""
    return [seen for seen in spine.received() if seen["path"].partition("?")[0] == path]


def _decisions(spine: Spine, path: str) -> list[dict[str, Any]]:
    """What is on the record for `path`: a refusal is, soon after it was answered."""
    until = time.monotonic() + 20
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < until:
        records = spine.appliance.audit()
        found = [r for r in records if r["type"] == "operation.decided" and r.get("path") == path]
    return found


def _ended(spine: Spine, flow: str) -> dict[str, Any]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for record in spine.appliance.audit():
            if record["type"] == "operation.ended" and record["flow"] == flow:
                return record
        time.sleep(0.01)
    raise AssertionError(f"the end of {flow} is not on the record")


# ---- length and shape ----


def test_it_looks_like_the_credential(spine: Spine, agent: Agent) -> None:
    several = {agent.placeholder, *(_mint(spine, agent) for _ in range(3))}
    assert len(several) == 4
    for each in several:
        assert re.fullmatch(r"ghp_[A-Za-z0-9]{36}", each)
        assert len(each) == len(TOKEN)
        assert each != TOKEN


# ---- uses and life ----


def test_of_a_hundred_uses_at_once_of_a_single_use_one_wins(spine: Spine, agent: Agent) -> None:
    once = _mint(spine, agent, "--uses", "1")
    data = f"GET /once HTTP/1.1\r\nHost: {HOST}\r\n{_bearer(once)}\r\n\r\n"
    results = agent.call("together", count=100, host=HOST, address=OUTSIDE4, port=443, pieces=[data], wait=30)
    replies = [reply_of(result) for result in results]
    assert sorted({reply.status for reply in replies}) == [200, 403], {reply.end for reply in replies}
    assert [reply.status for reply in replies].count(200) == 1
    assert {reply.kind for reply in replies if reply.status == 403} == {"denied:placeholder-used-up"}
    assert [["Authorization", f"Bearer {TOKEN}"] in seen["headers"] for seen in _arrived(spine, "/once")] == [True]


def test_uses_are_exact_on_one_connection_too(spine: Spine, agent: Agent) -> None:
    thrice = _mint(spine, agent, "--uses", "3")
    data = f"GET /thrice HTTP/1.1\r\nHost: {HOST}\r\n{_bearer(thrice)}\r\n\r\n"
    reply = agent.raw(data * 5, host=HOST, responses=5)
    assert re.findall(rb"HTTP/1.1 (\d+)", reply.received) == [b"200", b"200", b"200", b"403", b"403"]
    assert len(_arrived(spine, "/thrice")) == 3


def test_life_ends_when_it_was_said_to(spine: Spine, agent: Agent) -> None:
    started = time.time()
    short = _mint(spine, agent, "--ttl", "2")
    minted = time.time()
    statuses: list[tuple[float, float, int, str]] = []
    while time.time() < minted + 2.3:
        before = time.time()
        reply = agent.get("/life", _bearer(short), host=HOST)
        statuses.append((before, time.time(), reply.status, reply.kind))
    for before, after, status, kind in statuses:
        if after < started + 2:
            assert status == 200, (after - started, kind)
        if before > minted + 2:
            assert (status, kind) == (403, "denied:placeholder-expired")
    assert {status for _, _, status, _ in statuses} == {200, 403}
    assert len(_arrived(spine, "/life")) == [status for _, _, status, _ in statuses].count(200)


def test_life_ends_on_a_kept_connection_too(spine: Spine, agent: Agent) -> None:
    short = _mint(spine, agent, "--ttl", "1")
    data = f"GET /kept HTTP/1.1\r\nHost: {HOST}\r\n{_bearer(short)}\r\n\r\n"
    reply = agent.raw(data, data, host=HOST, responses=2, pause=1.2)
    assert re.findall(rb"HTTP/1.1 (\d+)", reply.received) == [b"200", b"403"]
    assert len(_arrived(spine, "/kept")) == 1


# ---- of another job ----


@pytest.mark.parametrize("where", ["bearer", "x-api-key", "basic", "query"])
def test_a_placeholder_of_another_job_is_refused(spine: Spine, agent: Agent, where: str) -> None:
    with Agent(spine) as thief:
        stolen = agent.placeholder
        basic = base64.b64encode(f"x:{stolen}".encode()).decode()
        header = {
            "bearer": _bearer(stolen),
            "x-api-key": f"X-Api-Key: {stolen}",
            "basic": f"Authorization: Basic {basic}",
            "query": "Authorization: none",
        }[where]
        path = f"/stolen-{where}"
        reply = thief.get(path + (f"?key={stolen}" if where == "query" else ""), header, host=HOST)
    assert (reply.status, reply.kind) == (403, "denied:placeholder-foreign")
    assert "another job" in reply.problem["detail"]
    assert _arrived(spine, path) == []
    assert [r["rule"] for r in _decisions(spine, path)] == ["placeholder-foreign"]


def test_a_placeholder_of_a_job_that_ended_is_refused(spine: Spine, agent: Agent) -> None:
    with Agent(spine) as gone:
        dead = gone.placeholder
    until = time.monotonic() + 20
    while gone.job in spine.appliance.cli("jobs", "--json").stdout and time.monotonic() < until:
        time.sleep(0.05)
    reply = agent.get("/dead", _bearer(dead), host=HOST)
    assert reply.status == 403, reply
    assert reply.kind.startswith("denied:placeholder-")
    assert _arrived(spine, "/dead") == []


# ---- narrowed ----


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        (("--method", "GET"), ("GET", "/m"), ("POST", "/m")),
        (("--path", "/repos/*/issues"), ("GET", "/repos/a/issues"), ("GET", "/repos/a/b/issues")),
        (("--path", "/tree/**"), ("GET", "/tree/a/b"), ("GET", "/trees")),
        (("--host", HOST), ("GET", "/h"), None),
    ],
)
def test_what_mint_narrowed_stays_narrow(
    spine: Spine, agent: Agent, options: tuple[str, ...], good: tuple[str, str], bad: tuple[str, str] | None
) -> None:
    narrow = _mint(spine, agent, *options)
    assert agent.get(good[1], _bearer(narrow), host=HOST, method=good[0]).status == 200
    assert ["Authorization", f"Bearer {TOKEN}"] in spine.received()[-1]["headers"]
    if bad is not None:
        count = len(spine.received())
        reply = agent.get(bad[1], _bearer(narrow), host=HOST, method=bad[0])
        assert reply.status == 403, reply
        assert reply.kind.startswith("denied:placeholder-")
        assert len(spine.received()) == count


def test_a_host_that_the_secret_does_not_name_cannot_be_minted(spine: Spine, agent: Agent) -> None:
    done = spine.appliance.cli("mint", "demo", "--job", agent.job, "--host", OTHER)
    assert done.returncode != 0
    assert "ghp_" not in done.stdout


# ---- where it may not stand ----


def test_a_destination_that_may_not_have_it_gets_the_placeholder(spine: Spine, agent: Agent) -> None:
    spine.serve(spine.authority.issue(OTHER), 9443, spine.world.dir / "unused.jsonl")
    reply = agent.get("/not-here", host=OTHER)
    # the one service on port 443 shows another name's certificate: nothing was sent at all
    assert (reply.status, reply.kind) == (502, "unavailable:upstream-certificate")
    assert _arrived(spine, "/not-here") == []


@pytest.mark.parametrize(
    ("name", "header"),
    [("x-other", "X-Other: {}"), ("cookie", "Cookie: session={}; a=b"), ("referer", "Referer: https://a/?{}")],
)
def test_another_header_keeps_it_and_says_so(spine: Spine, agent: Agent, name: str, header: str) -> None:
    path = f"/header-{name}"
    assert agent.get(path, header.format(agent.placeholder), host=HOST).status == 200
    values = {k.lower(): v for k, v in _arrived(spine, path)[0]["headers"]}
    assert agent.placeholder in values[name]
    assert values["authorization"] == f"Bearer {TOKEN}"
    assert _decisions(spine, path)[0]["stray"] == [f"demo@header:{name}"]


@pytest.mark.parametrize("spelled", ["plain", "encoded"])
def test_a_path_keeps_it_and_the_record_does_not_show_it(spine: Spine, agent: Agent, spelled: str) -> None:
    text = agent.placeholder if spelled == "plain" else "".join(f"%{ord(c):02x}" for c in agent.placeholder)
    assert agent.get(f"/{spelled}/{text}/x", host=HOST).status == 200
    assert [seen["path"] for seen in spine.received()][-1] == f"/{spelled}/{text}/x"
    (decided,) = _decisions(spine, f"/{spelled}/{{demo}}/x")
    assert decided["stray"] == ["demo@path"]
    assert agent.placeholder not in json.dumps(spine.appliance.audit())


def test_another_query_parameter_keeps_it(spine: Spine, agent: Agent) -> None:
    assert agent.get(f"/query?other={agent.placeholder}&key=x", host=HOST).status == 200
    assert _arrived(spine, "/query")[0]["path"] == f"/query?other={agent.placeholder}&key=x"
    assert _decisions(spine, "/query")[0]["stray"] == ["demo@query"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_keeps_it_and_the_end_says_so(spine: Spine, agent: Agent, chunked: bool) -> None:
    path = f"/body-{chunked}"
    body = f'{{"comment": "my token is {agent.placeholder}"}}'
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{_bearer(agent.placeholder)}\r\n"
    if chunked:  # the placeholder across many chunks
        pieces = [body[i : i + 7] for i in range(0, len(body), 7)]
        encoded = "".join(f"{len(piece):x}\r\n{piece}\r\n" for piece in pieces) + "0\r\n\r\n"
        reply = agent.raw(head + "Transfer-Encoding: chunked\r\n\r\n", encoded, host=HOST, pause=0.05)
    else:
        reply = agent.raw(f"{head}Content-Length: {len(body)}\r\n\r\n", body[:40], body[40:], host=HOST, pause=0.05)
    assert reply.status == 200, reply
    assert _arrived(spine, path)[0]["body"] == body
    ended = _ended(spine, _decisions(spine, path)[0]["flow"])
    assert ended["stray"] == ["demo@body"]


@pytest.mark.parametrize("value", ["Bearer x{}", "Bearer {}x", "Bearer {} {}", "{}, {}", "Bearer  {},"])
def test_a_slot_takes_the_whole_value_or_nothing(spine: Spine, agent: Agent, value: str) -> None:
    path = "/whole-" + value.encode().hex()
    reply = agent.get(path, "Authorization: " + value.format(agent.placeholder, agent.placeholder), host=HOST)
    assert reply.status == 200, reply
    assert TOKEN not in json.dumps(_arrived(spine, path))
    assert _decisions(spine, path)[0]["stray"] == ["demo@header:authorization"]


# ---- the slots ----


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Authorization: Bearer {}", "Bearer {}"),
        ("authorization: token {}", "token {}"),
        ("AUTHORIZATION: {}", "{}"),
    ],
)
def test_the_authorization_header(spine: Spine, agent: Agent, header: str, expected: str) -> None:
    assert agent.get("/slot", header.format(agent.placeholder), host=HOST).status == 200
    values = {k.lower(): v for k, v in spine.received()[-1]["headers"]}
    assert values["authorization"] == expected.format(TOKEN)


def test_the_other_header_slot(spine: Spine, agent: Agent) -> None:
    reply = agent.get("/slot", "Authorization: none", f"X-Api-Key: {agent.placeholder}", host=HOST)
    assert reply.status == 200
    assert ["X-Api-Key", TOKEN] in spine.received()[-1]["headers"]
    assert TOKEN.encode() not in reply.received


def test_the_basic_password_but_not_the_user(spine: Spine, agent: Agent) -> None:
    for text, expected in (
        (f"user:{agent.placeholder}", f"user:{TOKEN}"),
        (f":{agent.placeholder}", f":{TOKEN}"),
        (f"{agent.placeholder}:pass", f"{agent.placeholder}:pass"),
        (f"{agent.placeholder}:", f"{agent.placeholder}:"),
    ):
        encoded = base64.b64encode(text.encode()).decode()
        reply = agent.get("/basic", f"Authorization: Basic {encoded}", host=HOST)
        assert reply.status == 200
        sent = base64.b64encode(expected.encode()).decode()
        assert ["Authorization", f"Basic {sent}"] in spine.received()[-1]["headers"]
        assert TOKEN.encode() not in reply.received
        assert base64.b64encode(f"user:{TOKEN}".encode()) not in reply.received


def test_the_query_parameter(spine: Spine, agent: Agent) -> None:
    encoded = "".join(f"%{ord(c):02X}" for c in agent.placeholder)
    for value in (agent.placeholder, encoded):
        reply = agent.get(f"/by-query?a=1&key={value}&b=%20", "Authorization: none", host=HOST)
        assert reply.status == 200
        assert spine.received()[-1]["path"] == f"/by-query?a=1&key={TOKEN}&b=%20"
        assert TOKEN.encode() not in reply.received
    records = json.dumps(spine.appliance.audit())
    assert TOKEN not in records
    assert agent.placeholder not in records
