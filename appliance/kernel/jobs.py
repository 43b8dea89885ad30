"""Jobs: cgroups whose processes are governed. Made here, or found because a pattern names them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from appliance.attest.procfs import parse_status
from appliance.config.schema import NAME, Govern
from appliance.ipc.messages import JobCreate, JobCreated, JobInfo
from appliance.kernel.cgroups import CgroupTree, populated
from appliance.kernel.events import Events
from appliance.kernel.hooks import Hooks
from appliance.kernel.inherited import refuse_sockets
from appliance.kernel.layouts import JobValue
from appliance.kernel.watch import CgroupWatch, Found
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed
from appliance.model.ids import JobId

_JOB = re.compile(r"j-[0-9a-f]{16}")
_LABEL = re.compile(NAME)
_END_TIMEOUT = 10.0  # seconds for a killed job's processes to be gone


class Jobs:
    """The jobs there are. `log(event, detail)` is told of what fails while nobody waits for an answer.

    The kernel's `jobs` map is the state: it survives us, and `start` reads it back.
    """

    def __init__(
        self, hooks: Hooks, tree: CgroupTree, govern: Govern, events: Events, log: Callable[[str, str], None]
    ) -> None:
        self._hooks, self._tree, self._events, self._log = hooks, tree, events, log
        self._root = "/" + govern.root
        self._values: dict[int, JobValue] = {}
        self._paths: dict[int, str] = {}
        self._populated: dict[int, bool] = {}
        self.governed: dict[int, str] = {}  # cgroups with hooks attached
        self.failures = 0
        patterns = [(each.pattern, each.label) for each in govern.existing]
        self.watch = CgroupWatch(tree, patterns, appeared=self._appeared, gone=self._gone, changed=self._changed)
        self._starting = True

    def start(self) -> None:
        """Attaches to the parent of all jobs, takes over what an earlier run left, finds existing cgroups.
        Raises EnvironmentFailed if any of it cannot be governed."""
        folder = self._tree.file(self._root)
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # whatever our umask: a job may read its own limits
        root = self._tree.id_of(self._root)
        self._restore()
        for cgroup_id in self._hooks.take_over(self._tree.path_now, self._tree.mount):
            self.governed[cgroup_id] = self._tree.path_of(cgroup_id)
        self._govern(root, self._root)
        self.watch.scan()
        for cgroup_id, value in list(self._values.items()):
            if not value.managed and cgroup_id not in self.watch.found:
                self._gone(cgroup_id)  # no pattern names it any more
        self._starting = False

    def _restore(self) -> None:
        """What an earlier run of ours knew, and what has happened to it since."""
        for cgroup_id, value in self._hooks.jobs().items():
            path = self._tree.path_now(cgroup_id)
            if path:
                self._know(cgroup_id, path, value)
                if not self._populated[cgroup_id]:
                    self._events.put("emptied", self._info(cgroup_id))
            else:
                self._values[cgroup_id], self._paths[cgroup_id], self._populated[cgroup_id] = value, "", False
                self._gone(cgroup_id)

    # ---- what there is ----

    def infos(self) -> list[JobInfo]:
        return [self._info(cgroup_id) for cgroup_id in self._values]

    def info(self, cgroup_id: int) -> JobInfo | None:
        return self._info(cgroup_id) if cgroup_id in self._values else None

    def of_path(self, path: str) -> JobInfo | None:
        """The job that a cgroup is in or below: the innermost, as the hooks have it."""
        by_path = {known: cgroup_id for cgroup_id, known in self._paths.items()}
        while path:
            if path in by_path:
                return self._info(by_path[path])
            path = path.rpartition("/")[0]
        return None

    # ---- made and ended ----

    def create(self, ask: JobCreate) -> JobCreated:
        """Makes the job's cgroup, registers it, and moves the process in. Raises Denied for a process that may not be
        moved, EnvironmentFailed; in both cases nothing of the job is left."""
        self._check(ask)
        path = f"{self._root}/{ask.job}"
        folder = self._tree.file(path)
        try:
            folder.mkdir()
            folder.chmod(0o755)
        except FileExistsError:
            raise Denied("job-exists", f"there is a job {ask.job} already") from None
        except OSError as error:
            raise EnvironmentFailed("cgroup", f"{folder} cannot be made: {error.strerror}") from None
        before = self._cgroup_of(ask.pid)
        cgroup_id = self._tree.id_of(path)
        try:
            value = JobValue(True, ask.launched_uid, ask.job, ask.label)
            self._hooks.put_job(cgroup_id, value)
            self._move(ask.pid, folder)
            refuse_sockets(ask.pid)  # again: now nothing can be added from outside
            self._know(cgroup_id, path, value)
        except BaseException:
            self._forget(cgroup_id)
            self._undo(ask.pid, before, folder)
            raise
        return JobCreated(path, cgroup_id)

    async def end(self, job: JobId) -> None:
        """Kills what is left of the job and removes its cgroup. Raises Denied for a cgroup that is not ours to end,
        EnvironmentFailed if it cannot be emptied. Cancelled, the job is killed but not yet removed: call again."""
        cgroup_id = next((known for known, value in self._values.items() if value.name == job), None)
        if cgroup_id is None:
            return  # it has ended
        if not self._values[cgroup_id].managed:
            raise Denied("job-not-ours", f"job {job} is a cgroup that something else made")
        folder = self._tree.file(self._paths[cgroup_id])
        limit = time.monotonic() + _END_TIMEOUT
        while True:
            try:
                (folder / "cgroup.kill").write_text("1")  # from 5.14
                for below, _, _ in os.walk(folder, topdown=False):
                    os.rmdir(below)
                break
            except FileNotFoundError:
                break
            except OSError as error:  # EBUSY until the kernel has buried them
                if time.monotonic() > limit:
                    raise EnvironmentFailed("cgroup", f"{folder} cannot be emptied: {error.strerror}") from None
            await asyncio.sleep(0.005)
        if cgroup_id in self._values:  # unless inotify was quicker
            self._gone(cgroup_id)

    # ---- told by the watch ----

    def _appeared(self, cgroup_id: int, found: Found) -> None:
        if cgroup_id in self._values:
            self._govern(cgroup_id, found.path)  # restored; taken over as well, unless we were killed in between
            return
        if any(found.path.startswith(f"{path}/") for path in self.governed.values()):
            return  # below a cgroup that is governed already: hooks must not run twice
        value = JobValue(False, -1, f"j-{cgroup_id:016x}", found.label)
        try:
            if any(path.startswith(f"{found.path}/") for path in self.governed.values()):
                raise EnvironmentFailed("govern", "a cgroup below it is governed already: hooks would run twice")
            self._hooks.put_job(cgroup_id, value)
            self._govern(cgroup_id, found.path)
            self._know(cgroup_id, found.path, value)
        except CoatcheckError as error:
            if self._starting:
                raise
            self.watch.found.pop(cgroup_id, None)  # the next scan tries again
            if self._tree.path_now(cgroup_id):  # otherwise it was only short-lived
                self.failures += 1
                self._log("kernel.govern-failed", f"{found.path}: {error}")
            return
        self._events.put("appeared", self._info(cgroup_id))

    def _gone(self, cgroup_id: int) -> None:
        if cgroup_id not in self._values:
            return
        info = self._info(cgroup_id)
        self._forget(cgroup_id)
        self._hooks.detach(cgroup_id)
        self.governed.pop(cgroup_id, None)
        self._events.put("gone", info)

    def _changed(self, cgroup_id: int) -> None:
        if cgroup_id not in self._values:
            return
        if not self._tree.path_now(cgroup_id):
            self._gone(cgroup_id)
            return
        now = populated(self._tree.file(self._paths[cgroup_id]))
        was, self._populated[cgroup_id] = self._populated[cgroup_id], now
        if was and not now:
            self._events.put("emptied", self._info(cgroup_id))

    # ---- within ----

    def _govern(self, cgroup_id: int, path: str) -> None:
        if cgroup_id not in self.governed:
            self._hooks.attach(cgroup_id, self._tree.file(path))
            self.governed[cgroup_id] = path

    def _know(self, cgroup_id: int, path: str, value: JobValue) -> None:
        self._values[cgroup_id] = value
        self._paths[cgroup_id] = path
        self.watch.follow(cgroup_id, path)
        self._populated[cgroup_id] = populated(self._tree.file(path))

    def _forget(self, cgroup_id: int) -> None:
        self._hooks.drop_job(cgroup_id)
        for known in (self._values, self._paths, self._populated):
            known.pop(cgroup_id, None)

    def _info(self, cgroup_id: int) -> JobInfo:
        value = self._values[cgroup_id]
        return JobInfo(
            job=JobId(value.name),
            label=value.label,
            launched_uid=value.launched_uid,
            cgroup=self._paths[cgroup_id],
            cgroup_id=cgroup_id,
            managed=value.managed,
            populated=self._populated[cgroup_id],
        )

    def _check(self, ask: JobCreate) -> None:
        if not _JOB.fullmatch(ask.job) or not _LABEL.fullmatch(ask.label):
            raise Denied("job-name", "a job is named j- and 16 hex digits, its label is a name")
        try:
            owner = parse_status(Path(f"/proc/{ask.pid}/status").read_bytes()).uid
        except OSError:
            raise Denied("job-process", f"there is no process {ask.pid}") from None
        if owner != ask.launched_uid:
            raise Denied("job-process", f"process {ask.pid} is not of uid {ask.launched_uid}")
        if self.of_path(self._cgroup_of(ask.pid)) is not None:
            raise Denied("job-nested", "the process is in a job already")
        refuse_sockets(ask.pid)

    @staticmethod
    def _cgroup_of(pid: int) -> str:
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            raise Denied("job-process", f"there is no process {pid}") from None
        return next((line[3:] for line in lines if line.startswith("0::")), "")

    @staticmethod
    def _move(pid: int, folder: Path) -> None:
        try:
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise EnvironmentFailed("cgroup", f"process {pid} cannot be moved: {error.strerror}") from None

    def _undo(self, pid: int, before: str, folder: Path) -> None:
        try:
            (self._tree.file(before) / "cgroup.procs").write_text(str(pid))
            folder.rmdir()
        except OSError as error:
            # what stays there is in no job: all of its connections are refused
            self._log("kernel.undo-failed", f"{folder}: {error.strerror}")
