"""The facts are those of the process that connected, or those of the record alone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from appliance.attest.hashing import ExecutableHashes
from appliance.attest.process import MAX_ANCESTORS, Attestor, Changed, JobOfProcess, Proc
from appliance.attest.procfs import parse_stat
from appliance.model.errors import Denied
from appliance.model.facts import ProcessFacts, SocketRecord
from appliance.model.ids import JobId
from tests.world import World

JOB = JobOfProcess(JobId("j-0000000000000001"), "test", 1000)
TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


def record_of(pid: int) -> SocketRecord:
    """What the hooks would have written of a process."""
    exe = os.stat(f"/proc/{pid}/exe")
    return SocketRecord(
        cookie=1,
        netns=1,
        task_cgroup=5,
        socket_job=5,
        task_job=5,
        start_ns=parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).start_ticks * TICK_NS + 1234,
        connect_ns=1,
        exe_inode=exe.st_ino,
        exe_device=os.major(exe.st_dev) << 20 | os.minor(exe.st_dev),
        pid=pid,
        tid=pid,
        uid=os.getuid(),
        gid=os.getgid(),
        parent=os.getpid(),
        address=bytes(16),
        port=443,
        family=2,
        protocol=6,
        comm="recorded",
        exe_name="recorded",
    )


def attest(record: SocketRecord) -> ProcessFacts:
    attestor = Attestor(lambda cgroup: "/a/b.service" if cgroup == 5 else "")
    try:
        return asyncio.run(attestor.of_record(record, JOB))
    finally:
        attestor.close()


@pytest.fixture
def process() -> object:
    with subprocess.Popen([shutil.which("sleep") or "sleep", "60"]) as made:
        while "sleep" not in os.readlink(f"/proc/{made.pid}/exe"):
            time.sleep(0.001)
        yield made
        made.kill()


def test_complete(process: subprocess.Popen[bytes]) -> None:
    facts = attest(record_of(process.pid))
    exe = os.path.realpath(shutil.which("sleep") or "")
    assert facts.complete
    assert (facts.exe, facts.exe_sha256) == (exe, hashlib.sha256(Path(exe).read_bytes()).hexdigest())
    assert (facts.comm, facts.cmdline[1:]) == ("sleep", ("60",))
    assert (facts.cgroup, facts.unit, facts.job_label) == ("/a/b.service", "b.service", "test")
    assert facts.ancestors[0].pid == os.getpid()
    assert len(facts.ancestors) <= MAX_ANCESTORS


@pytest.mark.parametrize(
    "change",
    [
        {"start_ns": 77 * TICK_NS},  # another process has the pid now
        {"exe_inode": 1},  # it has executed something else
        {"exe_device": 1},
        {"uid": 4242},
        {"gid": 4242},
        {"pid": 2**22 - 1},  # it has ended
    ],
)
def test_any_disagreement_leaves_the_record_alone(process: subprocess.Popen[bytes], change: dict[str, int]) -> None:
    record = msgspec.structs.replace(record_of(process.pid), **change)
    facts = attest(record)
    assert not facts.complete
    assert (facts.exe, facts.exe_sha256, facts.cmdline, facts.ancestors, facts.groups) == ("", "", (), (), ())
    assert (facts.pid, facts.uid, facts.comm) == (record.pid, record.uid, "recorded")
    assert (facts.exe_inode, facts.cgroup, facts.job) == (record.exe_inode, "/a/b.service", JOB.job)


def test_a_zombie_is_gone(process: subprocess.Popen[bytes]) -> None:
    record = record_of(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not attest(record).complete


def test_ended_while_it_is_read(process: subprocess.Popen[bytes]) -> None:
    with Proc(process.pid, None) as proc:
        process.kill()
        process.wait()
        with pytest.raises(Changed):
            proc.check()


def test_by_pid_alone() -> None:
    attestor = Attestor(lambda _: "/x")
    facts = asyncio.run(attestor.of_pid(os.getpid(), 5, JOB))
    assert (facts.pid, facts.complete) == (os.getpid(), True)
    with pytest.raises(Denied, match="no-facts"):
        asyncio.run(attestor.of_pid(2**22 - 1, 5, JOB))
    attestor.close()


# Runs as pid 1 of a pid namespace, with a /proc of its own. The first process is another user's `sleep`; the second
# one is given its pid by force (pid_namespaces(7), ns_last_pid).
REUSE = """
import os, subprocess, sys, time
from pathlib import Path
from tests.attest.test_process import attest, record_of
from appliance.attest.process import Changed, Proc
first = subprocess.Popen(['sleep', '60'])
while 'sleep' not in os.readlink(f'/proc/{first.pid}/exe'):
    time.sleep(0.001)
record = record_of(first.pid)
before = attest(record)
held = Proc(first.pid, record.start_ns).__enter__()
first.kill(); first.wait()
time.sleep(0.05)
for _ in range(100):
    Path('/proc/sys/kernel/ns_last_pid').write_text(str(first.pid - 1))
    second = os.fork()
    if second == 0:
        time.sleep(60)
        os._exit(0)
    if second == first.pid:
        break
    os.kill(second, 9); os.waitpid(second, 0)
assert second == first.pid, 'the pid was not reused'
after = attest(record)
try:
    held.check(); print('held: not noticed')
except Changed:
    print('held: changed')
now = attest(record_of(second))
print(before.complete, os.path.basename(before.exe), before.pid == second)
print(after.complete, after.exe == '' == after.exe_sha256, after.comm, after.cmdline)
print(now.complete, os.path.basename(now.exe))
os.kill(second, 9)
"""


@pytest.mark.world
def test_a_reused_pid_does_not_lend_its_name(world: World) -> None:
    inside = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--", sys.executable, "-c", REUSE]
    done = world.run(inside, check=True)
    python = os.path.basename(os.path.realpath(sys.executable))
    assert done.stdout.splitlines() == [
        "held: changed",
        "True sleep True",
        "False True recorded ()",
        f"True {python}",
    ]


def test_what_a_process_says_of_itself_is_read_in_part() -> None:
    with Proc(os.getpid(), None) as proc:
        whole = proc.read("cmdline")
        assert proc.read("cmdline", 3) == whole[:3]
        assert len(whole) > 3


def test_an_executable_of_any_size_has_no_digest(tmp_path: Path) -> None:
    """Nor is it read: a sparse file of 8 TB would take an hour."""
    file = tmp_path / "sparse"
    file.touch()
    os.truncate(file, 8 << 40)
    fd = os.open(file, os.O_RDONLY)
    assert ExecutableHashes().hash_file(fd) == ""
    os.close(fd)


def test_digests_are_kept_only_of_files_at_rest(tmp_path: Path) -> None:
    hashes = ExecutableHashes()
    file = tmp_path / "exe"
    file.write_bytes(b"one")
    with file.open("rb") as opened:
        assert hashes.hash_file(opened.fileno()) == hashlib.sha256(b"one").hexdigest()
        assert hashes.known(opened.fileno()) == ""  # written a moment ago: it could change unnoticed
    with open(os.path.realpath(sys.executable), "rb") as opened:
        digest = hashes.hash_file(opened.fileno())
        assert hashes.known(opened.fileno()) == digest != ""
