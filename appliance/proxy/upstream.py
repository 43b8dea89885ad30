"""The far side of a flow: dial the address that was asked for, verify it, keep it for the next request.

A connection belongs to one principal in one job for one destination. It may be used again by another flow of the
same three, never across them; nor is a TLS session resumed across them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from appliance.config.schema import Limits
from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.model.ids import JobId, PrincipalName
from appliance.proxy.channel import Buffers, Channel, Line
from appliance.wire.http1 import Event, ResponseReader
from appliance.wire.names import literal_of

_IDLE_LIFE = 30.0  # seconds that a connection waits for its next flow
_IDLE_PER_ROUTE = 64
_IDLE_MOST = 512
_SESSIONS_MOST = 1024
_SESSION_READS = 4096  # by one worker: see Upstreams.remember_session


class Route(NamedTuple):
    """What two flows must share to share a connection."""

    job: JobId
    principal: PrincipalName
    host: str
    address: str
    port: int
    tls: bool


class Owner(Protocol):
    """The flow that an upstream connection works for. No method may raise."""

    def upstream_events(self, events: list[Event]) -> None: ...
    def upstream_failed(self, error: PeerError) -> None: ...
    def upstream_lost(self) -> None: ...
    def upstream_hold(self) -> None: ...
    def upstream_release(self) -> None: ...


class Upstream:
    """One verified connection. The sink of its channel; speaks HTTP/1.1 events to its owner."""

    __slots__ = ("_limits", "channel", "idle_since", "owner", "reader", "requests", "route")

    def __init__(self, route: Route, channel: Line, limits: Limits) -> None:
        self.route = route
        self.channel = channel
        self.reader = ResponseReader(limits.head_bytes, limits.headers)
        self.owner: Owner | None = None
        self.requests = 0
        self.idle_since = 0.0
        channel.attach(self)

    @property
    def usable(self) -> bool:
        return not self.channel.closing

    # ---- Sink ----

    def received(self, data: bytes) -> None:
        owner = self.owner
        if owner is None:
            self.channel.abort()  # an idle server has nothing to say; what it says belongs to nobody
            return
        try:
            events = self.reader.feed(data)
        except PeerError as error:
            self._failed(error)
        else:
            if events:
                owner.upstream_events(events)

    def ended(self, clean: bool) -> None:
        if self.owner is not None:
            if clean:
                self._read_end(self.owner)
            else:
                self.owner.upstream_failed(PeerError("upstream-cut", "the server cut the TLS connection off"))
        self.channel.close()

    def lost(self, error: Exception | None) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.upstream_lost()

    def hold(self) -> None:
        if self.owner is not None:
            self.owner.upstream_hold()

    def release(self) -> None:
        if self.owner is not None:
            self.owner.upstream_release()

    def _read_end(self, owner: Owner) -> None:
        try:
            events = self.reader.eof()
        except PeerError as error:
            self._failed(error)
        else:
            if events:
                owner.upstream_events(events)

    def _failed(self, error: PeerError) -> None:
        owner = self.owner
        self.channel.abort()
        if owner is not None:
            owner.upstream_failed(error)


class Upstreams:
    """Dials, and keeps what may be used again. `dialled` hears of each connection: "new", "reused" or "failed", and the
    seconds that it took."""

    def __init__(
        self, buffers: Buffers, context: ssl.SSLContext, limits: Limits, dialled: Callable[[str, float], None]
    ) -> None:
        self._buffers = buffers
        self._context = context
        self._limits = limits
        self._idle: dict[Route, list[Upstream]] = {}
        self._idle_count = 0
        self._sessions: OrderedDict[Route, ssl.SSLSession] = OrderedDict()
        self._session_reads = 0
        self._dialled = dialled

    def take(self, route: Route) -> Upstream | None:
        """An idle connection of this route, if there is one."""
        idle = self._idle.get(route)
        while idle:
            upstream = idle.pop()
            self._idle_count -= 1
            if not idle:
                del self._idle[route]
            if upstream.usable:
                self._dialled("reused", 0.0)
                return upstream
        return None

    def give_back(self, upstream: Upstream) -> None:
        """Keeps a connection whose last exchange is complete, or closes it."""
        self.remember_session(upstream)
        idle = self._idle.setdefault(upstream.route, [])
        upstream.owner = None
        upstream.reader.forget()
        if not upstream.usable or len(idle) >= _IDLE_PER_ROUTE or self._idle_count >= _IDLE_MOST:
            if not idle:
                del self._idle[upstream.route]
            upstream.channel.close()
            return
        upstream.idle_since = time.monotonic()
        idle.append(upstream)
        self._idle_count += 1

    def sweep(self) -> None:
        """Closes what has waited too long; called about once a second."""
        oldest = time.monotonic() - _IDLE_LIFE
        for route in list(self._idle):
            idle = self._idle[route]
            keep = [u for u in idle if u.usable and u.idle_since > oldest]
            for upstream in idle:
                if upstream not in keep:
                    upstream.channel.close()
            self._idle_count -= len(idle) - len(keep)
            if keep:
                self._idle[route] = keep
            else:
                del self._idle[route]

    def close(self) -> None:
        for idle in self._idle.values():
            for upstream in idle:
                upstream.channel.close()
        self._idle.clear()
        self._idle_count = 0

    async def connect(self, route: Route) -> Upstream:
        """A connection of this route: an idle one, or a new one, dialled and verified.

        Raises EnvironmentFailed with code upstream-refused, -unreachable, -timeout, -certificate or -tls. Cancelling
        leaves no connection behind.
        """
        upstream = self.take(route)
        if upstream is None:
            with timed(self._dialled):
                upstream = await self._dial(route)
        return upstream

    async def _dial(self, route: Route) -> Upstream:
        channel = Channel(self._buffers)
        session = self._sessions.get(route)
        if route.tls:
            channel.expect_tls(
                self._context,
                server_side=False,
                server_hostname=literal_of(route.host) or route.host,
                session=session,
            )
        await dial(channel, route, self._limits)
        if route.tls:
            await secure(channel, route, self._limits)
            if session is not None and channel.tls is not None and not channel.tls.session_reused:
                self._sessions.pop(route, None)  # the server has forgotten it: the next one is read
        return Upstream(route, channel, self._limits)

    def remember_session(self, upstream: Upstream) -> None:
        """Keeps the TLS session (RFC 8446 2.2) for the route's next dials, as long as the server takes it up.

        CPython leaks about 6 kB whenever `SSLObject.session` is read (3.11: `PySSL_get_session` loses a copy): so
        it is read once for a route, and `_SESSION_READS` times in all; after that handshakes are whole ones.
        """
        tls, route = upstream.channel.tls, upstream.route
        if tls is None or route in self._sessions or self._session_reads >= _SESSION_READS:
            return
        self._session_reads += 1
        session = tls.session
        if session is not None and session.has_ticket:
            self._sessions[route] = session
            while len(self._sessions) > _SESSIONS_MOST:
                self._sessions.popitem(last=False)


@contextmanager
def timed(dialled: Callable[[str, float], None]) -> Iterator[None]:
    """Tells of a connection that is opened within: "new", or "failed" if that raises, and the seconds that it took."""
    started = time.perf_counter()
    result = "failed"
    try:
        yield
        result = "new"
    finally:
        dialled(result, time.perf_counter() - started)


async def dial(channel: Channel, route: Route, limits: Limits) -> None:
    """Connects `channel` to the address that was asked for. Raises EnvironmentFailed("upstream-refused",
    "-unreachable", "-timeout", "exhausted")."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.connect_timeout):
            await loop.create_connection(lambda: channel, route.address, route.port)
    except TimeoutError:
        raise EnvironmentFailed(
            "upstream-timeout", f"{_where(route)} did not accept within {limits.connect_timeout:g} s"
        ) from None
    except OSError as error:
        raise EnvironmentFailed(_dial_code(error), f"{_where(route)}: {_words(error)}") from None


async def secure(channel: Channel, route: Route, limits: Limits) -> None:
    """Waits for the TLS handshake that `channel` has begun. Raises EnvironmentFailed("upstream-certificate", "-tls" or
    "-timeout")."""
    try:
        await channel.secured(limits.handshake_timeout)
    except PeerError as error:
        code = "upstream-certificate" if error.code == "tls-certificate" else "upstream-tls"
        raise EnvironmentFailed(code, f"{_where(route)}: {error}") from None
    except EnvironmentFailed as error:
        raise EnvironmentFailed("upstream-timeout", f"{_where(route)}: {error}") from None


def _where(route: Route) -> str:
    return f"{route.host} port {route.port}" + (f" at {route.address}" if route.address != route.host else "")


def _dial_code(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "upstream-refused"
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
        return "exhausted"
    if error.errno == errno.ETIMEDOUT:
        return "upstream-timeout"
    return "upstream-unreachable"


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else "the connection failed"
