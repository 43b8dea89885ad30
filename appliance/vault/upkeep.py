"""What the vault does unasked: looks after sources, ended jobs, old placeholders, the authority and the trust files.

Nothing here decides about traffic, so a round that fails is told to the log and done again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from appliance.config.places import Places
from appliance.ipc.client import IpcClient
from appliance.metrics import names
from appliance.metrics.tally import Tally
from appliance.model.errors import CoatcheckError
from appliance.vault.authority import Authority
from appliance.vault.cloakroom import Cloakroom
from appliance.vault.kernel import Kernel
from appliance.vault.placeholders import Registry
from appliance.vault.trust_files import publish, system_roots

ROUND = 30.0  # seconds
_CHECK_EVERY = 60.0  # seconds between two questions to one source; more if its value may be cached longer
_SETTLED = 60.0  # seconds: a job that was granted placeholders so long ago and is not there has ended
_REPORT = 1.0  # seconds between two reports of metrics

Tell = Callable[[str, str], None]  # an event's name and one sentence for the log


class Upkeep:
    def __init__(
        self,
        places: Places,
        authority: Authority,
        cloakroom: Cloakroom,
        registry: Registry,
        kernel: Kernel,
        now: Callable[[], float],
        tell: Tell,
    ) -> None:
        self._places = places
        self._authority = authority
        self._cloakroom = cloakroom
        self._registry = registry
        self._kernel = kernel
        self._now = now
        self._tell = tell
        self._published = b""

    def publish(self) -> None:
        """Writes the files by which jobs trust the authority, if they would be other than those written last.

        Raises EnvironmentFailed.
        """
        roots = system_roots()
        content = self._authority.pem().encode() + roots
        if content != self._published:
            left_out = publish(self._places, self._authority.pem(), roots)
            self._published = content
            if left_out:
                self._tell("trust.java", f"{left_out} of the system's roots cannot be parsed: Java jobs lack them")

    async def run(self, tally: Tally) -> None:
        """Round after round until cancelled."""
        while True:
            for step in (self._check_sources, self._end_jobs, self._sweep, self._renew):
                try:
                    await step()
                except CoatcheckError as error:
                    tally.counter(names.ENVIRONMENT_ERRORS, getattr(error, "code", "other")).inc()
                    self._tell("upkeep", str(error))
            await asyncio.sleep(ROUND)

    async def _check_sources(self) -> None:
        for name in await self._cloakroom.check_sources(_CHECK_EVERY):
            self._tell("secret", f"{name}: {self._cloakroom.states()[name]}")

    async def _end_jobs(self) -> None:
        """Revokes what belongs to jobs that ended while we or control were not there."""
        candidates = self._registry.jobs(self._now() - _SETTLED)
        if candidates:
            alive = await self._kernel.jobs()
            for job in candidates:
                if job not in alive:
                    await self._registry.forget_job(job, self._now())

    async def _sweep(self) -> None:
        await self._registry.sweep(self._now())

    async def _renew(self) -> None:
        if self._authority.renew():
            self._tell("authority", "the host's authority is near its end: its successor is made or signs now")
        self.publish()


async def report(control: IpcClient, tally: Tally) -> None:
    """Pushes the totals to control, until cancelled. Control may be away: the next push has all."""
    while True:
        await asyncio.sleep(_REPORT)
        try:
            await control.call("metrics", tally.export())
        except CoatcheckError:
            pass  # control says itself that it is away; the totals are absolute
