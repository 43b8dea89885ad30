"""Reads a connection's first bytes without taking them, so that a tunnel or a TLS end starts from byte one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.proxy.readiness import readable

_MOST = 65536 + 5 * 16  # bytes: the largest ClientHello that `wire.tls` takes, with its record headers

T = TypeVar("T")


async def peek(sock: socket.socket, read: Callable[[bytes], T | int], timeout: float) -> T:
    """Calls `read` with all bytes that have come so far until it answers with something else than the number of
    bytes that it needs at least.

    `sock` is non-blocking and belongs to no transport. Raises what `read` raises; PeerError("eof") if the peer
    ends first, EnvironmentFailed("slow-hello") after `timeout` seconds. SO_RCVLOWAT (socket(7)) keeps the loop
    quiet until enough has come; it is 1 again afterwards.
    """
    loop = asyncio.get_running_loop()
    needed = 1
    waited = False
    deadline = loop.time() + timeout
    try:
        while True:
            try:
                data = sock.recv(_MOST, socket.MSG_PEEK)
            except BlockingIOError:
                data = None
            except OSError as error:
                raise PeerError("eof", f"the connection was lost before its first bytes: {error.strerror}") from None
            if data is not None:
                if not data:
                    raise PeerError("eof", "the peer closed the connection without sending anything")
                answer = read(data)
                if not isinstance(answer, int):
                    return answer
                if answer > _MOST or (answer <= len(data)):
                    raise PeerError("hello-too-long", "the first message is longer than allowed")
                if waited and len(data) < needed:
                    raise PeerError("eof", "the peer closed the connection within its first message")
                needed = answer
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
            try:
                async with asyncio.timeout_at(deadline):
                    await readable(sock.fileno())
            except TimeoutError:
                raise EnvironmentFailed("slow-hello", f"no complete first message within {timeout:g} s") from None
            waited = True
    finally:
        if needed > 1 and sock.fileno() != -1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
