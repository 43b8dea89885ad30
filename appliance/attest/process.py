"""Record + /proc -> facts of the process that connected, or of the record alone where that cannot be proven."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from appliance.attest import procfs
from appliance.attest.hashing import ExecutableHashes
from appliance.model.errors import Denied, PeerError
from appliance.model.facts import Ancestor, ProcessFacts, SocketRecord
from appliance.model.ids import JobId

MAX_ANCESTORS = 16
MAX_FILE: Final = 16 << 20  # bytes that are read of a file below /proc/PID
MAX_CMDLINE: Final = 1 << 20  # of /proc/PID/cmdline
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # /proc/PID/stat counts in these


@dataclass(frozen=True)
class JobOfProcess:
    """What the kernel process knows of the job: `launched_uid` is -1 for cgroups that something else made."""

    job: JobId
    label: str
    launched_uid: int


@dataclass(frozen=True)
class _Executable:
    """The file that a process runs, as /proc/PID/exe opened it."""

    path: str
    inode: int
    device: int  # kernel encoding


class Changed(Exception):
    """The process is not, or no longer, the one that is being asked about."""


class Proc:
    """One process below /proc, held by a pidfd: as long as `check()` passes, everything that was read since
    `__enter__` was of that process and no other, since its pid could not be given away.

    Raises Changed if it is gone, or was not started at `start_ns` (None: whichever it is).
    """

    def __init__(self, pid: int, start_ns: int | None) -> None:
        self.pid = pid
        self._start_ns = start_ns

    def __enter__(self) -> Proc:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            raise Changed from None
        try:
            self._folder = os.open(f"/proc/{self.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            os.close(self._pidfd)
            raise Changed from None
        try:
            self.stat = procfs.parse_stat(self.read("stat"))
            if self._start_ns is not None and self._start_ns // _TICK_NS != self.stat.start_ticks:
                raise Changed
            self.check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)
        os.close(self._pidfd)

    def check(self) -> None:
        """Raises Changed if the process has ended (a pidfd is readable then, pidfd_open(2))."""
        if select.select([self._pidfd], [], [], 0)[0]:
            raise Changed

    def read(self, name: str, most: int = MAX_FILE) -> bytes:
        """The file's first `most` bytes: a process decides itself how long its arguments are (prctl(2), PR_SET_MM)."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                data = b""
                while len(data) < most and (chunk := os.read(fd, min(1 << 16, most - len(data)))):
                    data += chunk
                return data
            finally:
                os.close(fd)
        except (FileNotFoundError, ProcessLookupError):
            raise Changed from None

    def open_exe(self) -> int:
        """A descriptor of the very file that runs, also where its path is of another mount namespace, or gone."""
        try:
            return os.open("exe", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        except (FileNotFoundError, ProcessLookupError):
            raise Changed from None

    def executable(self, fd: int) -> _Executable:
        found = os.fstat(fd)
        path = self.path_here(found)
        return _Executable(path, found.st_ino, os.major(found.st_dev) << 20 | os.minor(found.st_dev))

    def path_here(self, found: os.stat_result) -> str:
        """The path of the executable (`found` is its stat), or "" if that path is another file in our own mount
        namespace: anybody can mount what they like over /usr/bin/curl in a namespace of their own. Where nothing
        is at that path, because the file was deleted, the kernel's " (deleted)" stays."""
        path = os.readlink("exe", dir_fd=self._folder)
        if found.st_nlink == 0:
            return path
        try:
            here = os.stat(path)
        except OSError:
            return ""
        return path if (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino) else ""

    def exe_path(self) -> str:
        """The same by the link alone, for ancestors. Raises OSError for a kernel thread."""
        return self.path_here(os.stat("exe", dir_fd=self._folder))

    def kernel_device(self, fd: int) -> int | None:
        """The device that the kernel itself has for the file: on btrfs and overlayfs fstat(2) says another one."""
        for line in Path(f"/proc/self/fdinfo/{fd}").read_bytes().split(b"\n"):
            if line.startswith(b"mnt_id:"):
                return procfs.device_of_mount(self.read("mountinfo"), int(line[7:]))
        return None

    def netns(self) -> int:
        try:
            return os.stat("ns/net", dir_fd=self._folder).st_ino
        except (FileNotFoundError, ProcessLookupError):
            raise Changed from None


def _ancestors(parent: int) -> tuple[Ancestor, ...]:
    """Parent first. An ancestor that ends while we look ends the list: it proves nothing beyond itself."""
    found: list[Ancestor] = []
    while parent > 0 and len(found) < MAX_ANCESTORS:
        try:
            with Proc(parent, None) as proc:
                try:
                    exe = proc.exe_path()
                except OSError:
                    exe = ""  # a kernel thread
                proc.check()
                found.append(Ancestor(parent, exe, proc.stat.comm))
                parent = proc.stat.parent
        except (Changed, PeerError):
            break
    return tuple(found)


class Attestor:
    """`path_of` gives a cgroup's path by its id ("" if unknown). Reading /proc takes CAP_SYS_PTRACE and
    CAP_DAC_READ_SEARCH; executables are hashed on one thread of its own."""

    def __init__(self, path_of: Callable[[int], str]) -> None:
        self._path_of = path_of
        self._hashes = ExecutableHashes()
        self._thread = ThreadPoolExecutor(1, "hash")
        self._turns: WeakValueDictionary[JobId, asyncio.Lock] = WeakValueDictionary()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def of_record(self, record: SocketRecord, job: JobOfProcess) -> ProcessFacts:
        """The facts of the process that the record tells of; `complete` False if it has ended, was replaced under
        its pid, or runs another program by now. Raises nothing for these; cancelling leaves nothing behind."""
        try:
            return await self._read(record.pid, record, job)
        except (Changed, PeerError, OSError):
            return self._of_record_alone(record, job)

    async def of_pid(self, pid: int, cgroup_id: int, job: JobOfProcess) -> ProcessFacts:
        """The facts of a process that the caller knows by pid alone. Raises Denied if it ends meanwhile."""
        try:
            facts = await self._read(pid, None, job, cgroup_id)
        except (Changed, PeerError, OSError):
            raise Denied("no-facts", f"process {pid} ended while it was looked at") from None
        return facts

    async def _read(self, pid: int, record: SocketRecord | None, job: JobOfProcess, cgroup_id: int = 0) -> ProcessFacts:
        with Proc(pid, record.start_ns if record else None) as proc:
            status = procfs.parse_status(proc.read("status"))
            if record and (status.uid, status.gid) != (record.uid, record.gid):
                raise Changed
            exe_fd = proc.open_exe()
            try:
                exe = proc.executable(exe_fd)
                if record and not _same_file(proc, exe_fd, exe, record):
                    raise Changed
                digest = self._hashes.known(exe_fd) or await self._hash(exe_fd, job.job)
            finally:
                os.close(exe_fd)
            if not digest:
                raise Changed
            cmdline = procfs.parse_cmdline(proc.read("cmdline", MAX_CMDLINE))
            netns = proc.netns()
            ancestors = _ancestors(proc.stat.parent)
            # once more: not ended, and not another program by execve(2), since we began
            again = proc.open_exe()
            try:
                if proc.executable(again) != exe:
                    raise Changed
            finally:
                os.close(again)
            proc.check()
            cgroup_id = record.task_cgroup if record else cgroup_id
            cgroup = self._path_of(cgroup_id)
            return ProcessFacts(
                pid=pid,
                start_ticks=proc.stat.start_ticks,
                uid=status.uid,
                gid=status.gid,
                groups=status.groups,
                exe=exe.path,
                exe_inode=exe.inode,
                exe_device=record.exe_device if record else exe.device,
                exe_sha256=digest,
                cmdline=cmdline,
                comm=proc.stat.comm,
                cgroup=cgroup,
                cgroup_id=cgroup_id,
                unit=procfs.unit_of(cgroup),
                netns=netns,
                ancestors=ancestors,
                job=job.job,
                job_label=job.label,
                launched_uid=job.launched_uid,
                complete=True,
            )

    async def _hash(self, fd: int, job: JobId) -> str:
        """One file of a job at a time: a job that runs many large ones does not keep the others waiting."""
        turn = self._turns.get(job)
        if turn is None:
            turn = self._turns[job] = asyncio.Lock()
        async with turn:
            return self._hashes.known(fd) or await self._hash_now(fd)

    async def _hash_now(self, fd: int) -> str:
        loop = asyncio.get_running_loop()
        own = os.dup(fd)  # the thread's, also if we are cancelled

        def work() -> str:
            try:
                return self._hashes.hash_file(own)
            finally:
                os.close(own)

        return await loop.run_in_executor(self._thread, work)

    def _of_record_alone(self, record: SocketRecord, job: JobOfProcess) -> ProcessFacts:
        cgroup = self._path_of(record.task_cgroup)
        return ProcessFacts(
            pid=record.pid,
            start_ticks=record.start_ns // _TICK_NS,
            uid=record.uid,
            gid=record.gid,
            groups=(),
            exe="",
            exe_inode=record.exe_inode,
            exe_device=record.exe_device,
            exe_sha256="",
            cmdline=(),
            comm=record.comm,
            cgroup=cgroup,
            cgroup_id=record.task_cgroup,
            unit=procfs.unit_of(cgroup),
            netns=0,
            ancestors=(),
            job=job.job,
            job_label=job.label,
            launched_uid=job.launched_uid,
            complete=False,
        )


def _same_file(proc: Proc, fd: int, exe: _Executable, record: SocketRecord) -> bool:
    if exe.inode != record.exe_inode:
        return False
    return record.exe_device in (exe.device, proc.kernel_device(fd))
