"""One proxy worker, put together and run."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable

import structlog

from appliance.attest.flowmap import FlowMap, netns_cookie
from appliance.attest.peer_socket import PeerSockets
from appliance.attest.seen import Address
from appliance.config.places import Accounts, Places
from appliance.config.schema import Config
from appliance.ipc import handover
from appliance.ipc.client import IpcClient
from appliance.model.errors import CoatcheckError, InternalError
from appliance.model.record import Refused
from appliance.proxy.asker import Askers
from appliance.proxy.certificates import Leaves, upstream_context
from appliance.proxy.channel import Buffers
from appliance.proxy.forwarder import Forwarder
from appliance.proxy.identities import Identities
from appliance.proxy.leases import Leases
from appliance.proxy.listener import Listener
from appliance.proxy.policy_watch import first_policy, watch_policy
from appliance.proxy.recorder import Recorder
from appliance.proxy.services import Services
from appliance.proxy.siblings import Siblings
from appliance.proxy.spine import Spine
from appliance.proxy.tally import ProxyTally
from appliance.proxy.upstream import Upstreams
from appliance.wire.http1 import Sections

log = structlog.get_logger()

_GRACE = 5.0  # seconds that flows under way have after SIGTERM
_SWEEP = 1.0  # seconds


async def work(
    config: Config,
    accounts: Accounts,
    worker: int,
    listening: dict[str, socket.socket],
    siblings: Siblings,
    ready: Callable[[], None],
) -> None:
    """Serves until SIGTERM. `listening`: the sockets proxy4, proxy6 (TCP), dns4, dns6 (UDP), as far as the host has the
    protocol. Calls `ready` once connections are taken.

    Raises EnvironmentFailed if one of the other processes cannot be reached at the start.
    """
    places = Places(config)
    vault = IpcClient("vault", places.vault_socket, accounts.vault)
    control = IpcClient("control", places.control_socket, accounts.control)
    flow_map = FlowMap(handover.receive(places.handover_socket, accounts.kernel)["flows"])
    buffers, netns, tally = Buffers(), netns_cookie(), ProxyTally(worker)
    in_force = await first_policy(control)
    identities, recorder = Identities(vault), Recorder(control)
    askers = Askers(flow_map, netns, identities, in_force, recorder, tally)
    names = Forwarder(config.dns, askers.judge, askers.allowed, on_answer=askers.record, siblings=siblings)
    services = Services(
        config=config,
        buffers=buffers,
        policy=in_force,
        identities=identities,
        leases=Leases(vault),
        leaves=Leaves(vault),
        upstreams=Upstreams(buffers, upstream_context(config.tls, "http/1.1"), config.limits, tally.dialled),
        names=names,
        recorder=recorder,
        tally=tally,
        sections=Sections(),
        siblings=siblings,
    )
    spine = Spine(services, flow_map, PeerSockets(), netns)

    def too_many() -> None:
        tally.not_opened("flows")
        recorder.put(Refused(time=time.time(), reason="flows", detail="limits.flows connections are open"))

    async def serve(sock: socket.socket, peer: Address, local: Address) -> None:
        await spine.serve(sock, peer, local)

    listeners = [
        Listener(listening[n], serve, config.limits.flows, too_many) for n in ("proxy4", "proxy6") if n in listening
    ]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await names.start([listening[n] for n in ("dns4", "dns6") if n in listening])
    tasks = [
        loop.create_task(watch_policy(control, in_force)),
        loop.create_task(_sweep(services, spine)),
        loop.create_task(_report(control, tally)),
    ]
    siblings.listen(services.heard)
    for listener in listeners:
        listener.start()
    await _tell(control, tally)  # so that whoever asks for the status from here on finds us
    ready()
    stopping = loop.create_task(stop.wait())
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in tasks if task.done()]
    await asyncio.gather(*(listener.stop(_GRACE) for listener in listeners))
    for task in [stopping, *tasks]:
        task.cancel()
    siblings.close()
    await names.stop()
    services.upstreams.close()
    await recorder.drain()
    recorder.close()
    if ended:
        raise InternalError(f"a task of the worker ended: {ended[0]!r}")


async def _sweep(services: Services, spine: Spine) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP)
        spine.sweep(loop.time())
        services.upstreams.sweep()
        services.leases.sweep()


async def _report(control: IpcClient, tally: ProxyTally) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        await _tell(control, tally)


async def _tell(control: IpcClient, tally: ProxyTally) -> None:
    try:
        await control.call("metrics", tally.export())
    except CoatcheckError as error:
        log.warning("metrics.report", error=str(error))
