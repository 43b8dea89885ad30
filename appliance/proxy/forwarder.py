"""The DNS forwarder of one proxy worker: whose question, may it be asked, who answers, and what was answered.

In: datagrams on loopback sockets (turned here by the hooks), TCP connections to port 53, and questions of the proxy
itself. Out: answers that are written afresh (nothing of an upstream's packet is relayed), and `answers`: per job, which
name gave which addresses, which is what a connection's address is later held against.

Always: a question whose job is not known gets no answer. A name is judged and the decision is on record before any
server hears of it. Denied is REFUSED with Extended DNS Error 18 and the rule (RFC 8914); a failure is SERVFAIL.
Only A and AAAA are asked of servers; every other type of an allowed name is NODATA: no ECH keys (HTTPS, SVCB), no TXT
to carry data in. Addresses of this host's own kind (loopback, link-local, unspecified, multicast, also v4-mapped) are
taken from `hosts` in the configuration only: else a name could be made to lead to the host's own services.

Workers tell each other what they answered, for the connection that follows may come to any of them. What one has
forgotten (started anew, told too much at once) `resolve` has to agree with instead.

LIMITS. Names that a CNAME leads to are not judged: what was asked for is what the agent connects to. No cache.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple, cast

import structlog
from msgspec import structs

from appliance.config.schema import Dns
from appliance.model.errors import CoatcheckError, EnvironmentFailed, PeerError
from appliance.model.identity import Identity
from appliance.model.ids import JobId
from appliance.proxy.answers import Answers, plain
from appliance.proxy.siblings import ADDRESSES, NameAnswered, Siblings
from appliance.wire import dns
from appliance.wire.names import canonical_host, literal_of

log = structlog.get_logger()

STATIC_TTL: Final = 60  # seconds, for `hosts`
MOST_TTL: Final = 3600  # seconds that an agent is told; `answers` keeps a name at least as long
PER_JOB: Final = 256  # questions of one job under way: a hundred threads ask for A and AAAA at once
IN_ALL: Final = 1024  # questions of a worker under way; over that, datagrams are dropped
PER_CONNECTION: Final = 1000  # questions over one TCP connection
TCP_IDLE: Final = 10.0  # seconds (RFC 7766 6.2.3)
_PORT: Final = 53


class Ruling(NamedTuple):
    allowed: bool
    rule: str
    reason: str


Server = tuple[str, int]
Address = tuple[str, int] | tuple[str, int, int, int]  # as sockets give it
Judge = Callable[[Address, Address], Awaitable[Identity | None]]  # (the datagram's source, our own address) -> whose
Allowed = Callable[[Identity, str], Ruling]
# (whose, name, type, ruling, addresses if known beforehand) -> it is on record; awaited before anything is done
OnAnswer = Callable[[Identity, str, str, Ruling, tuple[str, ...]], Awaitable[bool]]


class _Outcome(NamedTuple):
    rcode: int
    records: Sequence[dns.Record] = ()
    error: int | None = None  # RFC 8914
    text: str = ""


def servers_of(config: Dns, resolv_conf: str = "/etc/resolv.conf") -> tuple[Server, ...]:
    """Where questions go, in order: `dns.servers` ("address" or "address@port"), else those of resolv.conf(5)."""
    if config.servers:
        parts = (server.partition("@") for server in config.servers)
        return tuple((host, int(port) if port else _PORT) for host, _, port in parts)
    try:
        lines = Path(resolv_conf).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    words = (line.split() for line in lines)
    return tuple((word[1].partition("%")[0], _PORT) for word in words if len(word) > 1 and word[0] == "nameserver")


def _hosts_of(config: Dns) -> dict[str, tuple[str, ...]]:
    try:
        return {canonical_host(n): tuple(plain(address) for address in found) for n, found in config.hosts.items()}
    except (PeerError, ValueError) as error:
        raise EnvironmentFailed("config", f"dns.hosts: {error}") from None


class Forwarder:
    """`servers`: default those of `servers_of`. `siblings` are told what was answered, and are heard. `clock`: seconds,
    monotonic. Raises EnvironmentFailed if `dns.hosts` has what is not a host name or an address."""

    def __init__(
        self,
        config: Dns,
        judge: Judge,
        allowed: Allowed,
        on_answer: OnAnswer,
        siblings: Siblings,
        *,
        servers: tuple[Server, ...] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judge = judge
        self._allowed = allowed
        self._on_answer = on_answer
        self._servers = servers_of(config) if servers is None else servers
        self._timeout = config.timeout
        self._hosts = _hosts_of(config)
        self._transports: list[asyncio.DatagramTransport] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, int] = {}
        self._siblings = siblings
        self.answers = Answers(clock, siblings.catch_up)
        self.dropped = 0  # datagrams that got no answer: unknown job, flood, not a question

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serves on UDP sockets that are bound already, and owns them from now on."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            local = sock.getsockname()
            transport, _ = await loop.create_datagram_endpoint(partial(_Listening, self, local), sock=sock)
            self._transports.append(transport)

    async def stop(self) -> None:
        """Ends; questions under way get no answer."""
        for transport in self._transports:
            transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what comes in ----

    def take(self, transport: asyncio.DatagramTransport, packet: bytes, peer: Address, local: Address) -> None:
        """One datagram."""
        if len(self._tasks) >= IN_ALL:
            self.dropped += 1
            return
        task = asyncio.get_running_loop().create_task(self._serve(transport, packet, peer, local))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, transport: asyncio.DatagramTransport, packet: bytes, peer: Address, local: Address) -> None:
        try:
            who = await self._judge(peer, local)
            answer = None if who is None else await self.answer(packet, who, limit=None)
        except CoatcheckError as error:
            log.warning("dns.dropped", error=str(error))
            answer = None
        except Exception as error:  # the seam: a bug ends this question, not the worker
            log.error("dns.bug", error=type(error).__name__, exc_info=True)
            answer = None
        if answer is None:
            self.dropped += 1
        elif not transport.is_closing():
            transport.sendto(answer, peer)

    async def serve_tcp(self, sock: socket.socket, peer: Address, local: Address, who: Identity) -> None:
        """DNS over TCP (RFC 7766), questions one after the other, until the client ends or is idle for 10 s. `sock` is
        not blocking and stays open. Raises OSError, PeerError."""
        loop = asyncio.get_running_loop()
        held = b""
        for _ in range(PER_CONNECTION):
            while len(held) < 2 or len(held) < 2 + int.from_bytes(held[:2], "big"):
                try:
                    async with asyncio.timeout(TCP_IDLE):
                        more = await loop.sock_recv(sock, dns.MAX_MESSAGE)
                except TimeoutError:
                    return
                if not more:
                    return
                held += more
            size = 2 + int.from_bytes(held[:2], "big")
            answer = await self.answer(held[2:size], who)
            held = held[size:]
            if answer is None:
                raise PeerError("bad-dns", "what came over TCP is not a DNS question")
            async with asyncio.timeout(TCP_IDLE):
                await loop.sock_sendall(sock, len(answer).to_bytes(2, "big") + answer)

    async def answer(self, packet: bytes, who: Identity, limit: int | None = dns.MAX_MESSAGE) -> bytes | None:
        """The answer to one question; None if it is none. `limit`: bytes; None: what the client takes over UDP."""
        try:
            query = dns.parse_query(packet)
        except PeerError as error:
            return dns.build_refusal(packet, error)
        job = who.claims.job
        count = self._under_way.get(job, 0)
        if count >= PER_JOB:
            return dns.build_answer(query, dns.SERVFAIL, limit=limit)
        self._under_way[job] = count + 1
        try:
            outcome = await self._outcome(query, who)
        except CoatcheckError as error:
            outcome = _Outcome(dns.SERVFAIL, (), dns.EDE_NETWORK, str(error))
        finally:
            left = self._under_way.pop(job) - 1
            if left:
                self._under_way[job] = left
        self._remember(job, query.name, outcome.records)
        return dns.build_answer(
            query, outcome.rcode, outcome.records, limit=limit, extended_error=outcome.error, text=outcome.text
        )

    def _remember(self, job: JobId, name: str, records: Sequence[dns.Record]) -> None:
        """Before the answer goes out: what the job then does with it may come to another worker."""
        found = [(record.data, record.ttl) for record in records if record.kind != dns.CNAME]
        for at in range(0, len(found), ADDRESSES):
            self._siblings.tell(NameAnswered(job, name, tuple(found[at : at + ADDRESSES])))
        self.heard(NameAnswered(job, name, tuple(found)))

    def heard(self, answered: NameAnswered) -> None:
        for address, ttl in answered.addresses:
            self.answers.put(answered.job, answered.name, address, ttl)

    # ---- decide ----

    async def _outcome(self, query: dns.Query, who: Identity) -> _Outcome:
        if query.edns and query.edns_version:
            return _Outcome(dns.BADVERS)
        ruling = self._rule(query.name, who)
        static = [r for r in self._static(query.name) if r.kind == query.kind] if ruling.allowed else []
        addresses = tuple(record.data for record in static)
        if not await self._on_answer(who, query.name, query.kind_name, ruling, addresses):
            raise EnvironmentFailed("audit", "the decision could not be recorded")
        if not ruling.allowed:
            return _Outcome(dns.REFUSED, (), dns.EDE_PROHIBITED, f"{ruling.rule}: {ruling.reason}")
        if query.kind not in (dns.A, dns.AAAA) or query.name in self._hosts:
            return _Outcome(dns.NOERROR, static)
        return await self._look_up(query.name, query.kind)

    def _rule(self, name: str, who: Identity) -> Ruling:
        try:
            if canonical_host(name) != name or literal_of(name) is not None:
                return Ruling(False, "bad-name", "this is not a host's name")
        except PeerError as error:
            return Ruling(False, "bad-name", str(error))
        return self._allowed(who, name)

    def _static(self, name: str) -> list[dns.Record]:
        kinds = [(dns.AAAA if ":" in address else dns.A, address) for address in self._hosts.get(name, ())]
        return [dns.Record(name, kind, STATIC_TTL, address) for kind, address in kinds]

    async def resolve(self, name: str) -> list[str]:
        """The addresses of a canonical host name, for the proxy's own check. Raises EnvironmentFailed."""
        if name in self._hosts:
            return list(self._hosts[name])
        found = await asyncio.gather(self._look_up(name, dns.A), self._look_up(name, dns.AAAA), return_exceptions=True)
        outcomes = [outcome for outcome in found if not isinstance(outcome, BaseException)]
        if not outcomes:
            raise EnvironmentFailed("dns", f"the name {name} could not be looked up")
        return [r.data for outcome in outcomes for r in outcome.records if r.kind != dns.CNAME]

    # ---- ask upstream ----

    async def _look_up(self, name: str, kind: int) -> _Outcome:
        """What the first server that can tell says. Raises EnvironmentFailed if none can."""
        for server in self._servers:
            try:
                async with asyncio.timeout(self._timeout):
                    response = await self._ask(server, name, kind)
                records, _ = dns.chain_of(response, name, kind)
            except (TimeoutError, OSError, PeerError) as error:
                log.warning("dns.server", server=server[0], error=type(error).__name__)
                continue
            if response.rcode not in (dns.NOERROR, dns.NXDOMAIN):
                continue
            kept = [
                structs.replace(r, ttl=min(r.ttl, MOST_TTL))
                for r in records
                if r.kind == dns.CNAME or _leads_out(r.data)
            ]
            if len(kept) != len(records) and all(r.kind == dns.CNAME for r in kept):
                return _Outcome(dns.REFUSED, (), dns.EDE_PROHIBITED, "the name leads to this host or its own link")
            return _Outcome(response.rcode, kept)
        raise EnvironmentFailed("dns", "no DNS server gave an answer")

    async def _ask(self, server: Server, name: str, kind: int) -> dns.Response:
        """One question to one server: a fresh connected socket (so a random port, and no one else's packets), a random
        id, the question compared (RFC 5452). Over TCP again if it did not fit."""
        loop = asyncio.get_running_loop()
        asking = _Asking(secrets.randbits(16), name, kind, loop.create_future())
        transport, _ = await loop.create_datagram_endpoint(lambda: asking, remote_addr=server)
        try:
            transport.sendto(dns.build_query(asking.id, name, kind))
            response = await asking.answered
        finally:
            transport.close()
        return await self._ask_over_tcp(server, name, kind) if response.truncated else response

    async def _ask_over_tcp(self, server: Server, name: str, kind: int) -> dns.Response:
        asking = _Asking(secrets.randbits(16), name, kind, asyncio.get_running_loop().create_future())
        packet = dns.build_query(asking.id, name, kind)
        reader, writer = await asyncio.open_connection(*server)
        try:
            writer.write(len(packet).to_bytes(2, "big") + packet)
            size = int.from_bytes(await reader.readexactly(2), "big")
            response = asking.match(await reader.readexactly(size))
        except asyncio.IncompleteReadError:
            raise PeerError("bad-dns", "a DNS server ended the connection early") from None
        finally:
            writer.close()
        if response is None or response.truncated:
            raise PeerError("bad-dns", "a DNS server answered another question, or not wholly")
        return response


class _Listening(asyncio.DatagramProtocol):
    def __init__(self, forwarder: Forwarder, local: Address) -> None:
        self._forwarder = forwarder
        self._local = local

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is one in all but name

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._forwarder.take(self._transport, data, addr, self._local)


class _Asking(asyncio.DatagramProtocol):
    """One question that is out. Packets that do not answer it are passed over: they may be forged."""

    def __init__(self, id: int, name: str, kind: int, answered: asyncio.Future[dns.Response]) -> None:
        self.id = id
        self._name = name
        self._kind = kind
        self.answered = answered

    def match(self, packet: bytes) -> dns.Response | None:
        try:
            response = dns.parse_response(packet)
        except PeerError:
            return None
        same = (response.id, response.name, response.kind) == (self.id, self._name, self._kind)
        return response if same else None

    def datagram_received(self, data: bytes, addr: Address) -> None:
        response = self.match(data)
        if response is not None and not self.answered.done():
            self.answered.set_result(response)

    def error_received(self, exc: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc)


def _leads_out(address: str) -> bool:
    """Whether an address may come from a server: it is not of this host's own kind."""
    found: IPv4Address | IPv6Address = ip_address(plain(address))
    return not (found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast)
