"""Saying "ready" and the like to whoever started us: the supervisor by a pipe, systemd by sd_notify(3)."""

from __future__ import annotations

import ctypes
import os
import signal
import socket

READY_FD = "COATCHECK_READY_FD"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent() -> None:
    """A child of the supervisor does not outlive it. A change of uid undoes this, so it is done again at `ready`."""
    if READY_FD in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def ready() -> None:
    """Tells whoever started us, once, that we serve."""
    die_with_parent()
    number = os.environ.pop(READY_FD, "")
    if number:
        os.write(int(number), b"ready\n")
        os.close(int(number))
    else:
        tell("READY=1")


def tell(state: str) -> None:
    """sd_notify(3): nothing happens where systemd does not listen."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            pass  # systemd's own time limit speaks for us
