"""One flow between two channels that only remember: the same bytes, however cut, arrive as the same bytes."""

from __future__ import annotations

import asyncio
import gc
import gzip
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.config.schema import Config
from appliance.model.ids import DestinationName, JobId, PrincipalName, SecretName
from appliance.model.placeholder import LeasedPlaceholder, LeasedSecret, Narrowing, Slot
from appliance.model.secret import Secret
from appliance.model.verdict import Destination, Operation, Plan, SqlOperation, Verdict
from appliance.policy.decider import Decider
from appliance.proxy.http_flow import HttpFlow
from appliance.proxy.lease import CompiledLease
from appliance.proxy.recorder import Recorder
from appliance.proxy.tally import ProxyTally
from appliance.proxy.upstream import Route, Upstream
from appliance.wire.http1 import ResponseHead, Sections
from tests.proxy.fake_control import FakeControl

REAL = b"real-" + b"S" * 32
HELD = "held-" + "P" * 32
HOST = "service.test"


class Side:
    """A channel as the flow sees it."""

    def __init__(self) -> None:
        self.wrote = b""
        self.closing = False
        self.aborted = False
        self.tls = None
        self.sink: Any = None
        self.sent_bytes = self.received_bytes = 0

    def attach(self, sink: Any) -> None:
        self.sink = sink

    def write(self, data: bytes) -> None:
        self.wrote += data

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause(self) -> None: ...
    def resume(self) -> None: ...


_folder: list[Path] = []
_recorders: dict[asyncio.AbstractEventLoop, Recorder] = {}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[None]:
    """One pipe for all flows of a test: there are hundreds."""
    _folder.append(tmp_path)
    yield
    _folder.clear()
    for recorder in _recorders.values():
        recorder.close()
    _recorders.clear()


def recorder_here() -> Recorder:
    loop = asyncio.get_running_loop()
    if loop not in _recorders:
        _recorders[loop] = Recorder(FakeControl(_folder[0]))
    return _recorders[loop]


def decide(operation: Operation | SqlOperation) -> Verdict:
    assert isinstance(operation, Operation)
    return Verdict("deny" if operation.path == "/no" else "allow", "service/rule", "not this one")


class Pair:
    """A flow with its lease and its upstream at hand; to be made within a loop."""

    def __init__(self) -> None:
        config = Config()
        services = types.SimpleNamespace(
            config=config,
            tally=ProxyTally(0),
            recorder=recorder_here(),
            sections=Sections(),
        )
        flow: Any = types.SimpleNamespace(
            services=services,
            id="f-1",
            operations=0,
            destination=Destination(HOST, 443, "192.0.2.1", "sni", "tls"),
            plan=Plan("allow", "service", destination=DestinationName("service"), secrets=(SecretName("demo"),)),
            decider=Decider(decide),
            is_fresh=lambda now: True,
            close=lambda **_: None,
        )
        held = LeasedPlaceholder(HELD, Narrowing(), time.time() + 60, counted=False)
        secret = LeasedSecret(SecretName("demo"), Secret(REAL), (Slot("header", "authorization"),), (held,))
        self.agent, self.upstream = Side(), Side()
        self.flow = HttpFlow(flow, self.agent, 443, None)
        self.flow._lease = CompiledLease((secret,), time.time() + 60)
        route = Route(JobId("j-1"), PrincipalName("agent"), HOST, "192.0.2.1", 443, True)
        self.flow._upstream = Upstream(route, self.upstream, config.limits)
        self.flow._upstream.owner = self.flow

    def lease(self) -> CompiledLease | None:
        return self.flow._lease

    async def ask(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.agent.sink.received(piece)
            await settle()

    async def answer(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.upstream.sink.received(piece)
            await settle()


async def settle() -> None:
    """Lets the recorder hand over what it has, and tell so."""
    for _ in range(4):
        await asyncio.sleep(0)


def request(path: str = "/", *headers: str, body: str = "") -> bytes:
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {HOST}", f"Authorization: Bearer {HELD}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", body]).encode()


OK = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Type: text/plain\r\n"
ANSWERS = [
    OK + b"Content-Length: 5\r\n\r\nhello",
    OK + b"Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"connection: Keep-Alive\r\ncontent-length: 5\r\n\r\nhello",
    OK + b"X-Odd:  two spaces\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Keep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"X: Connection: keep-alive\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"X-Token: " + REAL + b"\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Content-Length: 41\r\n\r\n<<" + REAL + b">>",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_in_any_two_pieces_is_the_same_answer(answer: bytes) -> None:
    async def seen(*pieces: bytes) -> bytes:
        pair = Pair()
        await pair.ask(request())
        await pair.answer(*pieces)
        return pair.agent.wrote

    async def run() -> None:
        whole = await seen(answer)
        assert whole.startswith(b"HTTP/1.1 ")
        assert REAL not in whole
        assert b"keep-alive" not in whole.lower().replace(b"x: connection: keep-alive", b"")
        assert whole.count(b"\r\nConnection:") == 0  # the hop to the upstream is not the agent's
        plain = whole.replace(b"5\r\n", b"").replace(b"\r\n0\r\n", b"")
        assert b"hello" in plain or b"<<held-" in plain or b": 0" in answer
        for at in range(1, len(answer)):
            pieces = await seen(answer[:at], answer[at:])
            if b"chunked" in answer:  # a chunk may be cut in two
                assert pieces.partition(b"\r\n\r\n")[0] == whole.partition(b"\r\n\r\n")[0]
            else:
                assert pieces == whole

    asyncio.run(run())


@pytest.mark.parametrize("asked", [request(), request("/a?b=c"), request("/", "X: y", body="0123456789")])
def test_a_request_in_any_two_pieces_is_the_same_request(asked: bytes) -> None:
    async def run() -> None:
        whole = Pair()
        await whole.ask(asked)
        assert b"Bearer " + REAL in whole.upstream.wrote
        for at in range(1, len(asked)):
            pieces = Pair()
            await pieces.ask(asked[:at], asked[at:])
            assert pieces.upstream.wrote == whole.upstream.wrote

    asyncio.run(run())


def test_requests_with_the_same_fields_and_others_between_them() -> None:
    async def run() -> None:
        pair = Pair()
        for number in range(3):
            for path, headers in ((f"/{number}", ()), (f"/x{number}", ("X-Other: 1",))):
                await pair.ask(request(path, *headers))
                head = pair.upstream.wrote
                pair.upstream.wrote = b""
                assert head.startswith(b"GET %b HTTP/1.1\r\n" % path.encode())
                assert (b"X-Other: 1" in head) == bool(headers)
                await pair.answer(ANSWERS[0])
        assert pair.agent.wrote == ANSWERS[0] * 6

    asyncio.run(run())


def test_an_agent_that_sends_no_more_gets_all_its_answers() -> None:
    """RFC 9112 9.6: a half-close does not take back what was asked before it."""

    async def run() -> None:
        pair = Pair()
        await pair.ask(request("/1") + request("/2") + request("/3"))
        pair.agent.sink.ended(True)
        for number in range(3):
            assert not pair.agent.closing
            assert pair.upstream.wrote.count(b"GET /") == number + 1
            await pair.answer(ANSWERS[0])
        answers = pair.agent.wrote.split(b"hello")
        assert [b"Connection: close" in each for each in answers] == [False, False, True, False]
        assert pair.agent.closing
        assert not pair.agent.aborted

    asyncio.run(run())


def test_a_refusal_between_two_requests() -> None:
    async def run() -> None:
        pair = Pair()
        await pair.ask(request("/1") + request("/no") + request("/2"))
        await pair.answer(ANSWERS[0])
        await pair.answer(ANSWERS[0])
        answers = pair.agent.wrote
        assert answers.index(b"hello") < answers.index(b"403 Forbidden") < answers.rindex(b"hello")
        assert b"/no" not in pair.upstream.wrote

    asyncio.run(run())


def test_an_idle_connection_lets_go_of_its_lease() -> None:
    async def run() -> None:
        pair = Pair()
        await pair.ask(request())
        lease = pair.lease()
        assert lease is not None
        lease.expires = 0.0
        pair.flow.check_time(0.0)
        assert pair.lease() is lease  # in use
        await pair.answer(OK + b"X-Token: " + REAL + b"\r\nContent-Length: 5\r\n\r\nhello")
        pair.flow.check_time(0.0)
        assert pair.lease() is None
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, ResponseHead) and REAL in each.raw]

    asyncio.run(run())


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_not_http_ends_a_request_that_has_not_gone_out(settled: bool) -> None:
    """The agent takes the one answer for its first request's: then that must not have been carried out."""

    async def run() -> None:
        pair = Pair()
        pair.agent.sink.received(request("/1"))
        if settled:
            await settle()
        pair.agent.sink.received(b"\0\r\n\r\n")
        await settle()
        if settled:  # it was under way: cut off, no answer that could be taken for its own
            assert pair.agent.aborted
            assert not pair.agent.wrote
        else:
            assert pair.upstream.wrote == b""
            assert pair.agent.wrote.startswith(b"HTTP/1.1 400 ")

    asyncio.run(run())


def test_a_coded_answer_waits_for_an_agent_that_was_slow_before_it_came() -> None:
    async def run() -> None:
        pair = Pair()
        await pair.ask(request())
        pair.flow.hold()
        body = gzip.compress(b"<<" + REAL + b">>")
        await pair.answer(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert b"\r\n\r\n" in pair.agent.wrote
        assert not pair.agent.wrote.partition(b"\r\n\r\n")[2]
        pair.flow.release()
        await settle()
        assert pair.agent.wrote.endswith(b"0\r\n\r\n")

    asyncio.run(run())
