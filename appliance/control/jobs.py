"""Jobs: started for a caller, noticed where a governed cgroup appears, ended when their main process is gone.

A start is: the vault makes the placeholders, the record is written, the kernel process makes the cgroup and moves
the caller in. If a step fails, what was made before is undone, and the caller is where it was.

LIMITS. After a restart of control, jobs that were there are watched by their cgroup alone: they end when it is
empty, not when the main process exits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from msgspec import Struct

from appliance.control.neighbours import Kernel, Vault
from appliance.control.peers import has_exited
from appliance.ipc.messages import Granted, JobCreate, JobEvent, JobInfo
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, PeerError
from appliance.model.ids import JobId
from appliance.model.record import JobEnded, JobStarted, Record

MOST_JOBS = 4_000
MOST_JOBS_PER_UID = 500
_RETRY = 1.0  # seconds


class JobView(Struct):
    """One job as `GET /jobs` shows it. `pid` 0: not known."""

    job: JobId
    label: str
    uid: int  # who started it; -1 for a governed cgroup
    pid: int
    cgroup: str
    managed: bool
    started: float  # seconds since the epoch; 0.0: before control was
    secrets: tuple[str, ...] = ()
    state: str = "running"  # starting, running, ending


class _Job:
    __slots__ = ("ending", "maybe_made", "pidfd", "view")

    def __init__(self, view: JobView) -> None:
        self.view = view
        self.pidfd = -1
        self.maybe_made = False  # the kernel process was asked to make it, and did not say that it failed
        self.ending: asyncio.Task[None] | None = None


class Jobs:
    """`record` writes to the audit log, `clock` is seconds since the epoch, `trouble` gets a sentence for the log."""

    def __init__(
        self,
        kernel: Kernel,
        vault: Vault,
        record: Callable[[Record], Awaitable[object]],
        *,
        root: str,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        trouble: Callable[[str], None],
    ) -> None:
        self._kernel = kernel
        self._vault = vault
        self._record = record
        self._root = root
        self._clock = clock
        self._random = random
        self._trouble = trouble
        self._jobs: dict[JobId, _Job] = {}

    def views(self) -> list[JobView]:
        return [job.view for job in self._jobs.values()]

    def get(self, job: str) -> JobView | None:
        found = self._jobs.get(JobId(job))
        return found.view if found is not None else None

    async def start(self, pid: int, pidfd: int, uid: int, label: str) -> tuple[JobView, list[Granted]]:
        """Makes a job and moves the process in. `pidfd` stays the caller's to close; it proves that `pid` is still the
        process that asked.

        Raises Denied if there are too many, what vault or kernel process answer, EnvironmentFailed("audit") if the
        start cannot be recorded; then nothing is left of it.
        """
        mine = sum(1 for job in self._jobs.values() if job.view.uid == uid)
        if len(self._jobs) >= MOST_JOBS or mine >= MOST_JOBS_PER_UID:
            raise Denied("jobs", f"there are {len(self._jobs)} jobs, {mine} of them of uid {uid}: end some first")
        name = JobId("j-" + self._random(8).hex())
        view = JobView(name, label, uid, pid, f"/{self._root}/{name}", True, self._clock(), state="starting")
        job = self._jobs[name] = _Job(view)
        try:
            granted = await self._begin(job, pidfd)
        except BaseException:
            await asyncio.shield(self._undo(job))
            raise
        view.state = "running"
        job.pidfd = os.dup(pidfd)
        asyncio.get_running_loop().add_reader(job.pidfd, self._main_exited, job)
        return view, granted

    async def end(self, job: str, reason: str) -> None:
        """Ends a job: its processes are killed, its placeholders forgotten, its end recorded. Returns when that is
        done. Raises Denied if there is no such job."""
        found = self._jobs.get(JobId(job))
        if found is None or found.view.state == "starting":
            raise Denied("no-job", f"there is no job {job}")
        await asyncio.shield(self._ending(found, reason))

    async def watch(self) -> None:
        """Runs until cancelled: takes over what is there, then what the kernel process tells."""
        after = -1
        while True:
            try:
                if after < 0:
                    await self._take_over()
                    after = 0
                batch = await self._kernel.next_events(after)
                if batch.last < after:  # the kernel process began anew
                    after = -1
                    continue
                after = batch.last
                for event in batch.events:
                    await self._happened(event)
            except CoatcheckError as error:
                self._trouble(f"events of the kernel process: {error}")
                after = -1
                await asyncio.sleep(_RETRY)

    async def stop(self) -> None:
        """Forgets the watches. Jobs go on: their traffic stays governed, and is refused until we are back."""
        for job in self._jobs.values():
            self._unwatch(job)
            if job.ending is not None:
                job.ending.cancel()

    async def _begin(self, job: _Job, pidfd: int) -> list[Granted]:
        view = job.view
        granted = await self._vault.grant(view.job, view.label)
        view.secrets = tuple(g.secret for g in granted if not g.problem)
        await self._record(
            JobStarted(view.started, view.job, view.label, view.uid, view.pid, view.cgroup, view.secrets)
        )
        job.maybe_made = True
        try:
            made = await self._kernel.job_create(JobCreate(view.job, view.label, view.uid, view.pid))
        except (Denied, PeerError):
            job.maybe_made = False
            raise
        view.cgroup = made.cgroup
        if has_exited(pidfd):  # then `pid` may have been another process when it was moved
            raise Denied("caller-gone", "the process that asked for the job has ended")
        return granted

    async def _undo(self, job: _Job) -> None:
        self._jobs.pop(job.view.job, None)
        name = job.view.job
        ended = JobEnded(self._clock(), name, "failed to start")
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: self._vault.forget_job(name),
            lambda: self._record(ended),
        ]
        if job.maybe_made:
            steps.insert(0, lambda: self._kernel.job_end(name))
        for step in steps:
            try:
                await step()
            except CoatcheckError as error:
                self._trouble(f"undoing the start of {name}: {error}")

    def _main_exited(self, job: _Job) -> None:
        self._unwatch(job)
        self._ending(job, "main process exited")

    def _unwatch(self, job: _Job) -> None:
        if job.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(job.pidfd)
            os.close(job.pidfd)
            job.pidfd = -1

    def _ending(self, job: _Job, reason: str) -> asyncio.Task[None]:
        if job.ending is None:
            job.view.state = "ending"
            self._unwatch(job)
            job.ending = asyncio.get_running_loop().create_task(self._end(job, reason))
        return job.ending

    async def _end(self, job: _Job, reason: str) -> None:
        """Each step is tried until it is done: a job that ended keeps no process and no placeholder."""
        name = job.view.job
        if job.view.managed:
            await self._insist(name, lambda: self._kernel.job_end(name))
        await self._insist(name, lambda: self._vault.forget_job(name))
        await self._insist(name, lambda: self._record(JobEnded(self._clock(), name, reason)))
        self._jobs.pop(name, None)

    async def _insist(self, name: JobId, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
                return
            except EnvironmentFailed as error:
                self._trouble(f"ending {name}, tried again: {error}")
                await asyncio.sleep(_RETRY)
            except CoatcheckError as error:  # for example: it is not there any more
                self._trouble(f"ending {name}: {error}")
                return

    async def _take_over(self) -> None:
        running = {name for name, job in self._jobs.items() if job.view.state == "running"}  # before we ask
        there = {info.job: info for info in await self._kernel.jobs()}
        for name, info in there.items():
            if name not in self._jobs:
                await self._appeared(info)
        for name, job in list(self._jobs.items()):
            if name not in running or job.view.state != "running":
                continue
            if name not in there:
                self._ending(job, "gone")
            elif job.view.managed and not there[name].populated:
                self._ending(job, "emptied")

    async def _happened(self, event: JobEvent) -> None:
        job = self._jobs.get(event.job.job)
        if event.kind == "appeared":
            if job is None and not event.job.managed:
                await self._appeared(event.job)
        elif job is not None and job.view.state == "running":
            if event.kind == "gone":
                self._ending(job, "gone")
            elif job.view.managed:
                self._ending(job, "emptied")

    async def _appeared(self, info: JobInfo) -> None:
        """A job that we did not start: a governed cgroup, or one of ours from before our own start."""
        view = JobView(info.job, info.label, info.launched_uid, 0, info.cgroup, info.managed, 0.0)
        if not info.managed:
            view.started = self._clock()
            granted = await self._vault.grant(info.job, info.label)  # nobody is given the texts: its processes mint
            view.secrets = tuple(g.secret for g in granted if not g.problem)
            await self._record(
                JobStarted(view.started, info.job, info.label, info.launched_uid, 0, info.cgroup, view.secrets)
            )
        self._jobs[info.job] = _Job(view)
