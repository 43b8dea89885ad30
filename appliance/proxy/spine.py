"""The way of one connection, in order: accept, attest, identify, detect, decide, record, carry.

Every step can end it; none can skip the next. What ends it before there is an identity is recorded as refused and cut
off; afterwards the agent is told in its own protocol, where that is known.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from typing import Literal, Protocol

import structlog

from appliance.attest.flowmap import FlowMap
from appliance.attest.peer_socket import PeerSockets
from appliance.attest.seen import Address, Seen, seen
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, PeerError
from appliance.model.identity import Identity
from appliance.model.ids import FlowId, JobId
from appliance.model.record import Refused
from appliance.model.verdict import Destination, NameSource
from appliance.proxy.channel import Channel
from appliance.proxy.detect import HttpStart, PostgresStart, Start, TlsStart, detect
from appliance.proxy.flow import Flow
from appliance.proxy.http_flow import HttpFlow
from appliance.proxy.peek import peek
from appliance.proxy.services import Services
from appliance.proxy.tunnel import carry
from appliance.wire.names import host_of_address, literal_of, split_host_port

log = structlog.get_logger()

_DNS_PORT = 53
_HTTP_PORT = 80
_HTTPS_PORT = 443
_REQUEST_SIZE = 8  # bytes of SSLRequest and GSSENCRequest (PostgreSQL documentation 55.7)
_POSTGRES_ALPN = "postgresql"  # TLS from the first byte on (PostgreSQL documentation 55.2.11)


class Ended(Protocol):
    """A flow whose protocol we end: the sink of the agent's channel."""

    end: str
    closed: asyncio.Future[None]

    def check_time(self, now: float) -> None: ...


class Spine:
    """Serves accepted sockets. `flows`: those under way that we end, for the sweep of their time limits."""

    def __init__(self, services: Services, flow_map: FlowMap, peers: PeerSockets, netns: int) -> None:
        self._services = services
        self._flow_map = flow_map
        self._peers = peers
        self._netns = netns
        self._limits = services.config.limits
        self._per_job: dict[int, int] = {}
        self.flows: set[Ended] = set()

    async def serve(self, sock: socket.socket, peer: Address, local: Address) -> None:
        """One connection from accept to end. Closes `sock`. Raises nothing but a cancellation."""
        tally = self._services.tally
        tally.accepted()
        job = 0
        started = time.perf_counter()
        try:
            found = self._attest(sock.family, peer, local)
            self._count(found.task_job)
            job = found.task_job  # counted: so it will be discounted
            identity = await self._services.identities.identify(found.process_key, found.question)
            tally.step("identify", time.perf_counter() - started)
            if found.port == _DNS_PORT:
                await self._services.names.serve_tcp(sock, peer, local, identity)
                return
            await self._carry(sock, found, identity)
        except CoatcheckError as error:
            self._refuse(sock, peer, error)
        except OSError as error:
            self._refuse(sock, peer, EnvironmentFailed("system", os.strerror(error.errno or 0)))
        except Exception as error:  # the seam: a bug ends this connection, not the worker
            log.error("spine.bug", error=type(error).__name__, exc_info=True)
            self._refuse(sock, peer, EnvironmentFailed("internal", "an error within Coatcheck"))
        finally:
            tally.closed()
            if job:
                self._discount(job)
            sock.close()

    def sweep(self, now: float) -> None:
        for flow in list(self.flows):
            flow.check_time(now)

    # ---- accept, attest ----

    def _attest(self, family: int, peer: Address, local: Address) -> Seen:
        """The kernel's record of this connection, proven to be of the socket on its other end."""
        found = seen(self._flow_map, self._netns, peer, local, socket.IPPROTO_TCP)
        if found is None:
            raise Denied("no-record", "no governed process made this connection")
        near = (socket.inet_pton(family, peer[0]), peer[1])
        far = (socket.inet_pton(family, local[0]), local[1])
        if self._peers.cookie(family, near, far) != found.cookie:
            raise Denied("stale-record", "the kernel's record is of an earlier connection")
        if not found.task_job or found.task_job != found.socket_job:
            raise Denied("foreign-socket", "the socket was made in another job than the process that connected it")
        return found

    def _count(self, job: int) -> None:
        count = self._per_job.get(job, 0)
        if count >= self._limits.flows_per_job:
            raise Denied("flows-per-job", f"this job has {count} connections open, which is the limit")
        self._per_job[job] = count + 1

    def _discount(self, job: int) -> None:
        count = self._per_job.get(job, 0) - 1
        if count > 0:
            self._per_job[job] = count
        else:
            self._per_job.pop(job, None)

    def _refuse(self, sock: socket.socket, peer: Address, error: CoatcheckError) -> None:
        """Cut off with RST, and on the record."""
        reason = error.rule if isinstance(error, Denied) else getattr(error, "code", "internal")
        self._services.tally.failed(error)
        if reason != "eof":
            self._services.recorder.put(
                Refused(time=time.time(), reason=reason, peer=f"{peer[0]} {peer[1]}", detail=str(error))
            )
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        except OSError:
            pass  # it is gone already

    # ---- detect, decide, carry ----

    async def _carry(self, sock: socket.socket, found: Seen, identity: Identity) -> None:
        limits = self._limits
        read: Callable[[bytes], Start | int] = lambda data: detect(data, limits.head_bytes, limits.headers)  # noqa: E731
        start: Start = await peek(sock, read, limits.hello_timeout)
        flow = self._flow(start, found, identity)
        if isinstance(start, PostgresStart) and start.kind != "plain":
            start = await self._postgres_start(sock, start, read)
            flow = self._flow(start, found, identity, postgres=True)
        refusal = await self._refusal(flow, start)
        await flow.open(refusal)
        self._services.tally.opened(refusal is None)
        if refusal is not None:
            self._services.tally.failed(refusal)
        if refusal is None and flow.plan.mode == "tunnel":
            await self._tunnel(sock, flow)
        elif isinstance(start, TlsStart):
            await self._end_tls(sock, flow, refusal)
        elif isinstance(start, (HttpStart, PostgresStart)):
            await self._plain(sock, flow, refusal)
        else:
            flow.close(sent=0, received=0, end=refusal.rule if refusal else "protocol")
            raise refusal or Denied("protocol", "this protocol is not one that Coatcheck ends")

    def _flow(self, start: Start, found: Seen, identity: Identity, *, postgres: bool = False) -> Flow:
        flow = FlowId("f-" + os.urandom(8).hex())
        destination = self._destination(start, found, identity.claims.job, postgres)
        return Flow(self._services, flow, found.process_key, identity, destination)

    async def _postgres_start(self, sock: socket.socket, start: Start, read: Callable[[bytes], Start | int]) -> Start:
        """What follows a request for encryption: GSS is declined, TLS agreed to. Nothing but the request's 8 bytes is
        taken from the socket, so that no byte is ever read as if it had come within TLS."""
        asked: set[str] = set()
        while isinstance(start, PostgresStart) and start.kind != "plain":
            if start.kind in asked or "ssl" in asked:
                raise PeerError("postgres-start", "the agent asks for encryption twice")
            asked.add(start.kind)
            sock.recv(_REQUEST_SIZE)
            await asyncio.get_running_loop().sock_sendall(sock, b"S" if start.kind == "ssl" else b"N")
            start = await peek(sock, read, self._limits.hello_timeout)
        if not isinstance(start, TlsStart if "ssl" in asked else PostgresStart):
            raise PeerError("postgres-start", "what follows the request for encryption is neither TLS nor PostgreSQL")
        return start

    def _destination(self, start: Start, found: Seen, job: JobId, postgres: bool) -> Destination:
        """Names the destination by the strongest name that the agent gave: SNI, Host, what DNS told this job.
        `postgres`: the ClientHello comes after PostgreSQL's request for it."""
        source: NameSource
        protocol: Literal["tls", "http", "postgres", "unknown"]
        if isinstance(start, TlsStart):
            protocol = "postgres" if postgres or start.hello.alpn == (_POSTGRES_ALPN,) else "tls"
            host, source = start.hello.server_name, "sni"
        elif isinstance(start, PostgresStart):
            protocol, host, source = "postgres", "", "dns"
        elif isinstance(start, HttpStart):
            protocol, source = "http", "host"
            host = split_host_port(start.host, _HTTP_PORT)[0] if start.host else ""
        else:
            protocol, host, source = "unknown", "", "dns"
        if not host:
            names = self._services.names.answers.names_of(job, found.address)
            address = ipaddress.ip_address(found.address)
            host, source = (names[0], "dns") if names else (host_of_address(address), "literal")
        return Destination(host=host, port=found.port, address=found.address, name_source=source, protocol=protocol)

    async def _refusal(self, flow: Flow, start: Start) -> Denied | None:
        try:
            flow.check_plan()
            await self._check_address(flow)
            if isinstance(start, TlsStart):
                if start.hello.has_ech and flow.plan.mode == "tunnel":
                    raise Denied("ech", "an encrypted ClientHello hides the name from a tunnel")
                if flow.plan.mode == "http" and start.hello.alpn and "http/1.1" not in start.hello.alpn:
                    raise Denied("alpn", "of " + ", ".join(start.hello.alpn) + " Coatcheck speaks none; offer http/1.1")
        except Denied as denied:
            return denied
        return None

    async def _check_address(self, flow: Flow) -> None:
        """The address that was dialled must be one of the name's. Raises Denied."""
        destination = flow.destination
        address = ipaddress.ip_address(destination.address)
        listen = self._services.config.listen
        if address.is_loopback and destination.port in (listen.proxy_port, listen.dns_port):
            raise Denied("own-port", "this port is Coatcheck's own")
        if flow.plan.addresses:
            if not any(address in ipaddress.ip_network(network) for network in flow.plan.addresses):
                raise Denied("address-not-allowed", f"{address} is not among the addresses of {flow.plan.destination}")
            return
        host = destination.host
        if destination.name_source == "literal":
            return  # what policy allowed is this very address
        literal = literal_of(host)
        if literal is not None:
            if ipaddress.ip_address(literal) != address:
                raise Denied("address-mismatch", f"the request names {host}, but {address} was dialled")
            return
        names = self._services.names
        if names.answers.gave(flow.identity.claims.job, host, destination.address):
            return
        if destination.address not in await names.resolve(host):
            raise Denied("address-mismatch", f"{destination.address} is not an address of {host}")

    async def _end_tls(self, sock: socket.socket, flow: Flow, refusal: Denied | None) -> None:
        channel = Channel(self._services.buffers)
        name = literal_of(flow.destination.host) or flow.destination.host
        channel.expect_tls(await self._services.leaves.context(name), server_side=True)
        ended = await self._adopt(sock, channel, flow, _HTTPS_PORT, refusal)
        try:
            await channel.secured(self._limits.handshake_timeout)
        except (PeerError, EnvironmentFailed) as error:
            self._services.tally.handshake("agent", error.code)
            ended.end = error.code
        else:
            self._services.tally.handshake("agent", "ok")
        await self._until_closed(ended)

    async def _plain(self, sock: socket.socket, flow: Flow, refusal: Denied | None) -> None:
        channel = Channel(self._services.buffers)
        await self._until_closed(await self._adopt(sock, channel, flow, _HTTP_PORT, refusal))

    async def _adopt(
        self, sock: socket.socket, channel: Channel, flow: Flow, default_port: int, refusal: Denied | None
    ) -> Ended:
        """Gives the socket to the loop, with the protocol's flow behind it before the first byte is read."""
        ended: Ended
        if flow.destination.protocol == "postgres":
            from appliance.proxy.postgres_flow import PostgresFlow  # as Services.postgres says

            ended = PostgresFlow(flow, channel, refusal)
        else:
            ended = HttpFlow(flow, channel, default_port, refusal)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: channel, sock)
        return ended

    async def _until_closed(self, ended: Ended) -> None:
        self.flows.add(ended)
        try:
            await ended.closed
        finally:
            self.flows.discard(ended)

    async def _tunnel(self, sock: socket.socket, flow: Flow) -> None:
        destination = flow.destination
        family = socket.AF_INET6 if ":" in destination.address else socket.AF_INET
        sent, received, end = 0, 0, "upstream"
        try:
            with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as upstream:
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._dial(upstream, destination)
                sent, received, end = await carry(sock, upstream, self._limits.response_timeout)
        finally:
            flow.close(sent=sent, received=received, end=end)

    async def _dial(self, upstream: socket.socket, destination: Destination) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                await loop.sock_connect(upstream, (destination.address, destination.port))
        except (TimeoutError, OSError) as error:
            code = "upstream-timeout" if isinstance(error, TimeoutError) else "upstream-refused"
            raise EnvironmentFailed(code, f"{destination.host} port {destination.port} cannot be reached") from None
