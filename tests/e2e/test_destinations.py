"""A destination is what was dialled, named and shown together; where these disagree nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.agent import Agent
from tests.e2e.raw_service import Connection, RawService, Request, ok, response
from tests.e2e.raw_spine import PORT, RAW, with_raw
from tests.e2e.spine import HOST, Spine
from tests.world import OUTSIDE4, OUTSIDE6
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world
SECOND = "second.test"  # allowed, without a secret
NARROW = "narrow.test"  # DNS leads to OUTSIDE4, policy wants another address


def _change(config: dict[str, Any], policy: dict[str, Any]) -> None:
    with_raw(config, policy)
    config["dns"]["hosts"] |= {SECOND: [OUTSIDE4], NARROW: [OUTSIDE4]}
    one = {"principals": ["agent"], "ports": [443, PORT], "rules": [{"name": "any"}]}
    policy["destinations"] += [
        {"name": "second", "hosts": [SECOND], **one},
        {"name": "narrow", "hosts": [NARROW], "addresses": ["192.0.2.0/24"], **one},
    ]


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        yield made


@pytest.fixture(scope="module")
def agent(spine: Spine) -> Iterator[Agent]:
    with Agent(spine) as made:
        yield made


@pytest.fixture
def quiet(spine: Spine) -> Iterator[None]:
    """The service on port 443 gets nothing in such a test."""
    before = len(spine.received())
    yield
    assert len(spine.received()) == before


# ---- what agrees ----


@pytest.mark.parametrize("named", [HOST, HOST.upper(), f"{HOST}.", f"{HOST}:443", f"{HOST.title()}.:443"])
def test_case_a_trailing_dot_and_the_port_make_no_difference(spine: Spine, agent: Agent, named: str) -> None:
    reply = agent.get("/named", host=HOST, named=named)
    assert reply.status == 200, reply
    assert ["Authorization", f"Bearer {TOKEN}"] in spine.received()[-1]["headers"]


@pytest.mark.parametrize("name", [HOST.upper(), "SerVice.Test"])
def test_sni_in_capitals(agent: Agent, name: str) -> None:
    assert agent.get("/sni", host=HOST, name=name, verify=False).status == 200


def test_an_absolute_target_for_the_same_host(spine: Spine, agent: Agent) -> None:
    reply = agent.get(f"https://{HOST}/absolute?a=1", host=HOST)
    assert reply.status == 200
    assert spine.received()[-1]["path"] == "/absolute?a=1"


# ---- what does not ----


@pytest.mark.parametrize(
    "named",
    [
        SECOND,
        RAW,
        "evil.test",
        f"{HOST}:444",
        f"{HOST}:80",
        f"{HOST}.evil.test",
        f"evil.{HOST}",
        OUTSIDE4,
        "localhost",
    ],
)
@pytest.mark.usefixtures("quiet")
def test_host_that_is_not_the_name_of_the_connection(agent: Agent, named: str) -> None:
    reply = agent.get("/", host=HOST, named=named)
    assert (reply.status, reply.kind) == (421, "denied:host-mismatch"), reply


@pytest.mark.parametrize(
    "named",
    ["", f"{HOST}..", f"{HOST}:", f"{HOST}:0443", f"{HOST}:99999", f"user@{HOST}", f"{HOST}\\", "sérvice.test", "a b",
     f"{HOST},{SECOND}", "0x0a4d0002", "10.77.2", f"[{OUTSIDE6}", f"{HOST}%00.evil.test", "_x.test"],
)  # fmt: skip
@pytest.mark.usefixtures("quiet")
def test_host_that_is_no_name(agent: Agent, named: str) -> None:
    data = f"GET / HTTP/1.1\r\nHost: {named}\r\nAuthorization: Bearer {agent.placeholder}\r\n\r\n"
    reply = agent.raw(data, host=HOST)
    assert reply.status == 400, reply


@pytest.mark.parametrize(
    "url", [f"https://{SECOND}/", f"http://{HOST}:80/", f"https://{HOST}:8443/", "https://evil.test/"]
)
@pytest.mark.usefixtures("quiet")
def test_an_absolute_target_for_another_host(agent: Agent, url: str) -> None:
    reply = agent.get(url, host=HOST)
    assert reply.status in (400, 403, 421), reply


@pytest.mark.usefixtures("quiet")
def test_the_second_request_of_a_connection_is_judged_too(agent: Agent) -> None:
    bad = f"GET / HTTP/1.1\r\nHost: {SECOND}\r\nAuthorization: Bearer {agent.placeholder}\r\n\r\n"
    reply = agent.raw(bad, bad, host=HOST, responses=2, pause=0.05)
    assert reply.received.count(b"host-mismatch") >= 2


@pytest.mark.usefixtures("quiet")
def test_an_address_that_is_not_the_names(spine: Spine, agent: Agent) -> None:
    with RawService(spine.world, PORT, ok, pair=spine.authority.issue(SECOND), address=OUTSIDE6) as service:
        reply = agent.get("/", host=SECOND, port=PORT, address=OUTSIDE6)
        assert (reply.status, reply.kind) == (403, "denied:address-mismatch"), reply
        reply = agent.get("/", host=RAW, port=PORT, address=OUTSIDE6)
        assert (reply.status, reply.kind) == (403, "denied:address-not-allowed"), reply
        assert service.accepted == []


@pytest.mark.usefixtures("quiet")
def test_an_address_outside_of_the_policys(agent: Agent) -> None:
    reply = agent.get("/", host=NARROW)
    assert (reply.status, reply.kind) == (403, "denied:address-not-allowed"), reply
    assert "narrow" in reply.problem["detail"]


@pytest.mark.usefixtures("quiet")
def test_a_port_that_policy_does_not_name(spine: Spine, agent: Agent) -> None:
    with RawService(spine.world, 8500, ok, pair=spine.authority.issue(RAW)) as service:
        reply = agent.get("/", host=RAW, port=8500)
        assert (reply.status, reply.kind) == (403, "denied:default-deny"), reply
        assert service.accepted == []


@pytest.mark.usefixtures("quiet")
def test_plain_http_to_a_tls_destination_is_refused(agent: Agent) -> None:
    reply = agent.get("/", host=RAW, port=PORT, tls=False)
    assert reply.status in (0, 403), reply
    assert TOKEN.encode() not in reply.received


@pytest.mark.usefixtures("quiet")
def test_names_that_are_looked_up_are_judged(agent: Agent) -> None:
    for name in ("evil.test", f"{agent.placeholder[4:20].lower()}.evil.test"):
        reply = agent.get("/", host=name)
        assert reply.status == 0
        assert "gaierror" in reply.end


# ---- redirects ----


def test_a_redirect_is_judged_anew(spine: Spine) -> None:
    """curl follows it with the header (--location-trusted): the host that it leads to gets the placeholder only."""

    def redirect(connection: Connection, request: Request) -> bool:
        target = f"https://{SECOND}:{PORT + 1}/there" if request.path == "/allowed" else f"https://evil.test:{PORT}/"
        connection.write(response(b"", f"Location: {target}", status="302 Found"))
        return True

    with (
        RawService(spine.world, PORT, redirect, pair=spine.authority.issue(RAW)) as first,
        RawService(spine.world, PORT + 1, ok, pair=spine.authority.issue(SECOND)) as second,
    ):
        token = '-H "Authorization: Bearer $DEMO_TOKEN"'
        done = spine.shell(f"curl -sS --location-trusted {token} https://{RAW}:{PORT}/allowed")
        assert "urn:coatcheck:denied" in done.stdout, done  # second.test, but not on that port
        assert second.requests == []
        assert first.requests[0].credential == TOKEN.encode()
        done = spine.shell(f"curl -sS --location-trusted {token} https://{RAW}:{PORT}/evil")
        assert done.returncode == 6, done  # its name is not even answered
        assert TOKEN not in done.stdout + done.stderr


def test_a_redirect_to_a_destination_without_the_secret_gets_the_placeholder(spine: Spine) -> None:
    def redirect(connection: Connection, request: Request) -> bool:
        connection.write(response(b"", f"Location: https://{SECOND}:{PORT}/there", status="302 Found"))
        return True

    with (
        RawService(spine.world, PORT + 1, redirect, pair=spine.authority.issue(RAW)) as first,
        RawService(spine.world, PORT, ok, pair=spine.authority.issue(SECOND)) as second,
    ):
        script = (
            f'echo "$DEMO_TOKEN"; curl -sS --location-trusted -H "Authorization: Bearer $DEMO_TOKEN" '
            f"https://{RAW}:{PORT + 1}/go"
        )
        done = spine.shell(script)
        assert first.requests[0].credential == TOKEN.encode()
        assert second.requests[0].credential == done.stdout.split("\n")[0].encode()
