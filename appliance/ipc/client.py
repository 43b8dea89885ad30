"""The calling end: many calls under way on one connection, answered in any order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec

from appliance.ipc.envelope import Answer, Call
from appliance.ipc.frame import Deframer, FrameError, decode, encode, pack, read_answer
from appliance.ipc.server import peer_of
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, InternalError, PeerError


class IpcClient:
    """A connection to one of the four processes, made at the first call and made anew after it was lost.

    `server_uid`: the uid that must be listening there; another one is refused before a byte is sent.
    """

    def __init__(self, name: str, path: str, server_uid: int) -> None:
        self._name = name
        self._path = path
        self._server_uid = server_uid
        self._connection: _ClientConnection | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._number = 0

    async def call(self, method: str, params: Any = None, *, result: Any = None, timeout: float = 10.0) -> Any:
        """Calls `method` and decodes its result to the type `result` (None: no result is expected).

        Raises the error family that the server answered; EnvironmentFailed if it cannot be reached, is
        lost, or takes over `timeout` seconds. A cancelled call may still be carried out by the server.
        """
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._connect()
        self._number += 1
        number = self._number
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        connection.waiting[number] = waiter
        try:
            connection.send(pack(Call(number, method, msgspec.Raw(encode(params)))))
            async with asyncio.timeout(timeout):  # wait_for loses a cancellation that meets the answer (CPython 3.11)
                answer = await waiter
        except TimeoutError:
            raise EnvironmentFailed(
                f"{self._name}-slow", f"the {self._name} process did not answer {method} in {timeout:g} s"
            ) from None
        finally:
            connection.waiting.pop(number, None)
        if answer.family:
            raise _error_of(answer)
        return decode(answer.result, result) if result is not None else None

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connect(self) -> _ClientConnection:
        async with self._connecting:
            if self._connection is not None and not self._connection.lost:
                return self._connection
            loop = asyncio.get_running_loop()
            try:
                transport, connection = await loop.create_unix_connection(
                    lambda: _ClientConnection(self._name), self._path
                )
            except OSError as error:
                raise EnvironmentFailed(
                    f"{self._name}-gone",
                    f"the {self._name} process cannot be reached at {self._path}: {error.strerror}",
                ) from None
            uid = peer_of(transport.get_extra_info("socket")).uid
            if uid != self._server_uid:
                transport.abort()
                raise EnvironmentFailed(
                    f"{self._name}-impostor", f"{self._path} is served by uid {uid}, not {self._server_uid}"
                )
            self._connection = connection
            return connection


def _error_of(answer: Answer) -> CoatcheckError:
    match answer.family:
        case "Denied":
            reason, _, ask = answer.message.partition("\0")
            return Denied(answer.code, reason, ask)
        case "PeerError":
            return PeerError(answer.code, answer.message)
        case "EnvironmentFailed":
            return EnvironmentFailed(answer.code, answer.message)
        case _:
            return InternalError(answer.message)


class _ClientConnection(asyncio.Protocol):
    def __init__(self, name: str) -> None:
        self._name = name
        self._deframer = Deframer()
        self.waiting: dict[int, asyncio.Future[Answer]] = {}
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            asyncio.Transport, transport
        )  # what create_unix_connection makes; uvloop's is no subclass

    def send(self, frame: bytes) -> None:
        self._transport.write(frame)

    def close(self) -> None:
        self.lost = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._deframer.feed(data):
                answer: Answer = read_answer(body)
                waiter = self.waiting.get(answer.number)
                if waiter is not None and not waiter.done():
                    waiter.set_result(answer)
        except (FrameError, msgspec.MsgspecError):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        error = EnvironmentFailed(f"{self._name}-gone", f"the {self._name} process ended the connection")
        for waiter in self.waiting.values():
            if not waiter.done():
                waiter.set_exception(error)
