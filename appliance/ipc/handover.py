"""Passing file descriptors: a listener that gives each allowed peer the same named descriptors, once.

The kernel process gives the proxy a read-only descriptor of the `flows` map this way, since opening a
pinned map takes a capability that the proxy does not have.
"""

from __future__ import annotations

import asyncio
import os
import socket

import msgspec

from appliance.ipc.server import peer_of
from appliance.model.errors import EnvironmentFailed

_MAX_FDS = 16


def serve(path: str, fds: dict[str, int], uids: frozenset[int]) -> socket.socket:
    """Listens on `path` within the running loop; returns the listening socket (close it to stop).

    The socket file is 0666: who may have the descriptors is decided by SO_PEERCRED alone.
    """
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(16)

    def ready() -> None:
        try:
            peer, _ = listener.accept()
        except BlockingIOError:
            return
        with peer:
            if peer_of(peer).uid in uids:
                peer.setblocking(False)
                try:
                    socket.send_fds(peer, [msgspec.msgpack.encode(list(fds))], list(fds.values()))
                except OSError:
                    return  # the peer has gone

    asyncio.get_running_loop().add_reader(listener.fileno(), ready)
    return listener


def receive(path: str, server_uid: int, timeout: float = 5.0) -> dict[str, int]:
    """Asks the server at `path` for its descriptors. Blocking: for use before the loop serves anyone.

    Raises EnvironmentFailed if it is not there, not ours, or refuses.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(path)
            if peer_of(sock).uid != server_uid:
                raise EnvironmentFailed("handover", f"{path} is not served by uid {server_uid}")
            data, fds, _, _ = socket.recv_fds(sock, 65536, _MAX_FDS)
        except OSError as error:
            raise EnvironmentFailed("handover", f"no descriptors from {path}: {error}") from None
    if not data:
        raise EnvironmentFailed("handover", f"{path} refused uid {os.getuid()}")
    for fd in fds:
        os.set_inheritable(fd, False)
    names = msgspec.msgpack.decode(data, type=list[str])
    return dict(zip(names, fds, strict=True))
