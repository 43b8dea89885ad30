"""The proxy process: parses hostile bytes, holds no capability, keeps no secret longer than its use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop

from appliance.config.places import accounts, group_of
from appliance.config.schema import Config
from appliance.daemon import inherit, sandbox
from appliance.proxy.worker import work

SOCKETS = ("proxy4", "proxy6", "dns4", "dns6")


def run(config: Config, ready: Callable[[], None], worker: int) -> None:
    """Runs worker number `worker` until SIGTERM; `ready` is called once it takes connections.

    Raises EnvironmentFailed if something that it needs is missing.
    """
    who = accounts(config)
    listening = {name: sock for name in SOCKETS if (sock := inherit.take(name)) is not None}
    sandbox.enter(who.proxy, group_of(who.proxy))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(config, who, worker, listening, ready))
