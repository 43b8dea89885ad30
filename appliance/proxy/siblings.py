"""What a worker tells the other workers of its host, because the next connection of a job may come to any of them:
which name it answered to the job with which addresses, and who is to be cancelled.

Messages over socket pairs that the supervisor made, and that only the workers hold: nobody else can send one, and they
outlive a worker that is started again. One that cannot be sent at once is lost. That is safe: a name that a worker was
not told of it looks up itself or refuses, and a CancelRequest may be lost anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from appliance.model.ids import JobId

_MOST: Final = 4096  # bytes of a message
_BATCH: Final = 64  # messages, before others have their turn
ADDRESSES: Final = 64  # of one message: 64 of the longest, with the longest name, are less than _MOST


class CancelAsked(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    job: JobId  # that asks, as its worker attested it
    pid: int
    key: bytes


class NameAnswered(msgspec.Struct, frozen=True, array_like=True, tag="name"):
    job: JobId
    name: str  # canonical
    addresses: tuple[tuple[str, int], ...]  # with their seconds to live; at most ADDRESSES


Told = CancelAsked | NameAnswered


class Siblings:
    """`own`: where the others' messages come in; `others`: where theirs go. Both are closed by `close`."""

    def __init__(self, own: socket.socket | None = None, others: Sequence[socket.socket] = ()) -> None:
        self._own = own
        self._others = tuple(others)
        self._decoder = msgspec.msgpack.Decoder(Told)
        self._heard: Callable[[Told], None] | None = None

    def tell(self, told: Told) -> None:
        if self._others:
            data = msgspec.msgpack.encode(told)
            for sock in self._others:
                with contextlib.suppress(OSError):
                    sock.send(data)

    def listen(self, heard: Callable[[Told], None]) -> None:
        self._heard = heard
        if self._own is not None:
            asyncio.get_running_loop().add_reader(self._own.fileno(), self.catch_up)

    def catch_up(self) -> None:
        """Hears what has come, now: what a sibling told before it answered an agent comes before whatever the agent
        does with the answer, but the loop may see the agent first."""
        if self._own is None or self._heard is None:
            return
        for _ in range(_BATCH):
            try:
                data = self._own.recv(_MOST)
            except OSError:
                return
            if not data:  # nobody is left who could tell
                asyncio.get_running_loop().remove_reader(self._own.fileno())
                return
            with contextlib.suppress(msgspec.DecodeError):
                self._heard(self._decoder.decode(data))

    def close(self) -> None:
        self._heard = None
        if self._own is not None:
            asyncio.get_running_loop().remove_reader(self._own.fileno())
            self._own.close()
        for sock in self._others:
            sock.close()
