"""The calls that control makes to the kernel process and the vault, typed."""

from __future__ import annotations

from typing import Any

from appliance.ipc.client import IpcClient
from appliance.ipc.messages import (
    EventBatch,
    GrantAsk,
    Granted,
    Head,
    JobCreate,
    JobCreated,
    JobInfo,
    KernelState,
    MintAsk,
    SignedHead,
    VaultStatus,
)
from appliance.model.facts import ProcessFacts
from appliance.model.identity import Identity
from appliance.model.ids import JobId

_LONG_POLL = 30.0  # seconds: the other end answers within 20


class Kernel:
    """Every method raises what the kernel process answers, EnvironmentFailed if it cannot be reached."""

    def __init__(self, client: IpcClient) -> None:
        self._client = client

    async def attest_pid(self, pid: int) -> ProcessFacts:
        facts: ProcessFacts = await self._client.call("attest_pid", pid, result=ProcessFacts)
        return facts

    async def job_create(self, ask: JobCreate) -> JobCreated:
        made: JobCreated = await self._client.call("job_create", ask, result=JobCreated)
        return made

    async def job_end(self, job: JobId) -> None:
        await self._client.call("job_end", job)

    async def jobs(self) -> list[JobInfo]:
        found: list[JobInfo] = await self._client.call("jobs", result=list[JobInfo])
        return found

    async def next_events(self, after: int) -> EventBatch:
        batch: EventBatch = await self._client.call("next_events", after, result=EventBatch, timeout=_LONG_POLL)
        return batch

    async def counters(self) -> dict[str, int]:
        counted: dict[str, int] = await self._client.call("counters", result=dict[str, int], timeout=3.0)
        return counted

    async def state(self) -> KernelState:
        state: KernelState = await self._client.call("state", result=KernelState, timeout=3.0)
        return state


class Vault:
    """Every method raises what the vault answers, EnvironmentFailed if it cannot be reached."""

    def __init__(self, client: IpcClient) -> None:
        self._client = client

    async def identify_pid(self, pid: int) -> Identity:
        identity: Identity = await self._client.call("identify_pid", pid, result=Identity)
        return identity

    async def grant(self, job: JobId, label: str) -> list[Granted]:
        granted: list[Granted] = await self._client.call("grant", GrantAsk(job, label), result=list[Granted])
        return granted

    async def mint(self, ask: MintAsk) -> str:
        """The placeholder's text: for the asking job's process and nowhere else."""
        text: str = await self._client.call("mint", ask, result=str)
        return text

    async def forget_job(self, job: JobId) -> None:
        await self._client.call("forget_job", job)

    async def jwks(self) -> dict[str, Any]:
        keys: dict[str, Any] = await self._client.call("jwks", result=dict[str, Any])
        return keys

    async def sign_head(self, head: Head) -> SignedHead:
        signed: SignedHead = await self._client.call("sign_head", head, result=SignedHead)
        return signed

    async def last_head(self) -> SignedHead | None:
        last: SignedHead | None = await self._client.call("last_head", result=SignedHead | None)
        return last

    async def status(self) -> VaultStatus:
        status: VaultStatus = await self._client.call("status", result=VaultStatus, timeout=3.0)
        return status
