"""A service outside that says exactly the bytes it is told to say: what no well-behaved server library would send.

It runs on threads of the test, on a socket in the world's outside namespace. Every request is kept as it came.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.world import OUTSIDE4, World
from tests.world.pki import Pair

_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)\r$")
_CREDENTIAL = re.compile(rb"(?im)^authorization: *bearer +(\S+)\r$")


class Connection:
    """One accepted connection, after its TLS handshake. `read` and `write` are the plaintext."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.resumed = isinstance(sock, ssl.SSLSocket) and bool(sock.session_reused)
        self._buffer = b""

    def read(self, most: int = 65536) -> bytes:
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        return data or self.sock.recv(most)

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Up to and with `mark`, or all there was."""
        data = self._buffer
        while mark not in data:
            more = self.sock.recv(65536)
            if not more:
                self._buffer = b""
                return data
            data += more
        head, _, self._buffer = data.partition(mark)
        return head + mark

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.read(count - len(data))):
            data += more
        return data


@dataclass
class Request:
    head: bytes
    body: bytes
    connection: int  # counts from 1

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def credential(self) -> bytes:
        found = _CREDENTIAL.search(self.head)
        return found[1] if found else b""


Answer = Callable[[Connection, Request], bool | None]  # True: another request may come on this connection


@dataclass
class RawService:
    """`with RawService(world, port, answer, pair=…) as service:`. Without a pair it speaks no TLS.
    `body`: read what Content-Length announces before `answer` is called."""

    world: World
    port: int
    answer: Answer
    pair: Pair | None = None
    address: str = OUTSIDE4
    body: bool = True
    requests: list[Request] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)  # one for each connection: was its TLS session resumed?

    def __enter__(self) -> RawService:
        self._context: ssl.SSLContext | None = None
        if self.pair is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self.pair.chain, self.pair.key)
        self._listener = self.world.listener("outside", self.address, self.port)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def clear(self) -> None:
        self.requests.clear()
        self.accepted.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed under its hands, as the test ends
            if self._context is not None:
                with self._held(sock):
                    sock = self._context.wrap_socket(sock, server_side=True)
            with sock, self._held(sock):
                connection = Connection(sock, len(self.accepted) + 1)
                self.accepted.append(connection.resumed)
                while self._one(connection):
                    pass
                if isinstance(sock, ssl.SSLSocket):
                    with contextlib.suppress(OSError):
                        sock.settimeout(0.3)
                        sock.unwrap()

    @contextlib.contextmanager
    def _held(self, sock: socket.socket) -> Iterator[None]:
        self._open.add(sock)
        try:
            yield
        finally:
            self._open.discard(sock)

    def _one(self, connection: Connection) -> bool:
        head = connection.until(b"\r\n\r\n")
        if not head.endswith(b"\r\n\r\n"):
            return False
        length = _LENGTH.search(head)
        body = connection.exactly(int(length[1])) if length and self.body else b""
        request = Request(head, body, connection.number)
        self.requests.append(request)
        return bool(self.answer(connection, request))


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole response with this body."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def ok(connection: Connection, request: Request) -> bool:
    """Answers everything with 2 bytes, and keeps the connection."""
    connection.write(response(b"ok"))
    return True
