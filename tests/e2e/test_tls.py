"""TLS on both sides: whom the agent trusts, whom the appliance trusts, what is reused, and what a tunnel is."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from tests.e2e.agent import Agent, Reply
from tests.e2e.raw_service import Connection, RawService, Request, ok
from tests.e2e.raw_spine import PORT, RAW, with_raw
from tests.e2e.spine import HOST, Spine
from tests.world import OUTSIDE4, OUTSIDE6
from tests.world.appliance import TOKEN
from tests.world.pki import TestAuthority

pytestmark = pytest.mark.world
TUNNEL = "tunnel.test"
NOWHERE = "10.77.0.99"  # of the world's own network, and nobody's
SIX = "six.test"


def _change(config: dict[str, Any], policy: dict[str, Any]) -> None:
    with_raw(config, policy)
    hosts = config["dns"]["hosts"]
    hosts |= {TUNNEL: [OUTSIDE4], "nowhere.test": [NOWHERE], SIX: [OUTSIDE6]}
    config["secrets"][0]["hosts"] += ["nowhere.test", SIX]
    config["secrets"][0]["destinations"] += ["nowhere", "six"]
    config["limits"] = {"connect_timeout": 5.0, "handshake_timeout": 1.0}
    one = {"principals": ["agent"], "ports": [PORT]}
    any_request = {**one, "rules": [{"name": "any"}]}
    policy["destinations"] += [
        {"name": "tunnel", "hosts": [TUNNEL], "protocol": "tunnel", **one},
        {"name": "nowhere", "hosts": ["nowhere.test"], "secrets": ["demo"], **any_request},
        {"name": "six", "hosts": [SIX], "secrets": ["demo"], **any_request},
        {"name": "literal", "hosts": [OUTSIDE4, f"[{OUTSIDE6}]"], **any_request},
    ]


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        yield made


@pytest.fixture(scope="module")
def agent(spine: Spine) -> Iterator[Agent]:
    with Agent(spine) as made:
        yield made


def _leaf(reply: Reply) -> x509.Certificate:
    return x509.load_pem_x509_certificate(reply.certificate.encode())


# ---- towards the agent ----


def test_a_leaf_names_its_host_and_is_short_lived(agent: Agent) -> None:
    leaf = _leaf(agent.get("/", host=HOST))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    now = datetime.datetime.now(datetime.UTC)
    assert leaf.not_valid_before_utc < now < leaf.not_valid_after_utc
    assert leaf.not_valid_after_utc - now <= datetime.timedelta(days=1, minutes=1)
    assert _leaf(agent.get("/", host=HOST)).serial_number == leaf.serial_number


def test_a_client_without_sni_is_served_by_the_name_that_dns_gave_it(agent: Agent) -> None:
    reply = agent.get("/no-sni", host=HOST, name=None)
    assert reply.status == 200
    names = _leaf(reply).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert HOST in names.get_values_for_type(x509.DNSName)


def test_sni_of_another_host_than_dialled_is_refused(spine: Spine, agent: Agent) -> None:
    count = len(spine.received())
    reply = agent.get("/", host=HOST, address="10.77.0.3")
    assert reply.status != 200
    assert len(spine.received()) == count
    reply = agent.get("/", host=HOST, name="unknown.test")
    assert (reply.status, reply.kind) == (403, "denied:default-deny")
    assert len(spine.received()) == count


@pytest.mark.parametrize("address", [OUTSIDE6, f"::ffff:{OUTSIDE4}", OUTSIDE4])
def test_literal_addresses(spine: Spine, address: str) -> None:
    """In a job that looked no name up: what dns gave would otherwise name the address."""
    outside = OUTSIDE6 if address == OUTSIDE6 else OUTSIDE4
    named = f"[{OUTSIDE6}]" if address == OUTSIDE6 else OUTSIDE4
    pair = spine.authority.issue(outside)
    with Agent(spine) as agent, RawService(spine.world, PORT, ok, pair=pair, address=outside) as service:
        reply = agent.get("/literal", host=outside, port=PORT, address=address, name=None, named=f"{named}:{PORT}")
        assert reply.status == 200, reply
        addresses = _leaf(reply).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(each) for each in addresses.get_values_for_type(x509.IPAddress)] == [outside]
        assert service.requests[0].credential == agent.placeholder.encode()  # no secret for this destination


def test_a_host_of_ipv6_only(spine: Spine, agent: Agent) -> None:
    with RawService(spine.world, PORT, ok, pair=spine.authority.issue(SIX), address=OUTSIDE6) as service:
        assert agent.get("/", host=SIX, port=PORT).status == 200
        assert service.requests[0].credential != agent.placeholder.encode()


# ---- towards the service ----


def _upstream(spine: Spine, agent: Agent, pair: Any) -> tuple[Reply, RawService]:
    with RawService(spine.world, PORT, ok, pair=pair) as service:
        return agent.get("/", host=RAW, port=PORT), service


@pytest.mark.parametrize("wrong", ["expired", "name", "authority", "self-signed"])
def test_a_service_that_cannot_prove_who_it_is_gets_nothing(spine: Spine, agent: Agent, wrong: str) -> None:
    folder = spine.world.dir / f"wrong-{wrong}"
    folder.mkdir()
    other = TestAuthority(folder)
    pair = {
        "expired": lambda: spine.authority.issue(RAW, expired=True),
        "name": lambda: spine.authority.issue("elsewhere.test"),
        "authority": lambda: other.issue(RAW),
        "self-signed": lambda: other.issue(RAW),
    }[wrong]()
    reply, service = _upstream(spine, agent, pair)
    assert (reply.status, reply.kind) == (502, "unavailable:upstream-certificate")
    words = {"expired": "expired", "name": RAW, "authority": "issuer", "self-signed": "certificate"}
    assert words[wrong] in reply.problem["detail"], reply.problem
    assert service.requests == []


@pytest.mark.parametrize("how", ["plain", "silent", "reset", "dead", "unreachable"])
def test_a_service_that_is_none_is_named_and_told_nothing(spine: Spine, agent: Agent, how: str) -> None:
    host, expected = RAW, (502, "unavailable:upstream-tls")
    received: list[bytes] = []
    listener: socket.socket | None = None
    if how == "dead":
        expected = (502, "unavailable:upstream-refused")
    elif how == "unreachable":
        host, expected = "nowhere.test", (502, "unavailable:upstream-unreachable")
    else:
        expected = (504, "unavailable:upstream-timeout") if how == "silent" else expected
        listener = spine.world.listener("outside", OUTSIDE4, PORT)
        _take_one(listener, how, received)
    reply = agent.get("/", host=host, port=PORT)
    if listener is not None:
        listener.close()
    assert (reply.status, reply.kind) == expected, reply
    assert host in reply.problem["detail"]
    assert b"Bearer" not in b"".join(received)
    assert b"GET" not in b"".join(received)


def _take_one(listener: socket.socket, how: str, received: list[bytes]) -> None:
    """Accepts one connection on a thread and behaves as `how` says."""

    def serve() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):  # the other end goes first
            received.append(sock.recv(65536))
            if how == "plain":
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            elif how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                received.append(sock.recv(65536))

    threading.Thread(target=serve, daemon=True).start()


# ---- reuse ----


def test_connections_are_kept_and_sessions_resumed(spine: Spine, agent: Agent) -> None:
    def alternating(connection: Connection, request: Request) -> bool:
        ok(connection, request)
        return request.path != "/last"

    with RawService(spine.world, PORT, alternating, pair=spine.authority.issue(RAW)) as service:
        for _ in range(5):
            assert agent.get("/", host=RAW, port=PORT).status == 200  # a connection of the agent's own each
        assert len(service.accepted) == 1
        agent.get("/last", host=RAW, port=PORT)
        assert agent.get("/", host=RAW, port=PORT).status == 200
        assert service.accepted == [False, True]


def test_nothing_is_reused_across_jobs(spine: Spine, agent: Agent) -> None:
    with RawService(spine.world, PORT, ok, pair=spine.authority.issue(RAW)) as service:
        agent.get("/", host=RAW, port=PORT)
        with Agent(spine) as other:
            reply = other.get("/", host=RAW, port=PORT)
            assert reply.status == 200, reply
            agent.get("/", host=RAW, port=PORT)
        assert service.accepted == [False, False]
        assert [request.connection for request in service.requests] == [1, 2, 1]


def test_nothing_is_reused_across_principals_of_one_job() -> None:
    def change(config: dict[str, Any], policy: dict[str, Any]) -> None:
        with_raw(config, policy)
        config["workloads"].append({"name": "second", "match": {"uid": [4242]}, "groups": ["ci"]})
        policy["destinations"][-1]["principals"].append("second")

    def curl(uid: int, path: str) -> str:
        return (
            f"setpriv --reuid={uid} --regid={uid} --clear-groups -- curl -sS -o /dev/null "
            f'-H "Authorization: Bearer $DEMO_TOKEN" https://{RAW}:{PORT}/{path}'
        )

    script = "; ".join([curl(65534, "first"), curl(4242, "second"), curl(65534, "third")])
    with Spine(change) as spine, RawService(spine.world, PORT, ok, pair=spine.authority.issue(RAW)) as service:
        done = spine.job(["sh", "-c", script], uid=0)
        assert done.returncode == 0, done.stderr
        assert [request.path for request in service.requests] == ["/first", "/second", "/third"]
        assert [request.connection for request in service.requests] == [1, 2, 1]
        assert service.accepted == [False, False]
        assert {request.credential for request in service.requests} == {TOKEN.encode()}


# ---- tunnels ----


def test_a_tunnel_is_not_looked_into(spine: Spine, agent: Agent) -> None:
    pair = spine.authority.issue(TUNNEL)
    with RawService(spine.world, PORT, ok, pair=pair) as service:
        reply = agent.get("/tunnel", host=TUNNEL, port=PORT, verify=False)
        assert reply.status == 200
        assert reply.certificate == ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pair.chain.read_text()))
        assert service.requests[0].credential == agent.placeholder.encode()


def test_a_tunnel_goes_only_where_its_name_leads(spine: Spine, agent: Agent) -> None:
    with RawService(spine.world, PORT, ok, pair=spine.authority.issue(TUNNEL), address=OUTSIDE6) as service:
        reply = agent.get("/", host=TUNNEL, port=PORT, address=OUTSIDE6, verify=False)
        assert reply.status != 200
        assert service.accepted == []
