"""The bytes of the `flows` map: `struct key` and `struct record` of bpf/records.h, in the machine's own order.

The loader compares the sizes with the object's BTF before it uses it, the tests every member.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache
from typing import NamedTuple

from appliance.model.errors import PeerError
from appliance.model.facts import SocketRecord

KEY_SIZE = 48
RECORD_SIZE = 192

# struct record, in the order of its members
_RECORD = struct.Struct("=5Q3Q6I16s2sBBI16s64s")
# its members task_cgroup, start_ns, exe_inode, exe_device, pid, uid, gid
_PROCESS = struct.Struct("=3Q4I")
_PROCESS_OFFSET = 40
_NETNS = struct.Struct("=Q")
_COOKIE = struct.Struct("=Q")
_MAPPED = bytes(10) + b"\xff\xff"

ProcessKey = tuple[int, int, int, int, int, int, int]


class FlowKey(NamedTuple):
    """`struct key` in parts. Addresses are 16 bytes, ports host order."""

    netns: int
    client: bytes
    client_port: int
    proxy: bytes
    proxy_port: int
    protocol: int


@lru_cache(maxsize=4096)
def packed_address(text: str) -> bytes:
    """An address's 16 bytes, IPv4 as ::ffff:a.b.c.d. Raises PeerError if it is none."""
    try:
        if ":" in text:
            return socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
        return _MAPPED + socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL, or a surrogate
        raise PeerError("address", f"{text!r} is not an address") from None


def address_text(packed: bytes) -> str:
    """The text form of 16 bytes; v4-mapped as IPv4."""
    if packed[:12] == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def flow_key(
    netns_cookie: int,
    peer: tuple[str, int] | tuple[str, int, int, int],
    local: tuple[str, int] | tuple[str, int, int, int],
    protocol: int = socket.IPPROTO_TCP,
) -> bytes:
    """The map's key for a connection: `peer` as accept(2) gave it (not getpeername(2), which fails once the client
    has reset), `local` from getsockname(2). For DNS: the datagram's source, the forwarder's own address, UDP.
    """
    return b"".join(
        (
            _NETNS.pack(netns_cookie),
            packed_address(peer[0]),
            packed_address(local[0]),
            peer[1].to_bytes(2, "big"),
            local[1].to_bytes(2, "big"),
            protocol.to_bytes(4, "little"),  # one byte and its padding
        )
    )


def parse_key(data: bytes) -> FlowKey:
    """Raises PeerError if it is not a key."""
    if len(data) != KEY_SIZE or any(data[45:]):
        raise PeerError("flow-key", "not a key of the flow map")
    return FlowKey(
        _NETNS.unpack_from(data)[0],
        data[8:24],
        int.from_bytes(data[40:42], "big"),
        data[24:40],
        int.from_bytes(data[42:44], "big"),
        data[44],
    )


def question(cookie: int, key: bytes) -> bytes:
    """What the kernel process is asked by: this very socket's connection, not another one that has its ports by now."""
    return _COOKIE.pack(cookie) + key


def parse_question(data: bytes) -> tuple[int, bytes]:
    """`(cookie, key)`. Raises PeerError if it is not a question."""
    parse_key(data[_COOKIE.size :])
    return _COOKIE.unpack_from(data)[0], data[_COOKIE.size :]


def parse_process_key(value: bytes) -> ProcessKey:
    """`SocketRecord.process_key` without the rest of the record: for caches on the hot path (0.3 us)."""
    cgroup, start, inode, device, pid, uid, gid = _PROCESS.unpack_from(value, _PROCESS_OFFSET)
    return (pid, start, inode, device, uid, gid, cgroup)


def parse_destination(value: bytes) -> tuple[bytes, int]:
    """The address (16 bytes) and port that the client asked for, without the rest of the record."""
    return value[88:104], int.from_bytes(value[104:106], "big")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="backslashreplace")


def parse_record(value: bytes) -> SocketRecord:
    """Raises PeerError if it has not the size of a record."""
    if len(value) != RECORD_SIZE:
        raise PeerError("flow-record", f"a record of {len(value)} bytes")
    (
        cookie,
        netns,
        socket_job,
        task_job,
        connect_ns,
        task_cgroup,
        start_ns,
        exe_inode,
        exe_device,
        pid,
        uid,
        gid,
        tid,
        parent,
        address,
        port,
        family,
        protocol,
        _turned,
        comm,
        exe_name,
    ) = _RECORD.unpack(value)
    return SocketRecord(
        cookie=cookie,
        netns=netns,
        task_cgroup=task_cgroup,
        socket_job=socket_job,
        task_job=task_job,
        start_ns=start_ns,
        connect_ns=connect_ns,
        exe_inode=exe_inode,
        exe_device=exe_device,
        pid=pid,
        tid=tid,
        uid=uid,
        gid=gid,
        parent=parent,
        address=address,
        port=int.from_bytes(port, "big"),
        family=family,
        protocol=protocol,
        comm=_text(comm),
        exe_name=_text(exe_name),
    )
