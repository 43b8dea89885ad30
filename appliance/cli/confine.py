"""What `coatcheck run` takes from the program that it starts: ways round the hooks that no hook sees.

The hooks follow a socket's own cgroup, so a socket made outside must not come in; and they see IPv4 and IPv6 only, so
other families that leave the machine are refused by a seccomp filter (seccomp(2)), as is io_uring, which makes sockets
without a system call that a filter could see. Refused too is prctl(PR_SET_MM): root in a user namespace of its own may
by it say that it runs another executable, which is a fact that workloads are recognised by.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import stat
import struct
from typing import Final, NamedTuple

FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_PR_SET_MM = 35
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_*
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, JGE, BPF_RET|K
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # struct seccomp_data, little endian


class _Machine(NamedTuple):
    """Numbers of <linux/audit.h> and of the machine's system calls."""

    arch: int
    socket: int
    socketpair: int
    prctl: int
    io_uring_setup: int
    strange: int  # system calls from here on are another ABI's (x32)


_MACHINES: Final = {
    "x86_64": _Machine(0xC000003E, 41, 53, 157, 425, 0x40000000),
    "aarch64": _Machine(0xC00000B7, 198, 199, 167, 425, 0xFFFFFFFF),
}


def inherited_sockets() -> list[int]:
    """Of standard input, output and error, those that are network sockets: they were made outside."""
    found = []
    for number in (0, 1, 2):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as sock:
                if sock.family != socket.AF_UNIX:
                    found.append(number)
        except OSError:
            continue  # closed
    return found


def close_others() -> None:
    """Closes every descriptor but the first three."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 65536)


def confine() -> None:
    """no_new_privs and the filter, for this process and all that it starts. Raises OSError if the kernel refuses,
    or does not know this machine's numbers."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    program = _program()
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filled = Program(len(program) // 8, ctypes.addressof(code))
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(filled), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp filter")


def _program() -> bytes:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"no filter for {platform.machine()}; use --allow-setuid")
    refused_family, refused, missing = (_ERRNO | number for number in (errno.EAFNOSUPPORT, errno.EPERM, errno.ENOSYS))
    # (operation, value, steps if true, steps if false); a jump over everything to the last four returns
    checks: list[tuple[int, int, str, str]] = [
        (_LOAD, _ARCH_AT, "", ""),
        (_EQUAL, machine.arch, "", "missing"),  # a 32-bit program's calls have other numbers: it has no way out at all
        (_LOAD, _NUMBER_AT, "", ""),
        (_AT_LEAST, machine.strange, "missing", ""),
        (_EQUAL, machine.io_uring_setup, "refused", ""),
        (_EQUAL, machine.socket, "family", ""),
        (_EQUAL, machine.socketpair, "family", ""),
        (_EQUAL, machine.prctl, "", "allow"),
        (_LOAD, _FIRST_ARGUMENT_AT, "", ""),
        (_EQUAL, _PR_SET_MM, "refused", "allow"),
    ]
    labels = {"family": len(checks)}
    checks.append((_LOAD, _FIRST_ARGUMENT_AT, "", ""))
    checks += [(_EQUAL, int(family), "allow", "") for family in FAMILIES]
    for label, value in (("other", refused_family), ("refused", refused), ("missing", missing), ("allow", _ALLOW)):
        labels[label] = len(checks)
        checks.append((_RETURN, value, "", ""))
    packed = b""
    for index, (operation, value, yes, no) in enumerate(checks):
        steps = [labels[label] - index - 1 if label else 0 for label in (yes, no)]
        packed += struct.pack("=HBBI", operation, *steps, value)
    return packed
