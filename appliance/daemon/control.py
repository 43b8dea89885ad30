"""The control process: jobs, policy, the audit log, the admin API. No capability, no secret."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import uvloop

from appliance.audit.committer import Committer
from appliance.audit.log import open_log
from appliance.config.places import Accounts, Places, accounts, group_of
from appliance.config.schema import Config
from appliance.control.admin import admin_server, bind_admin, bind_metrics, metrics_server
from appliance.control.api import Api, Parts
from appliance.control.checking import check_policy
from appliance.control.explaining import explain_policy
from appliance.control.flows import Flows
from appliance.control.jobs import Jobs
from appliance.control.neighbours import Kernel, Vault
from appliance.control.overview import Overview
from appliance.control.peers import Doors
from appliance.control.policy_files import PolicyFiles
from appliance.control.rights import Rights
from appliance.control.service import ControlService
from appliance.daemon import sandbox
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import SignedHead
from appliance.ipc.server import IpcServer
from appliance.metrics import names
from appliance.metrics.merge import Merged
from appliance.metrics.tally import Tally
from appliance.model.errors import EnvironmentFailed
from appliance.model.record import Record, ServiceEvent

log = structlog.get_logger()

_VAULT_PATIENCE = 15.0  # seconds that a start waits for the vault, which is started at the same time


@dataclass(frozen=True)
class _Bound:
    """What only root may make: bound before the rights go, listened on after."""

    admin: socket.socket
    metrics: socket.socket | None


def run(config: Config, ready: Callable[[], None]) -> None:
    """Runs until SIGTERM or SIGINT; `ready` is called once control.sock and the admin socket are served.

    Raises EnvironmentFailed if the audit log does not continue what the vault signed last, cannot be written, the
    vault cannot be reached, or no policy that is whole can be loaded; ValueError for accounts that cannot be used.
    """
    places, who = Places(config), accounts(config)
    os.umask(0o077)
    _make_folders(places, who)
    listen = config.metrics.listen
    bound = _Bound(bind_admin(places.admin_socket), bind_metrics(listen) if listen else None)
    sandbox.enter(who.control, group_of(who.control))
    uvloop.run(_run(config, places, who, bound, ready))


def _make_folders(places: Places, who: Accounts) -> None:
    """Where nobody has made them yet. Run as root they belong to control; the log's folder is nobody else's."""
    for folder, mode in ((places.control_state, 0o700), (Path(places.control_socket).parent, 0o755)):
        for above in reversed(folder.parents):
            if not above.exists():
                above.mkdir()
                above.chmod(0o755)
        if not folder.exists():
            folder.mkdir()
            folder.chmod(mode)
            if os.geteuid() == 0:
                os.chown(folder, who.control, group_of(who.control))
    if not places.record_pipes.exists():
        places.record_pipes.mkdir(0o700)
        if os.geteuid() == 0:
            os.chown(places.record_pipes, who.control, group_of(who.proxy))
        places.record_pipes.chmod(0o2710)  # what is made in it is the workers' group's, too; they cannot list it


async def _run(config: Config, places: Places, who: Accounts, bound: _Bound, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        vault_client = IpcClient("vault", places.vault_socket, who.vault)
        kernel_client = IpcClient("kernel", places.kernel_socket, who.kernel)
        stack.push_async_callback(vault_client.close)
        stack.push_async_callback(kernel_client.close)
        vault, kernel = Vault(vault_client), Kernel(kernel_client)
        committer = await _open_audit(config, places, vault)
        stack.push_async_callback(committer.stop)
        tasks = await _serve(config, places, who, bound, kernel, vault, committer, stack)
        ready()
        await _until(stop, tasks)
        _say(committer, "stopped")


async def _open_audit(config: Config, places: Places, vault: Vault) -> Committer:
    last = await _last_head(vault)
    audit_log = open_log(places.audit_log, last)
    committer = Committer(
        audit_log,
        vault.sign_head,
        time.time,
        checkpoint_records=config.audit.checkpoint_records,
        checkpoint_interval=config.audit.checkpoint_interval,
        trouble=lambda what: log.error("control.audit", detail=what),
    )
    committer.start(last)
    detail = f"cut off {audit_log.repaired} bytes of an unfinished line" if audit_log.repaired else ""
    _say(committer, "started", detail)
    return committer


async def _last_head(vault: Vault) -> SignedHead | None:
    until = time.monotonic() + _VAULT_PATIENCE
    while True:
        try:
            return await vault.last_head()
        except EnvironmentFailed:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


async def _serve(
    config: Config,
    places: Places,
    who: Accounts,
    bound: _Bound,
    kernel: Kernel,
    vault: Vault,
    committer: Committer,
    stack: AsyncExitStack,
) -> list[Coroutine[None, None, None]]:
    """Starts everything that serves; `stack` stops it. Returns what is to run beside it."""
    flows, merged, tally = Flows(), Merged(), Tally("control")

    async def record(what: Record) -> int:
        last = committer.record(what)
        flows.observe([what])
        return last

    def reloaded(ok: bool) -> None:
        tally.counter(names.POLICY_RELOADS, "ok" if ok else "refused").inc()

    policy = PolicyFiles(Path(config.policy_dir), partial(check_policy, config), record, time.time, reloaded)
    status = await policy.reload()
    if not status.ok:
        raise EnvironmentFailed("policy", status.error)
    jobs = Jobs(
        kernel,
        vault,
        record,
        root=config.govern.root,
        clock=time.time,
        random=os.urandom,
        trouble=lambda what: log.warning("control.jobs", detail=what),
    )
    stack.push_async_callback(jobs.stop)
    overview = Overview(kernel, vault, jobs, policy, committer, merged, tally, time.monotonic, time.time)
    server = IpcServer(lambda method, error: log.error("control.bug", method=method, exc_info=error))
    service = ControlService(
        who,
        committer,
        flows,
        policy,
        merged,
        tally,
        time.monotonic,
        places.record_pipes,
        lambda what: log.error("control.records", detail=what),
    )
    service.start(server)
    stack.callback(service.stop)
    await server.start(places.control_socket, mode=0o666)  # rights are judged by peer credentials
    stack.push_async_callback(server.stop)
    parts = Parts(
        rights=Rights(kernel, who.group),
        jobs=jobs,
        vault=vault,
        flows=flows,
        policy=policy,
        explain=partial(explain_policy, config),
        committer=committer,
        overview=overview,
        wall=time.time,
        socket=places.admin_socket,
        bug=lambda where, error: log.error("control.bug", method=where, exc_info=error),
    )
    admin = admin_server(Api(parts).app(), bound.admin, Doors())
    await admin.start()
    stack.push_async_callback(admin.stop)
    if bound.metrics is not None:
        scraped = metrics_server(overview.families, bound.metrics)
        await scraped.start()
        stack.push_async_callback(scraped.stop)
    return [jobs.watch()]


async def _until(stop: asyncio.Event, background: list[Coroutine[None, None, None]]) -> None:
    """Waits for the signal. A background task that ends by itself is a bug and ends the process."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(each) for each in background]
    stopping = loop.create_task(stop.wait())
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, *tasks):
        if task.done() and not task.cancelled():
            task.result()
        task.cancel()


def _say(committer: Committer, event: str, detail: str = "") -> None:
    committer.record(ServiceEvent(time.time(), "control", event, detail))
