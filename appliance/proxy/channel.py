"""One end of a flow: plaintext in and out over a TCP transport, with or without TLS.

TLS runs on memory BIOs (`ssl.SSLObject`), so that the loop does the system calls, OpenSSL the per-byte work,
and Python a handful of calls per read, whatever its size. One pair of buffers serves every channel of a
worker: what a read brings is consumed before the callback returns, so an idle connection holds no buffer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast

from appliance.model.errors import EnvironmentFailed, PeerError

_RESET = b"\x01\0\0\0\0\0\0\0"  # socket(7), SO_LINGER on for 0 s: what is closed is reset
READ_SIZE = 256 * 1024  # bytes, per worker, not per connection
_RECORD = 16384  # RFC 8446 5.1: the most plaintext of one record
WRITE_HIGH = 256 * 1024  # bytes waiting in the kernel's way before the other end is told to hold
_ANSWERS_MOST = 64 * 1024  # bytes that OpenSSL says by itself to a peer that reads nothing


class Sink(Protocol):
    """Who a channel delivers to. No method may raise; each may close the channel."""

    def received(self, data: bytes) -> None:
        """Plaintext, in order."""

    def ended(self, clean: bool) -> None:
        """The peer will send no more. `clean` is False where TLS was cut off without close_notify."""

    def lost(self, error: Exception | None) -> None:
        """The connection is gone. Last call."""

    def hold(self) -> None:
        """What was written does not get away: write no more until `release`."""

    def release(self) -> None:
        """It got away."""


class Line(Protocol):
    """A channel as those see it who hold a conversation on it."""

    sent_bytes: int
    received_bytes: int

    @property
    def closing(self) -> bool: ...
    @property
    def tls(self) -> ssl.SSLObject | None: ...
    def attach(self, sink: Sink) -> None: ...
    def write(self, data: bytes) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Buffers:
    """What all channels of a worker share: the read buffers, and the list of those that have something to send.

    What one turn of the loop writes goes out together at its end: several writes of a channel are one system call, and
    a peer that the first write wakes finds the others there already, instead of being woken for each.
    """

    def __init__(self) -> None:
        self.raw = bytearray(READ_SIZE)
        self.raw_view = memoryview(self.raw)
        self.plain_view = memoryview(bytearray(READ_SIZE))
        self._unsent: list[Channel] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # it is asked for once: that is a system call

    def send_later(self, channel: Channel) -> None:
        if not self._unsent:
            loop = self._loop
            if loop is None or loop.is_closed():
                loop = self._loop = asyncio.get_running_loop()
            loop.call_soon(self._send)
        self._unsent.append(channel)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        for channel in unsent:
            channel.send()


class Channel(asyncio.BufferedProtocol):
    """Made by a protocol factory, connected to a transport by the loop, given a sink, and TLS if wanted."""

    __slots__ = (
        "_answers",
        "_buffers",
        "_closing",
        "_decrypt",
        "_encrypt",
        "_eof",
        "_handshake",
        "_in",
        "_out",
        "_paused",
        "_shaken",
        "_sink",
        "_tls",
        "_transport",
        "_unsent",
        "_unsent_size",
        "_waiting",
        "received_bytes",
        "sent_bytes",
    )

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._sink: Sink = _NOBODY
        self._transport: asyncio.Transport
        self._tls: ssl.SSLObject | None = None
        self._decrypt: Callable[[int, memoryview], int]
        self._encrypt: Callable[[Any], int]
        self._in: ssl.MemoryBIO
        self._out: ssl.MemoryBIO
        self._handshake: asyncio.Future[None] | None = None
        self._shaken = False
        self._closing = False
        self._paused = False
        self._eof = False
        self._waiting = False  # in the buffers' list
        self._unsent: list[bytes] = []  # without TLS; with it, what waits is in `_out`
        self._unsent_size = 0  # bytes
        self._answers = 0  # bytes, while what was written does not get away
        self.received_bytes = 0  # plaintext
        self.sent_bytes = 0

    # ---- for the owner ----

    def attach(self, sink: Sink) -> None:
        """From now on `sink` gets what comes."""
        self._sink = sink

    @property
    def tls(self) -> ssl.SSLObject | None:
        return self._tls

    @property
    def closing(self) -> bool:
        return self._closing

    def expect_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Sets TLS up, before the channel is connected: no byte is ever taken for plaintext in between."""
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=server_hostname, session=session
        )
        # what SSLObject.read and write themselves call: they are on the way of every message
        inner = cast(Any, self._tls)._sslobj
        self._decrypt, self._encrypt = inner.read, inner.write
        self._handshake = asyncio.get_running_loop().create_future()

    def begin_tls(
        self, context: ssl.SSLContext, *, server_hostname: str, session: ssl.SSLSession | None = None
    ) -> None:
        """Turns a plain connection into a TLS client's, after the peer has agreed to it in its own protocol. The caller
        has seen to it that the peer sent nothing after its agreement."""
        self._hand_over()
        self.expect_tls(context, server_side=False, server_hostname=server_hostname, session=session)
        self._shake()

    async def secured(self, timeout: float) -> None:
        """Returns once the handshake is done. Raises PeerError("tls-…") for what the peer did wrong,
        EnvironmentFailed("tls-slow") after `timeout` seconds; the channel is then aborted. Cancelling aborts it too."""
        handshake = self._handshake
        assert handshake is not None  # noqa: S101  # callers' condition
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(handshake)
        except TimeoutError:
            raise EnvironmentFailed("tls-slow", f"the TLS handshake took over {timeout:g} s") from None
        finally:
            if not (handshake.done() and handshake.exception() is None):
                handshake.cancel()
                self.abort()

    def write(self, data: bytes) -> None:
        """Queues plaintext. Ignored once closing, as a lost peer is told through the sink."""
        if self._closing:
            return
        self.sent_bytes += len(data)
        tls = self._tls
        if not self._waiting:
            self._waiting = True
            self._buffers.send_later(self)
        if tls is None:
            self._unsent.append(data)
            self._unsent_size += len(data)
            if self._unsent_size > WRITE_HIGH:
                self._hand_over()
            return
        if self._take(data) and self._out.pending > WRITE_HIGH:
            self._hand_over()  # one turn may read 8 MB (libuv): whoever reads it must be told to hold

    def write_now(self, data: bytes) -> None:
        """`write` for those who write once in a turn: nothing that this turn may still write goes along."""
        if self._closing:
            return
        tls = self._tls
        if tls is None or self._waiting:
            self.write(data)
            return
        self.sent_bytes += len(data)
        if self._take(data):
            self._hand_over()

    def _take(self, data: bytes) -> bool:
        """Into `_out`; False if the channel failed."""
        encrypt = self._encrypt
        try:
            written = encrypt(data)
            if written < len(data):
                view = memoryview(data)
                while written < len(data):
                    written += encrypt(view[written : written + _RECORD])
        except ssl.SSLError as error:
            self._fail(_tls_error(error))
            return False
        return True

    def send(self) -> None:
        """Hands what was written to the transport."""
        self._waiting = False
        self._hand_over()

    def _hand_over(self) -> None:
        if self._transport.is_closing():
            return
        if self._tls is not None:
            if self._out.pending:
                self._transport.write(self._out.read())
        elif self._unsent:
            unsent, self._unsent, self._unsent_size = self._unsent, [], 0
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def pause(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Sends what is queued, close_notify, FIN. The sink still gets `lost`."""
        if self._closing:
            return
        self._closing = True
        if self._shaken:
            try:
                cast(ssl.SSLObject, self._tls).unwrap()
            except ssl.SSLError:
                pass  # we wait for no close_notify of theirs
        self.send()
        self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once (RST): the peer must notice that it was not a proper end."""
        self._closing = True
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass  # it is gone already
        self._transport.abort()

    # ---- for the loop ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        if self._tls is not None:
            self._shake()  # a client speaks first; a server finds nothing to read yet

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffers.raw

    def buffer_updated(self, nbytes: int) -> None:
        if self._tls is None:
            self.received_bytes += nbytes
            self._sink.received(bytes(self._buffers.raw_view[:nbytes]))
            return
        self._in.write(self._buffers.raw_view[:nbytes])
        if not self._shaken:
            self._shake()
            if not self._shaken:
                return
        self._read()

    def eof_received(self) -> bool:
        if self._tls is not None and not self._shaken:
            self._fail(PeerError("tls-eof", "the peer closed the connection during the TLS handshake"))
            return False
        if not self._eof:
            self._eof = True
            self._sink.ended(self._tls is None)
        return True  # half-closed: what we have to say still goes out

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(PeerError("tls-lost", "the connection was lost during the TLS handshake"))
        self._sink.lost(exc)
        self._sink = _NOBODY  # breaks the cycle, so that memory goes at once

    def pause_writing(self) -> None:
        self._sink.hold()

    def resume_writing(self) -> None:
        self._sink.release()

    # ---- TLS ----

    def _shake(self) -> None:
        assert self._tls is not None  # noqa: S101  # callers' condition
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._fail(_tls_error(error))
            return
        self._shaken = True
        self._flush()
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_result(None)

    def _flush(self) -> None:
        if self._out.pending:
            self._transport.write(self._out.read())

    def _read(self) -> None:
        read = self._decrypt
        view = self._buffers.plain_view
        incoming = self._in
        before = self._out.pending
        total = 0
        try:
            while incoming.pending:
                count = read(_RECORD, view[total:] if total else view)
                if not count:  # close_notify: CPython answers 0, and raises only if we had said it too
                    self._deliver(total, before)
                    self._end()
                    return
                total += count
                if total > READ_SIZE - _RECORD:
                    self._deliver(total, before)
                    before = self._out.pending
                    total = 0
                    if self._closing:
                        return
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._deliver(total, before)
            self._end()
            return
        except ssl.SSLError as error:
            self._deliver(total, before)
            self._fail(_tls_error(error))
            return
        self._deliver(total, before)

    def _deliver(self, total: int, before: int) -> None:
        """`before`: bytes that waited to be sent when the reading began; what came to them is OpenSSL's own answer: to
        a key update (RFC 8446 4.6.3), or to a renegotiation, which it refuses."""
        answer = self._out.pending - before
        if answer and not self._closing:
            self._answer(answer)
        if total and not self._closing:
            self.received_bytes += total
            self._sink.received(bytes(self._buffers.plain_view[:total]))

    def _answer(self, size: int) -> None:
        stuck = self._transport.get_write_buffer_size() + self._out.pending > WRITE_HIGH
        self._answers = self._answers + size if stuck else 0
        if self._answers > _ANSWERS_MOST:
            self.abort()
        elif not self._waiting:
            self._flush()

    def _end(self) -> None:
        if not self._eof and not self._closing:
            self._eof = True
            self._sink.ended(True)

    def _fail(self, error: PeerError) -> None:
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(error)
            self._transport.close()  # not abort: the alert that says why must get out
            self._closing = True
        else:
            self.abort()


def _tls_error(error: ssl.SSLError) -> PeerError:
    """The peer's fault in words. OpenSSL's text names no secret: alerts, versions, certificate errors."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return PeerError("tls-certificate", f"the certificate was not accepted: {error.verify_message}")
    reason = (error.reason or "error").lower().replace("_", " ")
    return PeerError("tls-" + (error.reason or "error").lower().replace("_", "-"), f"TLS failed: {reason}")


class _Nobody:
    """Takes what comes when there is no owner, and drops it."""

    def received(self, data: bytes) -> None: ...
    def ended(self, clean: bool) -> None: ...
    def lost(self, error: Exception | None) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...


_NOBODY = _Nobody()
