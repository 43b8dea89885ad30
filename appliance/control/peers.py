"""Who is behind an admin connection: asked of the kernel, never of the request."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.ipc.server import peer_of
from appliance.model.errors import Denied

SCOPE_KEY = "coatcheck.peer"
MOST_CONNECTIONS_PER_UID = 64
MOST_CONNECTIONS = 1024
HEAD_TIMEOUT = 10.0  # seconds from a connection's start to its first whole request head
_SO_PEERGROUPS = 59  # <asm-generic/socket.h>, Linux 4.13
_SO_PEERPIDFD = 77  # Linux 6.5
_GROUPS_BUFFER = 1024  # bytes: what Python's getsockopt takes; 256 groups


@dataclass(frozen=True)
class AdminPeer:
    """The process that called connect(2), as it was then (unix(7), SO_PEERCRED). `pid` 0: in a pid namespace that we
    do not see."""

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    sock: Any  # the connection's socket, or what the loop shows of it

    def pidfd(self) -> int:
        """A pidfd of that very process; the caller closes it. Raises Denied if it has ended.

        Before Linux 6.5 it is looked up by number, after which the number must still be a process that could have
        connected: LIMITS there, a pid that was reused by the same user in between is not noticed.
        """
        try:
            return self.sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)  # type: ignore[no-any-return]
        except OSError:
            pass
        try:
            fd = os.pidfd_open(self.pid)
            if os.stat(f"/proc/{self.pid}").st_uid != self.uid:
                os.close(fd)
                raise ProcessLookupError
        except (OSError, ValueError):
            raise Denied("caller-gone", "the process that opened this connection has ended") from None
        return fd


def has_exited(pidfd: int) -> bool:
    """pidfd_open(2): a pidfd is readable once the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def admin_peer(sock: Any) -> AdminPeer:
    """Raises OSError if the kernel does not say."""
    peer = peer_of(sock)
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BUFFER)
    except OSError:  # ERANGE: more than 256; such a peer has its primary group only
        raw = b""
    groups = struct.unpack(f"={len(raw) // 4}I", raw)
    return AdminPeer(peer.pid, peer.uid, peer.gid, groups, sock)


class Doors:
    """How many connections are open, by uid."""

    def __init__(self) -> None:
        self._open: Counter[int] = Counter()
        self.turned_away = 0

    def enter(self, uid: int) -> bool:
        """root is not counted out, so that the host's owner can always look."""
        if uid != 0 and (self._open[uid] >= MOST_CONNECTIONS_PER_UID or self._open.total() >= MOST_CONNECTIONS):
            self.turned_away += 1
            return False
        self._open[uid] += 1
        return True

    def leave(self, uid: int) -> None:
        self._open[uid] -= 1
        if self._open[uid] <= 0:
            del self._open[uid]


def protocol_for(doors: Doors) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol that puts the peer into each request's scope, under `SCOPE_KEY` in `state`."""

    class AdminProtocol(HttpToolsProtocol):
        _admin: AdminPeer | None = None
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            try:
                peer = admin_peer(transport.get_extra_info("socket"))
            except OSError:
                transport.abort()
                return
            if not doors.enter(peer.uid):
                transport.abort()
                return
            self._admin = peer
            self._patience = self.loop.call_later(HEAD_TIMEOUT, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._patience is not None:
                self._patience.cancel()
            if self._admin is not None:
                doors.leave(self._admin.uid)
                self._admin = None
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._admin is not None:  # else it was turned away
                super().data_received(data)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["state"][SCOPE_KEY] = self._admin

        def on_headers_complete(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
            super().on_headers_complete()

    return AdminProtocol
