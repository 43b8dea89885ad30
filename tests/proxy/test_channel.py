"""One end of a flow over real sockets: order, back-pressure, half-close, the ways of ending, TLS; on both loops."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.proxy.channel import WRITE_HIGH, Buffers, Channel
from appliance.proxy.readiness import readable, writable
from tests.proxy.loops import on_both_loops, run, until
from tests.world.pki import TestAuthority


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()
        self.ends: list[bool] = []
        self.losses: list[Exception | None] = []
        self.held = 0
        self.released = 0

    def received(self, data: bytes) -> None:
        assert not self.losses
        self.data += data

    def ended(self, clean: bool) -> None:
        self.ends.append(clean)

    def lost(self, error: Exception | None) -> None:
        self.losses.append(error)

    def hold(self) -> None:
        self.held += 1

    def release(self) -> None:
        self.released += 1


class Certificates:
    def __init__(self, folder: Path) -> None:
        self.authority = TestAuthority(folder)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self.authority.issue("a.example")
        self.server.load_cert_chain(pair.chain, pair.key)
        self.client = ssl.create_default_context(cafile=str(self.authority.file))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def plain_pair() -> AsyncIterator[tuple[Channel, Sink, socket.socket]]:
    """A channel, and the raw socket at its other end."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    channel, sink = Channel(Buffers()), Sink()
    channel.attach(sink)
    await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
    try:
        yield channel, sink, theirs
    finally:
        theirs.close()
        if not sink.losses:
            channel.abort()
        await until(lambda: sink.losses)


@asynccontextmanager
async def tls_pair(
    certificates: Certificates, name: str = "a.example", client: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Channel, Sink, Channel, Sink]]:
    """Two channels that speak TLS with each other over TCP; the client's first."""
    buffers = Buffers()
    here, there = Channel(buffers), Channel(buffers)
    mine, theirs = Sink(), Sink()
    here.attach(mine)
    there.attach(theirs)
    there.expect_tls(certificates.server, server_side=True)
    here.expect_tls(client or certificates.client, server_side=False, server_hostname=name)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: there, "127.0.0.1", 0)
    try:
        await loop.create_connection(lambda: here, *server.sockets[0].getsockname())
        yield here, mine, there, theirs
    finally:
        for channel, sink in ((here, mine), (there, theirs)):  # half-closed by its peer it would stay
            if not sink.losses:
                channel.abort()
        await until(lambda: mine.losses and theirs.losses)
        server.close()


async def read(sock: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size and (part := await loop.sock_recv(sock, 65536)):
        data += part
    return data


@on_both_loops
def test_bytes_keep_their_order_both_ways(loop: str) -> None:
    async def main() -> None:
        async with plain_pair() as (channel, sink, peer):
            for number in range(500):
                channel.write(b"%04d" % number)
            assert await read(peer, 2000) == b"".join(b"%04d" % number for number in range(500))
            await asyncio.get_running_loop().sock_sendall(peer, b"x" * 100_000)
            await until(lambda: len(sink.data) == 100_000)
            assert (channel.sent_bytes, channel.received_bytes) == (2000, 100_000)

    run(loop, main())


@on_both_loops
def test_what_is_written_now_keeps_its_place(loop: str, certificates: Certificates) -> None:
    async def main() -> None:
        parts = [b"%04d" % number for number in range(60)] + [b"x" * 40_000, b"y"]
        async with plain_pair() as (channel, _, peer):
            for number, part in enumerate(parts):
                (channel.write_now if number % 3 else channel.write)(part)
            assert await read(peer, 240 + 40_001) == b"".join(parts)
        async with tls_pair(certificates) as (here, _, there, theirs):
            await asyncio.gather(here.secured(5), there.secured(5))
            for number, part in enumerate(parts):
                (here.write_now if number % 3 else here.write)(part)
                if number % 7 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(theirs.data) == 240 + 40_001)
            assert theirs.data == b"".join(parts)
            assert here.sent_bytes == len(theirs.data)

    run(loop, main())


@on_both_loops
def test_a_peer_that_does_not_read_makes_the_writer_hold(loop: str) -> None:
    async def main() -> None:
        async with plain_pair() as (channel, sink, peer):
            written = 0
            while not sink.held:
                channel.write(b"x" * 65536)
                written += 65536
                await asyncio.sleep(0)
                assert written < 8 * WRITE_HIGH
            assert sink.released == 0
            assert len(await read(peer, written)) == written
            await until(lambda: sink.released)
            assert sink.held == sink.released

    run(loop, main())


@on_both_loops
def test_a_paused_channel_takes_nothing(loop: str) -> None:
    async def main() -> None:
        async with plain_pair() as (channel, sink, peer):
            channel.pause()
            await asyncio.get_running_loop().sock_sendall(peer, b"later")
            await asyncio.sleep(0.05)
            assert sink.data == b""
            channel.resume()
            await until(lambda: sink.data)
            assert sink.data == b"later"

    run(loop, main())


@on_both_loops
def test_half_closed_by_the_peer_it_still_answers(loop: str) -> None:
    async def main() -> None:
        async with plain_pair() as (channel, sink, peer):
            await asyncio.get_running_loop().sock_sendall(peer, b"ask")
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: sink.ends)
            assert (bytes(sink.data), sink.ends, sink.losses) == (b"ask", [True], [])
            channel.write(b"answer")
            channel.close()
            assert await read(peer, 100) == b"answer"
            await until(lambda: sink.losses)

    run(loop, main())


@on_both_loops
def test_close_sends_what_is_queued_and_the_sink_is_told_once(loop: str) -> None:
    async def main() -> None:
        async with plain_pair() as (channel, sink, peer):
            channel.write(b"a" * 500_000)
            channel.close()
            channel.close()
            channel.write(b"ignored")
            assert await read(peer, 1 << 20) == b"a" * 500_000
            await until(lambda: sink.losses)
            assert len(sink.losses) == 1

    run(loop, main())


@on_both_loops
def test_abort_is_a_reset(loop: str) -> None:
    async def main() -> None:
        channel, sink = Channel(Buffers()), Sink()
        channel.attach(sink)
        running = asyncio.get_running_loop()
        server = await running.create_server(lambda: channel, "127.0.0.1", 0)
        with socket.socket() as peer:
            peer.setblocking(False)
            await running.sock_connect(peer, server.sockets[0].getsockname())
            await until(lambda: hasattr(channel, "_transport"))
            channel.write(b"never")
            channel.abort()
            with pytest.raises(ConnectionResetError):
                await running.sock_recv(peer, 10)
        await until(lambda: sink.losses)
        server.close()

    run(loop, main())


@on_both_loops
def test_tls_both_ways_with_large_writes(loop: str, certificates: Certificates) -> None:
    async def main() -> None:
        async with tls_pair(certificates) as (here, mine, there, theirs):
            await asyncio.gather(here.secured(5), there.secured(5))
            assert here.tls is not None
            assert here.tls.version() == "TLSv1.3"
            big = bytes(range(256)) * 8000
            here.write(big)
            there.write(b"small")
            await until(lambda: len(theirs.data) == len(big) and mine.data)
            assert bytes(theirs.data) == big
            assert bytes(mine.data) == b"small"
            here.close()
            await until(lambda: theirs.ends)
            assert theirs.ends == [True]

    run(loop, main())


@on_both_loops
def test_tls_that_is_cut_off_is_not_a_clean_end(loop: str, certificates: Certificates) -> None:
    async def main() -> None:
        async with tls_pair(certificates) as (here, _, there, theirs):
            await asyncio.gather(here.secured(5), there.secured(5))
            sock = here._transport.get_extra_info("socket")
            socket.fromfd(sock.fileno(), sock.family, sock.type).shutdown(socket.SHUT_WR)  # FIN without close_notify
            await until(lambda: theirs.ends)
            assert theirs.ends == [False]

    run(loop, main())


@on_both_loops
@pytest.mark.parametrize(
    ("name", "trusted", "code"),
    [("b.example", True, "tls-certificate"), ("a.example", False, "tls-certificate")],
)
def test_a_certificate_that_is_not_right_is_refused(
    loop: str, certificates: Certificates, name: str, trusted: bool, code: str
) -> None:
    async def main() -> None:
        client = certificates.client if trusted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with tls_pair(certificates, name, client) as (here, mine, there, theirs):
            results = await asyncio.gather(here.secured(5), there.secured(5), return_exceptions=True)
            assert isinstance(results[0], PeerError)
            assert results[0].code == code
            assert mine.data == theirs.data == b""

    run(loop, main())


@on_both_loops
@pytest.mark.parametrize(
    ("sent", "code"),
    [(b"GET / HTTP/1.1\r\n\r\n", "tls-"), (b"", "tls-eof"), (b"\x16\x03\x01\x00\x05hello", "tls-")],
)
def test_what_is_no_handshake_is_the_peers_fault(loop: str, certificates: Certificates, sent: bytes, code: str) -> None:
    async def main() -> None:
        ours, peer = socket.socketpair()
        for sock in (ours, peer):
            sock.setblocking(False)
        channel, sink = Channel(Buffers()), Sink()
        channel.attach(sink)
        channel.expect_tls(certificates.server, server_side=True)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        await asyncio.get_running_loop().sock_sendall(peer, sent)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerError) as caught:
            await channel.secured(5)
        assert caught.value.code.startswith(code)
        await until(lambda: sink.losses)
        assert sink.data == b""
        peer.close()

    run(loop, main())


@on_both_loops
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_handshake_that_does_not_come_is_given_up(loop: str, certificates: Certificates, cancelled: bool) -> None:
    async def main() -> None:
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        channel, sink = Channel(Buffers()), Sink()
        channel.attach(sink)
        channel.expect_tls(certificates.server, server_side=True)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        waiting = asyncio.ensure_future(channel.secured(30 if cancelled else 0.05))
        if cancelled:
            await asyncio.sleep(0.01)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else EnvironmentFailed):
            await waiting
        await until(lambda: sink.losses)
        peer.close()

    run(loop, main())


@on_both_loops
def test_key_updates_whose_answers_nobody_reads_end(loop: str, certificates: Certificates) -> None:
    """Each asks for an answer (RFC 8446 4.6.3): a peer that reads none could have us keep any number of them."""
    updates = 100_000  # of some 27 bytes each

    async def main() -> None:
        ours, peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        channel, sink = Channel(Buffers()), Sink()
        channel.attach(sink)
        channel.expect_tls(certificates.server, server_side=True)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        sent = asyncio.ensure_future(asyncio.to_thread(update_keys, peer, updates))
        most = 0
        while not sent.done():
            most = max(most, transport.get_write_buffer_size())
            await asyncio.sleep(0.001)
        assert 0 < sent.result() < updates
        assert most < 2 * WRITE_HIGH
        await until(lambda: sink.losses)
        peer.close()

    run(loop, main())


def update_keys(sock: socket.socket, count: int) -> int:
    """A TLS client that asks for new keys `count` times and reads no answer; how often it could. Python's own `ssl` has
    no call for it."""
    openssl = ctypes.CDLL("libssl.so.3")
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(openssl, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(openssl.SSL_CTX_new(ctypes.c_void_p(openssl.TLS_client_method())))
    connection = ctypes.c_void_p(openssl.SSL_new(context))
    try:
        assert openssl.SSL_set_fd(connection, sock.fileno()) == 1
        assert openssl.SSL_connect(connection) == 1
        for done in range(count):
            if openssl.SSL_key_update(connection, 1) != 1 or openssl.SSL_do_handshake(connection) != 1:
                return done
        return count
    finally:
        openssl.SSL_free(connection)
        openssl.SSL_CTX_free(context)


@on_both_loops
@pytest.mark.parametrize("wait", [readable, writable])
def test_readiness_leaves_nothing_registered(loop: str, wait: Callable[[int], Awaitable[None]]) -> None:
    async def main() -> None:
        ours, peer = socket.socketpair()
        for sock in (ours, peer):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        if wait is writable:
            try:
                while True:
                    ours.send(b"x" * 4096)
            except BlockingIOError:
                pass
        waiting = asyncio.ensure_future(wait(ours.fileno()))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not asyncio.get_running_loop().remove_reader(ours.fileno())
        assert not asyncio.get_running_loop().remove_writer(ours.fileno())
        again = asyncio.ensure_future(wait(ours.fileno()))
        await asyncio.sleep(0)
        if wait is readable:
            peer.send(struct.pack("!I", 7))
        else:
            while not again.done():
                try:
                    peer.recv(65536)
                except BlockingIOError:
                    pass
                await asyncio.sleep(0.001)
        await again
        ours.close()
        peer.close()

    run(loop, main())
