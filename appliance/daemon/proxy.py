"""The proxy process: parses hostile bytes, holds no capability, keeps no secret longer than its use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvloop

from appliance.config.places import accounts, group_of
from appliance.config.schema import Config
from appliance.daemon import inherit, sandbox
from appliance.proxy.siblings import Siblings
from appliance.proxy.worker import work

SOCKETS = ("proxy4", "proxy6", "dns4", "dns6")
_OWN, _OTHER = "from-siblings-", "to-sibling-"  # and the number of the worker that reads there


def sibling_sockets(workers: int) -> dict[str, socket.socket]:
    """A pair for each worker: it reads from one end, all others write to the other."""
    sockets: dict[str, socket.socket] = {}
    for worker in range(workers) if workers > 1 else ():
        sockets[f"{_OWN}{worker}"], sockets[f"{_OTHER}{worker}"] = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
    return sockets


def is_for(name: str, worker: int) -> bool:
    """Whether a worker inherits the socket of that name."""
    if name.startswith(_OWN):
        return name == f"{_OWN}{worker}"
    return name != f"{_OTHER}{worker}"


def run(config: Config, ready: Callable[[], None], worker: int) -> None:
    """Runs worker number `worker` until SIGTERM; `ready` is called once it takes connections.

    Raises EnvironmentFailed if something that it needs is missing.
    """
    who = accounts(config)
    listening = {name: sock for name in SOCKETS if (sock := inherit.take(name)) is not None}
    others = [inherit.take(f"{_OTHER}{number}") for number in range(config.processes.workers) if number != worker]
    siblings = Siblings(inherit.take(f"{_OWN}{worker}"), [sock for sock in others if sock is not None])
    sandbox.enter(who.proxy, group_of(who.proxy))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(config, who, worker, listening, siblings, ready))
