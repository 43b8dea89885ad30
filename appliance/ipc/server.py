"""The serving end: methods registered with the uids that may call them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, cast

import msgspec

from appliance.ipc.envelope import Answer, Call
from appliance.ipc.frame import EMPTY, Deframer, FrameError, decode, encode, pack, read_call
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, InternalError, PeerError

_UCRED = struct.Struct("=iII")  # unix(7) SO_PEERCRED: pid, uid, gid


class Peer(NamedTuple):
    """Who is on the other end, as the kernel recorded it at connect(2)."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    """The credentials of a connected Unix socket's other end."""
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


Handler = Callable[[Peer, Any], Awaitable[Any]]


class _Method(NamedTuple):
    handler: Handler
    params: Any
    uids: frozenset[int]


class IpcServer:
    """`method()` registers, `start()` listens. A handler gets (peer, params) and returns anything that
    msgspec encodes; it raises our error families, anything else reaches the caller as InternalError
    without detail (`on_bug` gets the exception for our own log)."""

    def __init__(self, on_bug: Callable[[str, BaseException], None]) -> None:
        self._methods: dict[str, _Method] = {}
        self._on_bug = on_bug
        self._server: asyncio.AbstractServer | None = None
        self._connections: set[_ServerConnection] = set()
        self._path = ""

    def method(self, name: str, params: Any, handler: Handler, uids: frozenset[int]) -> None:
        if name in self._methods:
            raise InternalError(f"method {name} is registered twice")
        self._methods[name] = _Method(handler, params, uids)

    async def start(self, path: str, *, mode: int = 0o600, uid: int = -1, gid: int = -1) -> None:
        """Listens on the Unix socket `path` (an old one there is replaced)."""
        if os.path.exists(path):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        old = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(old)
        if uid != -1 or gid != -1:
            os.chown(path, uid, gid)
        os.chmod(path, mode)
        self._path = path
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _ServerConnection(self), sock=sock)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.drop()
            self._server = None

    def dispatch(self, peer: Peer, call: Call) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer, or what gives it once it is awaited."""
        method = self._methods.get(call.method)
        if method is None or peer.uid not in method.uids:
            return Answer(call.number, "Denied", "ipc", f"uid {peer.uid} may not call {call.method}", EMPTY)
        try:
            params = decode(call.params, method.params)
        except msgspec.MsgspecError as error:
            return Answer(call.number, "PeerError", "ipc-params", f"{call.method}: {error}", EMPTY)
        return self._await(peer, call, method, params)

    async def _await(self, peer: Peer, call: Call, method: _Method, params: Any) -> Answer:
        try:
            result = await method.handler(peer, params)
            return Answer(call.number, "", "", "", msgspec.Raw(encode(result)))
        except Exception as error:
            return self._bad(call, error)

    def _bad(self, call: Call, error: Exception) -> Answer:
        match error:
            case Denied():
                return Answer(call.number, "Denied", error.rule, f"{error.reason}\0{error.ask}", EMPTY)
            case PeerError() | EnvironmentFailed():
                return Answer(call.number, type(error).__name__, error.code, str(error), EMPTY)
            case CoatcheckError():
                return Answer(call.number, "InternalError", "", str(error), EMPTY)
            case _:  # the seam: a bug in a handler must not end the server
                self._on_bug(call.method, error)
                return Answer(call.number, "InternalError", "", f"{call.method} failed; see the log", EMPTY)


class _ServerConnection(asyncio.Protocol):
    def __init__(self, server: IpcServer) -> None:
        self._server = server
        self._deframer = Deframer()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # what create_unix_server makes; uvloop's is no subclass
        self._peer = peer_of(transport.get_extra_info("socket"))
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)
        for task in self._tasks:
            task.cancel()

    def drop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._deframer.feed(data):
                answer = self._server.dispatch(self._peer, read_call(body))
                if isinstance(answer, Answer):
                    self._send(answer)
                else:
                    task = asyncio.ensure_future(self._send_later(answer))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        except (FrameError, msgspec.MsgspecError):
            self._transport.abort()

    async def _send_later(self, answer: Coroutine[Any, Any, Answer]) -> None:
        self._send(await answer)

    def _send(self, answer: Answer) -> None:
        if not self._transport.is_closing():
            self._transport.write(pack(answer))
