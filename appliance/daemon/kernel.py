"""The kernel process: loads the hooks, serves kernel.sock and handover.sock.

It starts with every right of root, to mount the bpffs, and goes on with those in KEEP.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import structlog
import uvloop

from appliance.attest.flowmap import netns_cookie
from appliance.config.places import Accounts, Places, accounts
from appliance.config.schema import Config
from appliance.daemon import sandbox
from appliance.ipc import handover
from appliance.ipc.server import IpcServer
from appliance.kernel import pins
from appliance.kernel.cgroups import CgroupTree, cgroup2_mount
from appliance.kernel.events import Events
from appliance.kernel.hooks import Hooks
from appliance.kernel.jobs import Jobs
from appliance.kernel.service import KernelService

log = structlog.get_logger()

# What is done after the start: BPF loads and attaches (also of cgroups that appear), /proc of any process, executables
# of any owner, cgroups by id. Cgroup files belong to root: uid 0 needs no capability to write them.
KEEP = frozenset({"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"})


def run(config: Config, ready: Callable[[], None]) -> None:
    """Runs until SIGTERM or SIGINT; what is governed stays governed. `ready` is called once traffic is governed and
    the sockets are served. Raises EnvironmentFailed if that cannot be had, ValueError for bad accounts."""
    uvloop.run(_run(config, ready))


async def _run(config: Config, ready: Callable[[], None]) -> None:
    places, who = Places(config), accounts(config)
    tree = CgroupTree(cgroup2_mount())
    pins.mount(places.pins)
    Path(places.kernel_socket).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    sandbox.enter(who.kernel, 0, KEEP)
    hooks = Hooks(places.pins, netns_cookie(), config.listen.proxy_port, config.listen.dns_port)
    events = Events()
    jobs = Jobs(hooks, tree, config.govern, events, lambda event, detail: log.error(event, detail=detail))
    jobs.start()
    asyncio.get_running_loop().add_reader(jobs.watch.fd, jobs.watch.ready)
    service = KernelService(hooks, tree, jobs, events)
    try:
        await _serve(places, who, hooks, service, ready)
    finally:
        asyncio.get_running_loop().remove_reader(jobs.watch.fd)
        service.close()
        jobs.watch.close()
        hooks.close()
        tree.close()


async def _serve(
    places: Places, who: Accounts, hooks: Hooks, service: KernelService, ready: Callable[[], None]
) -> None:
    server = IpcServer(lambda method, error: log.error("kernel.bug", method=method, exc_info=error))
    service.register(server, who)
    await server.start(places.kernel_socket, mode=0o666)  # rights are judged by peer credentials
    flows = hooks.open_flows_read_only()
    giving = handover.serve(places.handover_socket, {"flows": flows}, frozenset({who.proxy}))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ready()
    await stop.wait()
    asyncio.get_running_loop().remove_reader(giving.fileno())
    giving.close()
    os.close(flows)
    await server.stop()
