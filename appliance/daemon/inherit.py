"""Sockets that were bound by whoever started us: the supervisor, or systemd (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

VARIABLE = "COATCHECK_FDS"  # "name:number,name:number"
_FIRST = 3  # SD_LISTEN_FDS_START


def variable_of(sockets: dict[str, socket.socket]) -> str:
    """The variable's value for a child that is passed these sockets."""
    return ",".join(f"{name}:{sock.fileno()}" for name, sock in sockets.items())


def take(name: str) -> socket.socket | None:
    """The inherited socket of this name, non-blocking and not inherited further; None if there is none."""
    number = _numbers().get(name)
    if number is None:
        return None
    sock = socket.socket(fileno=number)
    sock.setblocking(False)
    os.set_inheritable(number, False)
    return sock


def _numbers() -> dict[str, int]:
    ours = os.environ.get(VARIABLE)
    if ours:
        return {name: int(number) for name, _, number in (each.partition(":") for each in ours.split(","))}
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return {name: _FIRST + index for index, name in enumerate(names[: int(os.environ.get("LISTEN_FDS", "0"))])}
