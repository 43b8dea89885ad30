"""Looks a connection up in the kernel's `flows` map, through a descriptor of it.

The proxy has no capability and no libbpf: bpf(2) lets whoever holds a descriptor read the map. It is given one
that was opened with BPF_F_RDONLY, so that it cannot write itself a record.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from typing import Final

from appliance.attest.layouts import KEY_SIZE, RECORD_SIZE
from appliance.model.errors import EnvironmentFailed, InternalError

_BPF_MAP_LOOKUP_ELEM = 1  # enum bpf_cmd, <linux/bpf.h>
_SYSCALL: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, from 5.14


class _LookupAttr(ctypes.Structure):
    """`union bpf_attr` as BPF_MAP_LOOKUP_ELEM reads it."""

    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class FlowMap:
    """The map behind `fd`, which stays the caller's to close. Not for several threads at once.

    Whoever uses an answer as an identity also sees to it that the connection is not closed already (TCP_INFO):
    an entry lives as long as its socket, and tells nothing about an earlier connection with the same ports.
    """

    __slots__ = ("_attr", "_call", "_key", "_reference", "_value")

    def __init__(self, fd: int) -> None:
        number = _SYSCALL.get(platform.machine())
        if number is None:
            raise EnvironmentFailed("bpf-machine", f"bpf(2) has no known number on {platform.machine()}")
        self._key = ctypes.create_string_buffer(KEY_SIZE)
        self._value = ctypes.create_string_buffer(RECORD_SIZE)
        self._attr = _LookupAttr(fd, 0, ctypes.addressof(self._key), ctypes.addressof(self._value), 0)
        self._reference = ctypes.addressof(self._attr)
        syscall = ctypes.CDLL(None, use_errno=True).syscall
        syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
        syscall.restype = ctypes.c_long
        size = ctypes.sizeof(self._attr)

        def call() -> int:
            result: int = syscall(number, _BPF_MAP_LOOKUP_ELEM, self._reference, size)
            return result

        self._call = call

    def lookup(self, key: bytes) -> bytes | None:
        """The record's bytes, None if there is none. About 2 us. Raises EnvironmentFailed if bpf(2) fails."""
        if len(key) != KEY_SIZE:
            raise InternalError(f"a flow key of {len(key)} bytes")
        self._key.raw = key
        if self._call() == 0:
            return self._value.raw
        number = ctypes.get_errno()
        if number == errno.ENOENT:
            return None
        raise EnvironmentFailed("flow-map", f"the flow map cannot be read: {os.strerror(number)}")


def netns_cookie() -> int:
    """The cookie of the network namespace that we are in. Raises EnvironmentFailed on kernels before 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            data = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError as error:
            raise EnvironmentFailed("netns-cookie", f"this kernel has no SO_NETNS_COOKIE: {error.strerror}") from None
    cookie: int = struct.unpack("=Q", data)[0]
    return cookie
