"""The DNS forwarder against a real dnsmasq, and against servers that lie, stall and break."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from pydantic import ValidationError

from appliance.config.schema import Dns
from appliance.model.errors import EnvironmentFailed
from appliance.model.facts import ProcessFacts
from appliance.model.identity import Claims, Identity
from appliance.model.ids import JobId, PrincipalName
from appliance.proxy.answers import Answers
from appliance.proxy.forwarder import PER_JOB, Forwarder, Ruling, Server, servers_of
from appliance.proxy.siblings import Siblings
from appliance.wire import dns

LOOPBACK = "127.0.0.1"


def identity(job: str = "j-1") -> Identity:
    facts = ProcessFacts(1, 1, 1000, 1000, (), "/bin/x", 1, 1, "", (), "x", "/", 1, "", 1, (), JobId(job), "", 0, True)
    return Identity("token", Claims("i", PrincipalName("p"), (), JobId(job), facts, 0, 0, "jti"))


class Desk:
    """What the caller supplies: judges everyone as one job, allows by suffix, keeps the record."""

    def __init__(self) -> None:
        self.who: Identity | None = identity()
        self.records: list[tuple[str, str, str, bool, str, tuple[str, ...]]] = []
        self.writable = True

    async def judge(self, peer: Any, local: Any) -> Identity | None:
        return self.who

    def allowed(self, who: Identity, name: str) -> Ruling:
        good = name.endswith(".test")
        return Ruling(good, "names.test" if good else "default-deny", "" if good else "no rule names it")

    async def on_answer(self, who: Identity, name: str, kind: str, ruling: Ruling, addresses: tuple[str, ...]) -> bool:
        self.records.append((who.claims.job, name, kind, ruling.allowed, ruling.rule, addresses))
        return self.writable


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind((LOOPBACK, 0))
        tcp.bind(udp.getsockname())
        return int(udp.getsockname()[1])


@pytest.fixture(scope="module")
def dnsmasq() -> Iterator[Server]:
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.fail("dnsmasq is missing: apt-get install dnsmasq-base")
    port = free_port()
    names = ["api.test,192.0.2.10,2001:db8::10", "home.test,127.0.0.1", "link.test,169.254.169.254", "six.test,::1"]
    names += ["mixed.test,192.0.2.20", "mixed.test,127.0.0.1", *(f"big.test,10.0.1.{i}" for i in range(120))]
    words = [program, "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file="]
    words += [f"--port={port}", f"--listen-address={LOOPBACK}", "--bind-interfaces", "--user=root", "--local=/test/"]
    words += [
        *(f"--host-record={name},300" for name in names),
        "--cname=alias.test,api.test",
        "--txt-record=api.test,x",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        wait_for_dns(process, port)
        yield (LOOPBACK, port)
    finally:
        process.terminate()
        process.communicate()


def wait_for_dns(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        sock.connect((LOOPBACK, port))
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError):
                sock.send(dns.build_query(1, "api.test", dns.A))
                sock.recv(2000)
                return
            time.sleep(0.02)
    pytest.fail(f"dnsmasq did not start: {process.communicate(timeout=5)[1]!r}")


@contextlib.asynccontextmanager
async def serving(desk: Desk, *servers: Server, **config: Any) -> AsyncIterator[tuple[Forwarder, Server]]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((LOOPBACK, 0))
    sock.setblocking(False)
    at = sock.getsockname()
    forwarder = Forwarder(Dns(**config), desk.judge, desk.allowed, desk.on_answer, Siblings(), servers=servers)
    await forwarder.start([sock])
    try:
        yield forwarder, at
    finally:
        await forwarder.stop()


async def ask(at: Server, packet: bytes, patience: float = 20.0) -> bytes | None:
    loop = asyncio.get_running_loop()
    got: asyncio.Future[bytes] = loop.create_future()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            if not got.done():
                got.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=at)
    try:
        transport.sendto(packet)
        return await asyncio.wait_for(got, patience)
    except TimeoutError:
        return None
    finally:
        transport.close()


async def lookup(at: Server, name: str, kind: int = dns.A) -> dns.Response:
    number = secrets.randbits(16)
    answer = await ask(at, dns.build_query(number, name, kind))
    assert answer is not None
    response = dns.parse_response(answer)
    assert (response.id, response.kind) == (number, kind)
    return response


def addresses(response: dns.Response) -> list[str]:
    return [record.data for record in response.answers if record.kind != dns.CNAME]


Scene = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scene], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def play(scene: Scene) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scene())

    return play


def test_an_allowed_name_is_answered_and_kept(run: Callable[[Scene], None], dnsmasq: Server) -> None:
    async def scene() -> None:
        desk = Desk()
        async with serving(desk, dnsmasq) as (forwarder, at):
            assert addresses(await lookup(at, "API.Test")) == ["192.0.2.10"]
            assert addresses(await lookup(at, "api.test", dns.AAAA)) == ["2001:db8::10"]
            alias = await lookup(at, "alias.test")
            assert [(r.name, r.data) for r in alias.answers] == [("alias.test", "api.test"), ("api.test", "192.0.2.10")]
            assert (await lookup(at, "nothing.test")).rcode == dns.NXDOMAIN
            job = "j-1"
            assert forwarder.answers.gave(job, "api.test", "192.0.2.10")
            assert forwarder.answers.gave(job, "api.test", "::ffff:192.0.2.10")
            assert forwarder.answers.gave(job, "api.test", "2001:db8:0::10")
            assert not forwarder.answers.gave("j-2", "api.test", "192.0.2.10")
            assert not forwarder.answers.gave(job, "api.test", "192.0.2.11")
            assert forwarder.answers.names_of(job, "192.0.2.10") == ("alias.test", "api.test")
            assert set(await forwarder.resolve("api.test")) == {"192.0.2.10", "2001:db8::10"}
            assert await forwarder.resolve("nothing.test") == []
        assert desk.records[0] == ("j-1", "api.test", "A", True, "names.test", ())

    run(scene)


def test_a_denied_name_is_refused_with_the_rule_and_never_asked_for(
    run: Callable[[Scene], None], dnsmasq: Server
) -> None:
    async def scene() -> None:
        desk = Desk()
        server = await Liar.start(lambda packet: [])
        async with serving(desk, server.at) as (_, at):
            for name in ("secret.evil.example", "127.0.0.1", "a_b.test", "test"):
                answer = await ask(at, dns.build_query(7, name, dns.A))
                assert answer is not None
                assert dns.parse_response(answer).rcode == dns.REFUSED
                assert b"\x00\x0f" in answer  # RFC 8914: the option, its code, and the rule
                assert b"\x00\x12" + (b"default-deny" if "_" not in name and "0" not in name else b"bad-name") in answer
            assert server.seen == []
            assert [r[3] for r in desk.records] == [False] * 4
        server.close()

    run(scene)


def test_other_types_have_no_data(run: Callable[[Scene], None], dnsmasq: Server) -> None:
    async def scene() -> None:
        desk = Desk()
        async with serving(desk, dnsmasq) as (_, at):
            for kind in (dns.HTTPS, dns.SVCB, 16, 5, 255, 15, 12):
                response = await lookup(at, "api.test", kind)
                assert (response.rcode, response.answers) == (dns.NOERROR, ())
                assert (await lookup(at, "evil.example", kind)).rcode == dns.REFUSED

    run(scene)


def test_names_may_not_lead_to_this_host(run: Callable[[Scene], None], dnsmasq: Server) -> None:
    async def scene() -> None:
        async with serving(Desk(), dnsmasq, hosts={"Static.Test": ("127.0.0.5", "::5")}) as (forwarder, at):
            assert (await lookup(at, "home.test")).rcode == dns.REFUSED
            assert (await lookup(at, "link.test")).rcode == dns.REFUSED
            assert (await lookup(at, "six.test", dns.AAAA)).rcode == dns.REFUSED
            assert addresses(await lookup(at, "mixed.test")) == ["192.0.2.20"]
            assert not forwarder.answers.gave("j-1", "mixed.test", "127.0.0.1")
            assert await forwarder.resolve("home.test") == []
            # but the configuration may say so
            assert addresses(await lookup(at, "static.test")) == ["127.0.0.5"]
            assert addresses(await lookup(at, "static.test", dns.AAAA)) == ["::5"]
            assert addresses(await lookup(at, "static.test", dns.HTTPS)) == []
            assert await forwarder.resolve("static.test") == ["127.0.0.5", "::5"]
            assert forwarder.answers.gave("j-1", "static.test", "127.0.0.5")

    run(scene)


def test_what_does_not_fit_is_fetched_over_tcp(run: Callable[[Scene], None], dnsmasq: Server) -> None:
    async def scene() -> None:
        async with serving(Desk(), dnsmasq) as (forwarder, at):
            assert (await lookup(at, "big.test")).truncated
            answer = await forwarder.answer(dns.build_query(1, "big.test", dns.A), identity())
            assert answer is not None
            assert len(addresses(dns.parse_response(answer))) == 120
            near, far = socket.socketpair()
            near.setblocking(False)
            task = asyncio.ensure_future(forwarder.serve_tcp(near, (LOOPBACK, 1), (LOOPBACK, 53), identity()))
            reader, writer = await asyncio.open_connection(sock=far)
            for number, name in ((1, "big.test"), (2, "api.test")):
                packet = dns.build_query(number, name, dns.A)
                writer.write(len(packet).to_bytes(2, "big") + packet)
            for number, count in ((1, 120), (2, 1)):
                size = int.from_bytes(await reader.readexactly(2), "big")
                response = dns.parse_response(await reader.readexactly(size))
                assert (response.id, len(addresses(response))) == (number, count)
            writer.close()
            await task
            near.close()

    run(scene)


class Liar(asyncio.DatagramProtocol):
    """A server of our own: `reply` gives the datagrams for a question."""

    def __init__(self, reply: Callable[[bytes], list[bytes]]) -> None:
        self.reply = reply
        self.seen: list[bytes] = []
        self.ports: list[int] = []

    @classmethod
    async def start(cls, reply: Callable[[bytes], list[bytes]]) -> Liar:
        loop = asyncio.get_running_loop()
        transport, liar = await loop.create_datagram_endpoint(lambda: cls(reply), local_addr=(LOOPBACK, 0))
        liar.transport = transport
        liar.at = transport.get_extra_info("sockname")
        return liar

    transport: asyncio.DatagramTransport
    at: Server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.seen.append(data)
        self.ports.append(addr[1])
        for packet in self.reply(data):
            self.transport.sendto(packet, addr)

    def close(self) -> None:
        self.transport.close()


def good(packet: bytes, address: str = "192.0.2.1") -> bytes:
    query = dns.parse_query(packet)
    return dns.build_answer(query, records=[dns.Record(query.name, dns.A, 5, address)])


def test_forged_answers_are_passed_over(run: Callable[[Scene], None]) -> None:
    def forge(packet: bytes) -> list[bytes]:
        query = dns.parse_query(packet)
        wrong_id = bytes([packet[0] ^ 1]) + good(packet, "203.0.113.1")[1:]
        other = dns.parse_query(dns.build_query(query.id, "other.test", dns.A))
        wrong_name = dns.build_answer(other, records=[dns.Record("other.test", dns.A, 5, "203.0.113.2")])
        stray = dns.build_answer(query, records=[dns.Record("else.test", dns.A, 5, "203.0.113.3")])[:20]
        extra = [dns.Record("bank.test", dns.A, 5, "203.0.113.4"), dns.Record(query.name, dns.A, 5, "192.0.2.1")]
        return [wrong_id, wrong_name, stray, b"", packet, dns.build_answer(query, records=extra)]

    async def scene() -> None:
        server = await Liar.start(forge)
        async with serving(Desk(), server.at) as (forwarder, at):
            for _ in range(8):
                assert addresses(await lookup(at, "one.test")) == ["192.0.2.1"]
            assert forwarder.answers.names_of("j-1", "203.0.113.4") == ()
        assert len({packet[:2] for packet in server.seen}) > 4  # ids and ports are drawn anew
        assert len(set(server.ports)) > 4
        server.close()

    run(scene)


def test_servers_are_tried_in_order_and_then_it_is_a_failure(run: Callable[[Scene], None]) -> None:
    async def scene() -> None:
        silent = await Liar.start(lambda packet: [])
        broken = await Liar.start(lambda packet: [dns.build_answer(dns.parse_query(packet), dns.SERVFAIL)])
        fine = await Liar.start(lambda packet: [good(packet)])
        closed = (LOOPBACK, free_port())
        async with serving(Desk(), closed, silent.at, broken.at, fine.at, timeout=2) as (_, at):
            assert addresses(await lookup(at, "one.test")) == ["192.0.2.1"]
        async with serving(Desk(), closed, silent.at, broken.at, timeout=0.2) as (forwarder, at):
            assert (await lookup(at, "one.test")).rcode == dns.SERVFAIL
            with pytest.raises(EnvironmentFailed):
                await forwarder.resolve("one.test")
        for server in (silent, broken, fine):
            server.close()

    run(scene)


def test_what_is_not_on_record_is_not_asked_for(run: Callable[[Scene], None]) -> None:
    async def scene() -> None:
        server = await Liar.start(lambda packet: [good(packet)])
        desk = Desk()
        desk.writable = False
        async with serving(desk, server.at) as (_, at):
            assert (await lookup(at, "one.test")).rcode == dns.SERVFAIL
        assert server.seen == []
        server.close()

    run(scene)


def test_a_question_of_nobody_gets_no_answer(run: Callable[[Scene], None]) -> None:
    async def scene() -> None:
        server = await Liar.start(lambda packet: [good(packet)])
        desk = Desk()
        desk.who = None
        async with serving(desk, server.at) as (forwarder, at):
            assert await ask(at, dns.build_query(1, "one.test", dns.A), patience=0.2) is None
            assert forwarder.dropped == 1
            desk.who = identity()
            assert await ask(at, b"\x00\x01\x81\x80a response, not a question", patience=0.2) is None
            refused = await ask(at, dns.build_query(1, "one.test", dns.A)[:-5])
            assert refused is not None
            assert refused[3] & 15 == dns.FORMERR
        assert server.seen == []
        server.close()

    run(scene)


def test_a_flood_of_one_job_is_limited(run: Callable[[Scene], None]) -> None:
    async def scene() -> None:
        server = await Liar.start(lambda packet: [])
        async with serving(Desk(), server.at, timeout=60) as (forwarder, _), asyncio.timeout(60):
            packet = dns.build_query(1, "one.test", dns.A)
            flood = [asyncio.ensure_future(forwarder.answer(packet, identity())) for _ in range(PER_JOB + 40)]
            while len(server.seen) < PER_JOB or sum(answer.done() for answer in flood) < 40:
                await asyncio.sleep(0.01)
            over = [answer for answer in flood if answer.done()]
            under_way = [answer for answer in flood if not answer.done()]
            assert (len(server.seen), len(over), len(under_way)) == (PER_JOB, 40, PER_JOB)
            assert {rcode(await answer) for answer in over} == {dns.SERVFAIL}
            for question, port in zip(server.seen, server.ports, strict=True):
                server.transport.sendto(good(question), (LOOPBACK, port))
            assert {rcode(answer) for answer in await asyncio.gather(*under_way)} == {dns.NOERROR}
            server.reply = lambda packet: [good(packet)]
            assert rcode(await forwarder.answer(packet, identity())) == dns.NOERROR
        server.close()

    def rcode(answer: bytes | None) -> int:
        assert answer is not None
        return dns.parse_response(answer).rcode

    run(scene)


def test_answers_end_and_are_bounded() -> None:
    now = 0.0
    answers = Answers(lambda: now)
    answers.put("j", "a.test", "192.0.2.1", 5)
    answers.put("j", "b.test", "192.0.2.1", 300)
    now = 59.0
    assert answers.names_of("j", "192.0.2.1") == ("b.test", "a.test")
    answers.put("j", "a.test", "192.0.2.1", 0)
    assert answers.names_of("j", "192.0.2.1") == ("a.test", "b.test")
    now = 120.0
    assert answers.names_of("j", "192.0.2.1") == ("b.test",)
    assert not answers.gave("j", "a.test", "192.0.2.1")
    for i in range(5000):
        answers.put("j", f"n{i}.test", "192.0.2.2", 60)
    assert len(answers.names_of("j", "192.0.2.2")) == 4096
    for i in range(5000):
        answers.put(f"j{i}", "a.test", "192.0.2.2", 60)
    assert answers.names_of("j", "192.0.2.2") == ()
    answers.forget("j4999")
    assert not answers.gave("j4999", "a.test", "192.0.2.2")


def test_where_questions_go(tmp_path: Any) -> None:
    assert servers_of(Dns(servers=("192.0.2.1", "2001:db8::1@5353"))) == (("192.0.2.1", 53), ("2001:db8::1", 5353))
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nsearch a.test\nnameserver 192.0.2.3\nnameserver fe80::1%eth0\nnameserver\n")
    assert servers_of(Dns(), str(path)) == (("192.0.2.3", 53), ("fe80::1", 53))
    assert servers_of(Dns(), str(tmp_path / "none")) == ()
    refused: list[dict[str, tuple[str, ...]]] = [{"a_b": ("192.0.2.1",)}, {"a.test": ("127.1",)}]
    for hosts in refused:
        with pytest.raises(ValidationError):  # the configuration refuses them,
            Dns(hosts=hosts)
        unchecked = Dns.model_construct(hosts=hosts, servers=(), timeout=3.0)
        with pytest.raises(EnvironmentFailed):  # and the forwarder does not rely on it
            Forwarder(unchecked, Desk().judge, Desk().allowed, Desk().on_answer, Siblings())
