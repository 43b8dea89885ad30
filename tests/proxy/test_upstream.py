"""Connections to a service are verified, used again by the same principal at the same peer only, and ended in time."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.config.schema import Limits, Tls
from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.model.ids import JobId, PrincipalName
from appliance.proxy import upstream as module
from appliance.proxy.certificates import upstream_context
from appliance.proxy.channel import Buffers
from appliance.proxy.upstream import Route, Upstream, Upstreams
from appliance.wire.http1 import Event
from tests.proxy.loops import on_both_loops, run, until
from tests.world.pki import TestAuthority

LIMITS = Limits(connect_timeout=2, handshake_timeout=2)


class Owner:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.errors: list[PeerError] = []
        self.losses = 0

    def upstream_events(self, events: list[Event]) -> None:
        self.events += events

    def upstream_failed(self, error: PeerError) -> None:
        self.errors.append(error)

    def upstream_lost(self) -> None:
        self.losses += 1

    def upstream_hold(self) -> None: ...
    def upstream_release(self) -> None: ...


class Service:
    """Accepts, and keeps every connection."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.resumed: list[bool] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        tls = writer.get_extra_info("ssl_object")
        if tls is not None:
            self.resumed.append(tls.session_reused)
        try:
            while await reader.read(65536):
                pass
        except OSError:
            pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("pki"))


def context_of(authority: TestAuthority, host: str = "a.example", expired: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue(host, expired=expired)
    context.load_cert_chain(pair.chain, pair.key)
    return context


@asynccontextmanager
async def service(tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    found = Service()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        for writer in found.writers:
            writer.transport.abort()
        server.close()


def route(port: int, tls: bool = False, **changes: Any) -> Route:
    made = Route(JobId("j-1"), PrincipalName("agent"), "a.example", "127.0.0.1", port, tls)
    return made._replace(**changes)


def nobody(result: str, seconds: float) -> None:
    """Who does not count connections."""


def pool(authority: TestAuthority | None = None, dialled: Callable[[str, float], None] = nobody) -> Upstreams:
    files = (str(authority.file),) if authority is not None else ()
    context = upstream_context(Tls(upstream_ca_files=files, system_roots=authority is None), "http/1.1")
    return Upstreams(Buffers(), context, LIMITS, dialled)


@on_both_loops
def test_a_connection_is_used_again_by_the_same_route_only(loop: str) -> None:
    async def main() -> None:
        async with service() as there:
            told: list[str] = []
            upstreams, own = pool(dialled=lambda result, _: told.append(result)), route(there.port)
            first = await upstreams.connect(own)
            upstreams.give_back(first)
            for other in (
                route(there.port, job=JobId("j-2")),
                route(there.port, principal=PrincipalName("other")),
                route(there.port, host="b.example"),
                route(there.port, address="127.0.0.2"),
                route(there.port + 1),
                route(there.port, tls=True),
            ):
                assert upstreams.take(other) is None
            assert await upstreams.connect(own) is first
            assert upstreams.take(own) is None  # one flow at a time
            assert told == ["new", "reused"]
            with pytest.raises(EnvironmentFailed):
                await upstreams.connect(route(1))
            assert told == ["new", "reused", "failed"]
            upstreams.give_back(first)
            upstreams.close()

    run(loop, main())


@on_both_loops
def test_an_idle_connection_that_ends_or_speaks_is_not_used_again(loop: str) -> None:
    async def main() -> None:
        async with service() as there:
            upstreams, own = pool(), route(there.port)
            for speak in (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""):
                upstream = await upstreams.connect(own)
                upstreams.give_back(upstream)
                await until(lambda: there.writers)
                writer = there.writers.pop()
                writer.write(speak)
                if not speak:
                    writer.close()
                await until(lambda: not upstream.usable)  # noqa: B023
                assert upstreams.take(own) is None
                writer.transport.abort()

    run(loop, main())


@on_both_loops
def test_limits_of_what_is_kept_and_for_how_long(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_PER_ROUTE", 3)
    monkeypatch.setattr(module, "_IDLE_MOST", 4)

    async def main() -> None:
        async with service() as there:
            upstreams = pool()
            own, other = route(there.port), route(there.port, job=JobId("j-2"))
            made = [await upstreams._dial(own) for _ in range(5)] + [await upstreams._dial(other) for _ in range(3)]
            for each in made:
                upstreams.give_back(each)
            assert [each.usable for each in made] == [True] * 3 + [False] * 2 + [True] + [False] * 2
            upstreams.sweep()
            assert upstreams._idle_count == 4
            now = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda: now + 31)
            upstreams.sweep()
            assert upstreams._idle_count == 0
            assert upstreams._idle == {}
            assert not any(each.usable for each in made)
            monkeypatch.undo()

    run(loop, main())


@on_both_loops
def test_a_server_is_verified_and_a_session_resumed_on_its_route_only(loop: str, authority: TestAuthority) -> None:
    async def main() -> None:
        async with service(context_of(authority)) as there:
            upstreams = pool(authority)
            own, other = route(there.port, tls=True), route(there.port, tls=True, job=JobId("j-2"))
            for where in (own, own, other):
                upstream = await upstreams._dial(where)
                upstream.reader.expect("GET")
                owner = upstream.owner = Owner()
                await until(lambda: there.writers)
                there.writers.pop().write(b"HTTP/1.1 200 OK\r\n\r\n")  # tickets come before it
                await until(lambda: owner.events)  # noqa: B023
                upstreams.remember_session(upstream)
                upstream.channel.close()
            assert there.resumed == [False, True, False]

    run(loop, main())


@on_both_loops
@pytest.mark.parametrize(
    ("host", "expired", "trusted"), [("b.example", False, True), ("a.example", True, True), ("a.example", False, False)]
)
def test_a_server_that_is_not_who_it_should_be_is_refused(
    loop: str, authority: TestAuthority, tmp_path: Path, host: str, expired: bool, trusted: bool
) -> None:
    async def main() -> None:
        async with service(context_of(authority, host, expired)) as there:
            upstreams = pool(authority if trusted else TestAuthority(tmp_path))
            with pytest.raises(EnvironmentFailed) as caught:
                await upstreams.connect(route(there.port, tls=True))
            assert caught.value.code == "upstream-certificate"
            assert upstreams._idle == {}

    run(loop, main())


@on_both_loops
def test_a_server_that_is_not_there_or_silent_or_no_tls(loop: str, authority: TestAuthority) -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            with pytest.raises(EnvironmentFailed) as caught:
                await pool().connect(route(port))
            assert caught.value.code == "upstream-refused"
        async with service() as there:
            upstreams = Upstreams(Buffers(), upstream_context(Tls(), "http/1.1"), Limits(handshake_timeout=0.1), nobody)
            with pytest.raises(EnvironmentFailed) as caught:
                await upstreams.connect(route(there.port, tls=True))
            assert caught.value.code == "upstream-timeout"
            dialling = asyncio.ensure_future(pool().connect(route(there.port, tls=True)))
            await until(lambda: len(there.writers) == 2)
            there.writers[1].write(b"HTTP/1.1 400 no\r\n\r\n")
            with pytest.raises(EnvironmentFailed) as caught:
                await dialling
            assert caught.value.code == "upstream-tls"

    run(loop, main())


@on_both_loops
def test_cancelling_a_dial_leaves_no_connection(loop: str) -> None:
    async def main() -> None:
        async with service() as there:
            dialling = asyncio.ensure_future(pool().connect(route(there.port, tls=True)))
            await until(lambda: there.writers)
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
            await until(lambda: there.writers[0].transport.is_closing())

    run(loop, main())


@on_both_loops
def test_what_a_server_says_goes_to_the_owner_and_nonsense_ends_it(loop: str) -> None:
    async def main() -> None:
        async with service() as there:
            upstreams = pool()
            for text, events, errors in (
                (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 3, 0),
                (b"nonsense\r\n\r\n", 0, 1),
            ):
                upstream = await upstreams.connect(route(there.port))
                owner = upstream.owner = Owner()
                upstream.reader.expect("GET")
                count = len(there.writers)
                await until(lambda: len(there.writers) >= count)  # noqa: B023
                await until(lambda: there.writers)
                there.writers[-1].write(text)
                await until(lambda: len(owner.events) == events and len(owner.errors) == errors)  # noqa: B023
                assert isinstance(upstream, Upstream)
                assert upstream.usable is (errors == 0)
                upstream.channel.abort()
                await until(lambda: owner.losses)  # noqa: B023
                there.writers.pop().transport.abort()

    run(loop, main())


def test_reading_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading leaks in CPython: one for each route, whatever is dialled and given back, and so many in all."""
    read: list[Route] = []

    class Tls:
        session_reused = True

        @property
        def session(self) -> Any:
            read.append(current)
            return types.SimpleNamespace(has_ticket=True)

    upstreams = Upstreams(Buffers(), ssl.create_default_context(), LIMITS, nobody)
    monkeypatch.setattr(module, "_SESSION_READS", 5)
    for number in range(9):
        current = Route(JobId(f"j-{number}"), PrincipalName("p"), "a.test", "192.0.2.1", 443, True)
        for _ in range(3):
            channel: Any = types.SimpleNamespace(tls=Tls(), attach=lambda sink: None)
            made = Upstream(current, channel, LIMITS)
            upstreams.remember_session(made)
    assert [route.job for route in read] == [f"j-{number}" for number in range(5)]
