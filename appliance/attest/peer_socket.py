"""Which socket is on the other end of a loopback connection: asked of the kernel, by its cookie.

The record of a connection is found by its tuple, and tuples come again: without this check, anybody on the host who
connects to the proxy from the port of an earlier governed connection would be taken for its process.

Source: sock_diag(7), `struct inet_diag_req_v2` and `struct inet_diag_msg` of <linux/inet_diag.h>.
"""

from __future__ import annotations

import os
import socket
import struct

from appliance.model.errors import EnvironmentFailed

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, pid
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, ext, states
_ID = struct.Struct("!HH16s16s")  # sport, dport, src, dst: all in network order
_ID_TAIL = struct.Struct("=III")  # interface, cookie (two words; all ones: any)
_ANY = 0xFFFFFFFF
_LENGTH = _HEADER.size + _REQUEST.size + _ID.size + _ID_TAIL.size
_COOKIE_AT = _HEADER.size + 4 + _ID.size + 4  # nlmsghdr, 4 bytes of inet_diag_msg, ports and addresses, interface


class PeerSockets:
    """A netlink socket to ask by; for one thread."""

    def __init__(self) -> None:
        try:
            self._netlink = socket.socket(
                socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
            )
            self._netlink.settimeout(1.0)
        except OSError as error:
            raise EnvironmentFailed("sock-diag", f"the kernel lacks sock_diag: {error}") from None
        self._sequence = 0

    def close(self) -> None:
        self._netlink.close()

    def cookie(self, family: int, near: tuple[bytes, int], far: tuple[bytes, int]) -> int | None:
        """The cookie of the TCP socket bound to `near` and connected to `far` (packed address of `family`, port) in our
        network namespace; None if there is none (any more). Raises EnvironmentFailed if the kernel does not answer."""
        self._sequence += 1
        message = (
            _HEADER.pack(_LENGTH, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0)
            + _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ANY)
            + _ID.pack(near[1], far[1], near[0].ljust(16, b"\0"), far[0].ljust(16, b"\0"))
            + _ID_TAIL.pack(0, _ANY, _ANY)
        )
        try:
            self._netlink.send(message)
            while True:
                answer = self._netlink.recv(65536)
                _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
                if sequence == self._sequence:
                    break
        except OSError as error:
            raise EnvironmentFailed(
                "sock-diag", f"sock_diag does not answer: {os.strerror(error.errno or 0)}"
            ) from None
        if kind == _NLMSG_ERROR:
            return None
        low, high = struct.unpack_from("=II", answer, _COOKIE_AT)
        return int(high << 32 | low)
