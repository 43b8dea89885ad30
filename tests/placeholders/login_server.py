"""A server that does nothing but log clients in, with what is under test: to be asked by real clients (libpq, asyncpg).

Blocking sockets in a thread. Its PostgreSQL is only as much as a login takes (PostgreSQL documentation 55.2.1, 55.7).
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from appliance.model.errors import CoatcheckError
from appliance.placeholders import handshakes

SALT4 = b"\x00\xff,="  # of MD5


class LoginServer:
    """Takes one of `candidates` as password, in the way that `login` names; keeps what became of each login."""

    def __init__(self, candidates: Sequence[bytes], login: str, context: ssl.SSLContext | None = None) -> None:
        self.candidates = candidates
        self.login: Callable[[socket.socket], int] = getattr(self, f"_{login}")
        self.context = context
        self.salted = handshakes.Salted(os.urandom(16))
        self.outcomes: list[int | CoatcheckError] = []
        self.first = b""
        self.user = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(20)
            with client, suppress(OSError, EOFError):
                self._serve(client)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        packet = _exactly(client, *struct.unpack("!i", _exactly(client, 4)))
        if packet == struct.pack("!i", 80877103):  # SSLRequest
            client.sendall(b"S" if self.context else b"N")
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            packet = _exactly(client, *struct.unpack("!i", _exactly(client, 4)))
        fields = packet[4:].split(b"\0")
        self.user = fields[fields.index(b"user") + 1]
        with client:
            try:
                self.outcomes.append(self.login(client))
            except CoatcheckError as error:
                self.outcomes.append(error)
                _send(client, b"E", b"SFATAL\0VFATAL\0C28P01\0M%b\0\0" % str(error).encode())
                return
            _send(client, b"R", struct.pack("!i", 0))
            _send(client, b"S", b"server_version\00015.0\0")
            _send(client, b"S", b"client_encoding\0UTF8\0")
            _send(client, b"K", struct.pack("!ii", 1, 1))
            _send(client, b"Z", b"I")
            while client.recv(4096):
                pass

    def _scram(self, client: socket.socket) -> int:
        server = handshakes.ScramServer(self.candidates, self.salted, handshakes.nonce_of(os.urandom(18)))
        _send(client, b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")
        mechanism, _, rest = _receive(client).partition(b"\0")
        assert mechanism == b"SCRAM-SHA-256"
        self.first = rest[4:]
        _send(client, b"R", struct.pack("!i", 11) + server.first(self.first))
        index, answer = server.final(_receive(client))
        _send(client, b"R", struct.pack("!i", 12) + answer)
        return index

    def _md5(self, client: socket.socket) -> int:
        _send(client, b"R", struct.pack("!i", 5) + SALT4)
        return handshakes.check_md5(self.candidates, self.user, SALT4, _receive(client).removesuffix(b"\0"))

    def _cleartext(self, client: socket.socket) -> int:
        _send(client, b"R", struct.pack("!i", 3))
        return handshakes.check_cleartext(self.candidates, _receive(client).removesuffix(b"\0"))


def _exactly(client: socket.socket, length: int) -> bytes:
    """`length` bytes less the four of the length itself if they were read before."""
    wanted = length if length == 4 else length - 4
    found = b""
    while len(found) < wanted:
        piece = client.recv(wanted - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found


def _receive(client: socket.socket) -> bytes:
    if (kind := client.recv(1)) != b"p":
        raise EOFError(f"the client answers with {kind!r}")
    return _exactly(client, *struct.unpack("!i", _exactly(client, 4)))


def _send(client: socket.socket, kind: bytes, body: bytes) -> None:
    client.sendall(kind + struct.pack("!i", len(body) + 4) + body)


@contextmanager
def serving(*arguments: Any) -> Iterator[LoginServer]:
    server = LoginServer(*arguments)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
