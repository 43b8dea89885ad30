"""What the vault asks of the kernel process: who a flow belongs to, and which jobs there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Attested, JobInfo
from appliance.model.facts import ProcessFacts
from appliance.model.ids import JobId

_JOBS_LIFE = 1.0  # seconds that a list of jobs is believed: a token is renewed at most so long after its job's end


class Kernel:
    """`clock` counts seconds and never goes back."""

    def __init__(self, client: IpcClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._jobs: dict[JobId, JobInfo] = {}
        self._until = 0.0
        self._asking: asyncio.Task[dict[JobId, JobInfo]] | None = None

    async def attest(self, flow_key: bytes) -> Attested:
        """Raises Denied if the flow cannot be attested, EnvironmentFailed if the kernel process is gone."""
        attested: Attested = await self._client.call("attest", flow_key, result=Attested)
        return attested

    async def attest_pid(self, pid: int) -> ProcessFacts:
        """Raises as `attest`."""
        facts: ProcessFacts = await self._client.call("attest_pid", pid, result=ProcessFacts)
        return facts

    async def job(self, job: JobId) -> JobInfo | None:
        """That job, or None if it has ended. One that began just now is found too. Raises EnvironmentFailed."""
        found = (await self.jobs()).get(job)
        if found is None:
            self._until = 0.0
            found = (await self.jobs()).get(job)
        return found

    async def jobs(self) -> dict[JobId, JobInfo]:
        """The jobs there are, at most `_JOBS_LIFE` old. Raises EnvironmentFailed."""
        if self._until > self._clock():
            return self._jobs
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    async def _ask(self) -> dict[JobId, JobInfo]:
        asked = self._clock()
        found: list[JobInfo] = await self._client.call("jobs", result=list[JobInfo])
        self._jobs = {info.job: info for info in found}
        self._until = asked + _JOBS_LIFE
        return self._jobs

    def _asked(self, task: asyncio.Task[dict[JobId, JobInfo]]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # whoever waited was told
