"""What a process may not bring into a job: the hooks follow the cgroup in which a socket was made, so a socket from
outside would stay outside."""

from __future__ import annotations

import ctypes
import os
import socket

from appliance.model.errors import Denied, EnvironmentFailed

_PIDFD_GETFD = 438  # the same number on every machine; from 5.6
_SO_DOMAIN = 39
_HARMLESS = (socket.AF_UNIX, socket.AF_NETLINK)


def refuse_sockets(pid: int) -> None:
    """Raises Denied if a thread of the process holds a socket that reaches beyond the host, or an io_uring (which may
    hold sockets of its own); EnvironmentFailed if that cannot be seen (takes CAP_SYS_PTRACE)."""
    try:
        pidfd = os.pidfd_open(pid)
        try:
            seen: set[str] = set()
            leader = _descriptors(f"/proc/{pid}/fd")
            for number, target in leader.items():
                if target == "anon_inode:[io_uring]":
                    raise Denied("job-io-uring", "the process holds an io_uring: start the job without it")
                if target.startswith("socket:"):
                    _judge(pidfd, number)
                    seen.add(target)
            for thread in os.listdir(f"/proc/{pid}/task"):
                for target in _descriptors(f"/proc/{pid}/task/{thread}/fd").values():
                    if target not in seen and target.startswith(("socket:", "anon_inode:[io_uring]")):
                        raise Denied("job-sockets", "a thread of the process has descriptors of its own")
        finally:
            os.close(pidfd)
    except OSError as error:
        raise EnvironmentFailed("job-process", f"process {pid} cannot be inspected: {error.strerror}") from None


def _descriptors(folder: str) -> dict[int, str]:
    found = {}
    for name in os.listdir(folder):
        try:
            found[int(name)] = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


def _judge(pidfd: int, number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(ctypes.c_long(_PIDFD_GETFD), ctypes.c_long(pidfd), ctypes.c_long(number), ctypes.c_long(0))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(fileno=fd) as sock:
        domain = sock.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
    if domain not in _HARMLESS:
        raise Denied(
            "job-sockets",
            f"descriptor {number} of the process is a network socket from outside the job",
            "close it before the job starts",
        )
