"""Every phase of a flow has an end, and says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.agent import Agent
from tests.e2e.raw_service import Connection, RawService, Request, response
from tests.e2e.raw_spine import PORT, RAW, with_limits
from tests.e2e.spine import Spine
from tests.world import OUTSIDE4

pytestmark = pytest.mark.world
PLAIN = "plain.test"
HEAD = f"POST /x HTTP/1.1\r\nHost: {RAW}:{PORT}\r\n"


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    change = with_limits(
        hello_timeout=1.5,
        handshake_timeout=1.5,
        connect_timeout=1.5,
        head_timeout=1.5,
        body_idle_timeout=1.5,
        response_timeout=1.5,
        keepalive_timeout=1.5,
    )

    def with_plain(config: dict[str, Any], policy: dict[str, Any]) -> None:
        change(config, policy)
        config["dns"]["hosts"][PLAIN] = [OUTSIDE4]
        one = {"name": "plain", "hosts": [PLAIN], "ports": [8500], "protocol": "plain-http", "principals": ["agent"]}
        policy["destinations"].append({**one, "rules": [{"name": "any"}]})

    with Spine(with_plain) as made:
        yield made


@pytest.fixture(scope="module")
def agent(spine: Spine) -> Iterator[Agent]:
    with Agent(spine) as made:
        yield made


def _answer(connection: Connection, request: Request) -> bool:
    if request.path == "/silent":
        time.sleep(6)
        return False
    if request.path == "/stalls":
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        time.sleep(6)
        return False
    connection.write(response(b"ok"))
    return True


@pytest.fixture(scope="module", autouse=True)
def service(spine: Spine) -> Iterator[RawService]:
    with RawService(spine.world, PORT, _answer, pair=spine.authority.issue(RAW), body=False) as made:
        yield made


def test_a_connection_that_says_nothing_is_cut_off(agent: Agent) -> None:
    assert agent.raw(host=RAW, port=PORT, tls=False, wait=15).end in ("reset", "eof")


def test_a_tls_handshake_that_stops_is_cut_off(agent: Agent) -> None:
    assert agent.raw(b"\x16\x03\x01\x02\x00\x01", host=RAW, port=PORT, tls=False, wait=15).end in ("reset", "eof")


def test_a_head_that_does_not_end(agent: Agent) -> None:
    reply = agent.raw(HEAD, host=RAW, port=PORT, wait=15)
    assert (reply.status, reply.kind) == (408, "unavailable:request-slow"), reply
    assert "head" in reply.problem["detail"]


def test_a_body_that_does_not_come(agent: Agent) -> None:
    reply = agent.raw(HEAD.replace("/x", "/silent") + "Content-Length: 9\r\n\r\nabc", host=RAW, port=PORT, wait=15)
    assert (reply.status, reply.kind) == (408, "unavailable:request-slow"), reply
    assert "body" in reply.problem["detail"]


def test_a_server_that_does_not_answer(agent: Agent) -> None:
    reply = agent.get("/silent", host=RAW, port=PORT, wait=15)
    assert (reply.status, reply.kind) == (504, "unavailable:upstream-slow"), reply


def test_a_server_that_stops_within_its_answer_gives_no_whole_one(agent: Agent) -> None:
    reply = agent.get("/stalls", host=RAW, port=PORT, wait=15)
    assert reply.status == 200
    assert reply.end == "reset" or "EOF" in reply.end, reply


def test_nor_does_it_in_the_clear_where_the_end_is_the_connections(spine: Spine, agent: Agent) -> None:
    """To an agent of HTTP/1.0 a body ends with the connection: what was cut must end by a reset."""

    def stalls(connection: Connection, request: Request) -> bool:
        connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n")
        time.sleep(6)
        return False

    with RawService(spine.world, 8500, stalls):
        data = f"GET / HTTP/1.0\r\nHost: {PLAIN}:8500\r\n\r\n"
        reply = agent.raw(data, host=PLAIN, port=8500, tls=False, responses=0, wait=15)
    assert reply.status == 200
    assert reply.end == "reset", reply


def test_a_connection_that_waits_for_nothing_is_closed(agent: Agent) -> None:
    reply = agent.get("/x", host=RAW, port=PORT, responses=0, wait=15)
    assert reply.status == 200
    assert reply.end == "eof"
