"""The methods of kernel.sock: what the other three processes may ask."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.attest.flowmap import FlowMap
from appliance.attest.layouts import parse_question, parse_record
from appliance.attest.process import Attestor, JobOfProcess
from appliance.attest.procfs import parse_cgroup
from appliance.config.places import Accounts
from appliance.ipc.messages import Attested, EventBatch, JobCreate, JobCreated, JobInfo, KernelState
from appliance.ipc.server import IpcServer, Peer
from appliance.kernel.cgroups import CgroupTree
from appliance.kernel.events import Events
from appliance.kernel.hooks import Hooks
from appliance.kernel.jobs import Jobs
from appliance.model.errors import Denied
from appliance.model.facts import ProcessFacts
from appliance.model.ids import JobId

_NO_RECORD = "no governed process made this connection, or it has ended"


class KernelService:
    """Holds what the methods need; `register` names them, with the accounts that may call each."""

    def __init__(self, hooks: Hooks, tree: CgroupTree, jobs: Jobs, events: Events) -> None:
        self._hooks, self._tree, self._jobs, self._events = hooks, tree, jobs, events
        self._flows = FlowMap(hooks.flows_fd)
        self._attestor = Attestor(tree.path_of)
        self._counted = {"attested": 0, "attested-incomplete": 0, "attest-denied": 0}

    def close(self) -> None:
        self._attestor.close()

    def register(self, server: IpcServer, who: Accounts) -> None:
        vault, control = frozenset({who.vault, who.kernel}), frozenset({who.control, who.kernel})
        both = vault | control
        server.method("attest", bytes, self.attest, vault)
        server.method("attest_pid", int, self.attest_pid, both)
        server.method("job_create", JobCreate, self.job_create, control)
        server.method("job_end", JobId, self.job_end, control)
        server.method("jobs", None, self.jobs, both)
        server.method("next_events", int, self.next_events, control)
        server.method("counters", None, self.counters, control)
        server.method("state", None, self.state, control)

    async def attest(self, _: Peer, asked: bytes) -> Attested:
        """Who made the connection of this `attest.layouts.question`. Denied: no-record, foreign-socket, no-job."""
        try:
            attested = await self._attest(*parse_question(asked))
        except Denied:
            self._counted["attest-denied"] += 1
            raise
        self._counted["attested" if attested.facts.complete else "attested-incomplete"] += 1
        return attested

    async def _attest(self, cookie: int, key: bytes) -> Attested:
        value = self._flows.lookup(key)
        record = parse_record(value) if value is not None else None
        if record is None or record.cookie != cookie:
            raise Denied("no-record", _NO_RECORD)
        if not record.task_job or record.task_job != record.socket_job:
            raise Denied("foreign-socket", "the socket was made in another job than the process that connected it")
        job = self._jobs.info(record.task_job)
        if job is None:
            raise Denied("no-job", "the job of the process has ended")
        facts = await self._attestor.of_record(record, _job_of(job))
        return Attested(record, facts)

    async def attest_pid(self, _: Peer, pid: int) -> ProcessFacts:
        """The facts of a process in a job. Denied: no-job, no-facts."""
        try:
            path = parse_cgroup(Path(f"/proc/{pid}/cgroup").read_bytes())
            job = self._jobs.of_path(path)
            if job is None:
                raise Denied("no-job", f"process {pid} is in no job")
            cgroup_id = self._tree.id_of(path)
        except OSError:
            raise Denied("no-facts", f"process {pid} ended while it was looked at") from None
        return await self._attestor.of_pid(pid, cgroup_id, _job_of(job))

    async def job_create(self, _: Peer, ask: JobCreate) -> JobCreated:
        return self._jobs.create(ask)

    async def job_end(self, _: Peer, job: JobId) -> None:
        await self._jobs.end(job)

    async def jobs(self, _: Peer, __: None) -> list[JobInfo]:
        return self._jobs.infos()

    async def next_events(self, _: Peer, after: int) -> EventBatch:
        return await self._events.after(after)

    async def counters(self, _: Peer, __: None) -> dict[str, int]:
        return {**self._hooks.counted(), **self._counted, "govern-failed": self._jobs.failures}

    async def state(self, _: Peer, __: None) -> KernelState:
        counted = self._hooks.counted()
        return KernelState(
            kernel=os.uname().release,
            cgroup_mount=str(self._tree.mount),
            governed=tuple(sorted(self._jobs.governed.values())),
            hooks=self._hooks.names,
            missing_hooks=(),
            flows=max(0, counted["flow-written"] - counted["flow-removed"]),
        )


def _job_of(info: JobInfo) -> JobOfProcess:
    return JobOfProcess(info.job, info.label, info.launched_uid)
