"""What a worker tells the other workers of its host: a CancelRequest may come to another one than its session did.

Datagrams over socket pairs that the supervisor made, and that only the workers hold: nobody else can send one, and they
outlive a worker that is started again. One that cannot be sent at once is lost, as a CancelRequest may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from appliance.model.ids import JobId

_MOST: Final = 4096  # bytes of a datagram
_BATCH: Final = 64  # datagrams, before others have their turn


class CancelAsked(msgspec.Struct, frozen=True, array_like=True):
    job: JobId  # that asks, as its worker attested it
    pid: int
    key: bytes


class Siblings:
    """`own`: where the others' datagrams come in; `others`: where theirs go. Both are closed by `close`."""

    def __init__(self, own: socket.socket | None = None, others: Sequence[socket.socket] = ()) -> None:
        self._own = own
        self._others = tuple(others)
        self._decoder = msgspec.msgpack.Decoder(CancelAsked)

    def tell(self, asked: CancelAsked) -> None:
        data = msgspec.msgpack.encode(asked)
        for sock in self._others:
            with contextlib.suppress(OSError):
                sock.send(data)

    def listen(self, heard: Callable[[CancelAsked], None]) -> None:
        if self._own is not None:
            asyncio.get_running_loop().add_reader(self._own.fileno(), self._read, self._own, heard)

    def close(self) -> None:
        if self._own is not None:
            asyncio.get_running_loop().remove_reader(self._own.fileno())
            self._own.close()
        for sock in self._others:
            sock.close()

    def _read(self, sock: socket.socket, heard: Callable[[CancelAsked], None]) -> None:
        for _ in range(_BATCH):
            try:
                data = sock.recv(_MOST)
            except OSError:
                return
            with contextlib.suppress(msgspec.DecodeError):
                heard(self._decoder.decode(data))
