"""Who is on the other end: from the kernel's record of a connection to a signed identity token.

The vault asks the kernel process itself (a proxy that was taken over cannot make up facts) and signs. Here the
token is kept for the process that it was made for, known by pid, start time, executable, uid, gid and cgroup,
and renewed in time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from appliance.ipc.client import IpcClient
from appliance.model.errors import Denied
from appliance.model.identity import Identity

ProcessKey = tuple[int, int, int, int, int, int, int]

RENEW_BEFORE = 60.0  # seconds before a token's end
_MOST = 8192  # processes remembered by a worker


class Identities:
    def __init__(self, vault: IpcClient) -> None:
        self._vault = vault
        self._known: OrderedDict[ProcessKey, Identity] = OrderedDict()
        self._asking: dict[ProcessKey, asyncio.Task[Identity]] = {}

    async def identify(self, process: ProcessKey, question: bytes) -> Identity:
        """The identity of the process, asked by one of its connections (`attest.layouts.question`).

        Raises Denied if it cannot be attested or no workload matches, EnvironmentFailed if kernel or vault is gone.
        """
        while True:
            known = self._known.get(process)
            if known is not None and known.claims.exp - RENEW_BEFORE > time.time():
                self._known.move_to_end(process)
                return known
            asking = self._asking.get(process)
            if asking is None or asking.done():
                return await self._once(process, lambda: self._vault.call("identify", question, result=Identity))
            try:
                return await asyncio.shield(asking)
            except Denied as error:
                if error.rule != "no-record":
                    raise
                # the process has closed the connection that was asked by: that says nothing about this one

    async def renewed(self, process: ProcessKey, identity: Identity) -> Identity:
        """`identity`, or the same one with a later end if that is near. Raises as `identify`."""
        if identity.claims.exp - RENEW_BEFORE > time.time():
            return identity
        known = self._known.get(process)
        if known is not None and known.claims.exp - RENEW_BEFORE > time.time():
            return known
        return await self._once(process, lambda: self._vault.call("renew", identity.token, result=Identity))

    def forget(self, process: ProcessKey) -> None:
        self._known.pop(process, None)

    async def _once(self, process: ProcessKey, ask: Callable[[], Awaitable[Identity]]) -> Identity:
        """One question at a time for one process, whoever else waits for the answer."""
        task = self._asking.get(process)
        if task is None or task.done():
            task = asyncio.ensure_future(self._keep(process, ask))
            self._asking[process] = task
            task.add_done_callback(lambda done: self._asked(process, done))
        return await asyncio.shield(task)

    def _asked(self, process: ProcessKey, task: asyncio.Task[Identity]) -> None:
        if self._asking.get(process) is task:
            del self._asking[process]

    async def _keep(self, process: ProcessKey, ask: Callable[[], Awaitable[Identity]]) -> Identity:
        identity = await ask()
        self._known[process] = identity
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return identity
