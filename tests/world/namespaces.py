"""Two network namespaces joined by a veth pair that is born inside them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Literal, TypeVar

Where = Literal["host", "outside"]
T = TypeVar("T")

HOST4, OUTSIDE4 = "10.77.0.1", "10.77.0.2"
HOST6, OUTSIDE6 = "fd77::1", "fd77::2"
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> str:
    """Runs ip(8). Raises RuntimeError with what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Namespaces:
    """Makes both at once; `remove()` may be called at any stage and more than once."""

    def __init__(self, unique: str) -> None:
        self.names: dict[Where, str] = {"host": f"{unique}-host", "outside": f"{unique}-out"}

    def make(self) -> None:
        host, outside = self.names["host"], self.names["outside"]
        for name in (host, outside):
            ip("netns", "add", name)
        ip("-n", host, "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", outside)
        for name, link, four, six in ((host, "v0", HOST4, HOST6), (outside, "v1", OUTSIDE4, OUTSIDE6)):
            commands = (
                "link set lo up",
                f"addr add {four}/24 dev {link}",
                f"addr add {six}/64 dev {link} nodad",
                f"link set {link} up",
            )
            self._batch(name, commands)
        # what is neither namespace's own goes to the other end, so that an escape would be seen there
        self._batch(host, (f"route add default via {OUTSIDE4}", f"-6 route add default via {OUTSIDE6}"))

    def remove(self) -> None:
        for name in self.names.values():
            if os.path.exists(f"/run/netns/{name}"):
                ip("netns", "del", name)

    def path(self, where: Where) -> str:
        return f"/run/netns/{self.names[where]}"

    def inside(self, where: Where, function: Callable[[], T]) -> T:
        """Calls `function` on a thread that is in the namespace; sockets made there stay there for good."""
        result: list[T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                fd = os.open(self.path(where), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(fd, _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns to {self.path(where)}")
                finally:
                    os.close(fd)
                result.append(function())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    @staticmethod
    def _batch(name: str, commands: tuple[str, ...]) -> None:
        for command in commands:
            ip("-n", name, *command.split())
