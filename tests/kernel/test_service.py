"""The kernel process as a whole: jobs made, found, attested, ended; over a kill and a restart."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from appliance.attest.layouts import address_text, flow_key, question
from appliance.attest.peer_socket import PeerSockets
from appliance.config.places import Places, accounts
from appliance.config.schema import Config
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Attested, EventBatch, JobCreate, JobCreated, JobInfo, KernelState
from appliance.model.errors import Denied, PeerError
from appliance.model.facts import ProcessFacts
from appliance.model.ids import JobId
from tests.world import OUTSIDE4, World

pytestmark = pytest.mark.world
T = TypeVar("T")

SERVE = """
import sys
from appliance.config.schema import Config
from appliance.daemon import kernel
kernel.run(Config.model_validate_json(sys.argv[1]), lambda: print('ready', flush=True))
"""
# connects when told to, and stays
AGENT = f"""
import socket, sys
sys.stdin.readline()
s = socket.create_connection(({OUTSIDE4!r}, 443)); print(s.getsockname()[1], flush=True)
sys.stdin.readline()
"""
JOB = JobId("j-0123456789abcdef")


class Kernel:
    """A kernel process in a world, and calls to it as root."""

    def __init__(self, world: World) -> None:
        self.world = world
        pattern = f"{world.cgroup_name}/system.slice/runner.*.service"
        self.config = Config.model_validate(
            {
                "run_dir": str(world.dir / "run"),
                "state_dir": str(world.dir / "state"),
                "govern": {
                    "root": f"{world.cgroup_name}/jobs",
                    "existing": [{"pattern": pattern, "label": "ci"}],
                },
            }
        )
        self.places = Places(self.config)
        self.jobs = world.cgroup / "jobs"
        self.proxy = world.listener("host", "127.0.0.1", self.config.listen.proxy_port)
        self.outside = world.listener("outside", OUTSIDE4, 443)
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-c", SERVE, self.config.model_dump_json(by_alias=True)]
        self.process = self.world.popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, method: str, params: Any = None, result: Any = None) -> Any:
        return self.asked(lambda client: client.call(method, params, result=result, timeout=25))

    def asked(self, work: Callable[[IpcClient], Awaitable[T]]) -> T:
        async def go() -> T:
            client = IpcClient("kernel", self.places.kernel_socket, 0)
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(go())

    def agent(self, code: str = AGENT, argv: list[str] | None = None, **options: Any) -> subprocess.Popen[str]:
        argv = argv or [sys.executable, "-c", code]
        made = self.world.popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, uid=options.pop("uid", 4242), **options
        )
        # once it has become what it is to be
        _await(lambda: Path(f"/proc/{made.pid}/cmdline").read_bytes().startswith(argv[0].encode()))
        return made

    def connected(self, agent: subprocess.Popen[str]) -> bytes:
        """Lets the agent connect; the question about its flow."""
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write("\n")
        agent.stdin.flush()
        _, peer = self.proxy.accept()
        assert int(agent.stdout.readline()) == peer[1]
        return self.question(peer)

    def question(self, peer: tuple[str, int]) -> bytes:
        local = self.proxy.getsockname()

        def cookie() -> int | None:
            near, far = ((socket.inet_aton(address), port) for address, port in (peer, local))
            return PeerSockets().cookie(socket.AF_INET, near, far)

        found = self.world.inside("host", cookie)
        assert found is not None
        return question(found, flow_key(self.netns(), peer, local))

    def netns(self) -> int:
        return int.from_bytes(self.proxy.getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder)

    def nothing_escaped(self) -> bool:
        self.outside.setblocking(False)
        try:
            self.outside.accept()
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with World() as world:
        yield Kernel(world)


def _create(pid: int, job: JobId = JOB, uid: int = 4242) -> JobCreate:
    return JobCreate(job, "agent", uid, pid)


def _await(check: Callable[[], T]) -> T:
    end = time.monotonic() + 10
    while not (found := check()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_a_job_from_start_to_end(kernel: Kernel) -> None:
    agent = kernel.agent(groups=(4243, 4244))
    made = kernel.ask("job_create", _create(agent.pid), JobCreated)
    assert made == JobCreated(f"/{kernel.config.govern.root}/{JOB}", (kernel.jobs / JOB).stat().st_ino)
    assert {path.stat().st_mode & 0o777 for path in (kernel.jobs, kernel.jobs / JOB)} == {0o755}
    key = kernel.connected(agent)
    attested = kernel.ask("attest", key, Attested)
    record, facts = attested.record, attested.facts
    assert (address_text(record.address), record.port, record.pid) == (OUTSIDE4, 443, agent.pid)
    real = os.path.realpath(sys.executable)
    assert facts.complete
    assert (facts.pid, facts.uid, facts.gid, facts.groups) == (agent.pid, 4242, 4242, (4243, 4244))
    assert (facts.exe, facts.exe_sha256) == (real, hashlib.sha256(Path(real).read_bytes()).hexdigest())
    assert (facts.exe_inode, facts.exe_device) == (record.exe_inode, record.exe_device)
    assert facts.cmdline == (sys.executable, "-c", AGENT)
    assert (facts.cgroup, facts.cgroup_id, facts.unit) == (made.cgroup, made.cgroup_id, "")
    assert (facts.job, facts.job_label, facts.launched_uid) == (JOB, "agent", 4242)
    assert facts.netns == os.stat(kernel.world._namespaces.path("host")).st_ino
    assert facts.ancestors[0].pid == os.getpid()
    assert kernel.ask("attest_pid", agent.pid, ProcessFacts) == facts
    [info] = kernel.ask("jobs", None, list[JobInfo])
    assert info == JobInfo(JOB, "agent", 4242, made.cgroup, made.cgroup_id, managed=True, populated=True)
    agent.kill()
    agent.wait()
    batch = kernel.ask("next_events", 0, EventBatch)
    assert [(event.kind, event.job.job, event.job.populated) for event in batch.events] == [("emptied", JOB, False)]
    with pytest.raises(Denied, match="no-record"):
        kernel.ask("attest", key, Attested)
    counted = kernel.ask("counters", None, dict[str, int])
    assert (counted["tcp-turned"], counted["attested"], counted["attest-denied"]) == (1, 1, 1)
    assert (counted["attested-incomplete"], counted["govern-failed"]) == (0, 0)
    kernel.ask("job_end", JOB)
    assert not (kernel.jobs / JOB).exists()
    [event] = kernel.ask("next_events", batch.last, EventBatch).events
    assert event.kind == "gone"
    assert kernel.ask("jobs", None, list[JobInfo]) == []
    assert kernel.ask("job_end", JOB) is None  # again: no harm
    assert kernel.nothing_escaped()


def test_ending_kills_what_is_left(kernel: Kernel) -> None:
    agent = kernel.agent("import os, time; os.fork(); os.setsid(); print('up', flush=True); time.sleep(600)")
    assert agent.stdout is not None
    agent.stdout.readline()
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    kernel.ask("job_end", JOB)
    assert agent.wait(5) == -signal.SIGKILL
    assert not (kernel.jobs / JOB).exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import socket; s = socket.socket(); print(flush=True); input()", "job-sockets"),
        ("import socket; s = socket.socket(10, 2); print(flush=True); input()", "job-sockets"),
        ("import ctypes; ctypes.CDLL(None).syscall(425, 8, bytes(120)); print(flush=True); input()", "job-io-uring"),
    ],
)
def test_what_may_not_be_brought_in(kernel: Kernel, code: str, reason: str) -> None:
    agent = kernel.agent(code)
    assert agent.stdout is not None
    agent.stdout.readline()
    with pytest.raises(Denied, match=reason):
        kernel.ask("job_create", _create(agent.pid), JobCreated)
    assert not (kernel.jobs / JOB).exists()
    assert kernel.ask("jobs", None, list[JobInfo]) == []
    assert f"/{kernel.world.cgroup_name}/free" in Path(f"/proc/{agent.pid}/cgroup").read_text()


def test_a_unix_socket_may(kernel: Kernel) -> None:
    agent = kernel.agent("import socket; s = socket.socket(1); print(flush=True); input()")
    assert agent.stdout is not None
    agent.stdout.readline()
    kernel.ask("job_create", _create(agent.pid), JobCreated)


def test_who_may_not_be_moved(kernel: Kernel) -> None:
    agent = kernel.agent()
    with pytest.raises(Denied, match="job-process"):
        kernel.ask("job_create", _create(agent.pid, uid=1), JobCreated)
    with pytest.raises(Denied, match="job-process"):
        kernel.ask("job_create", _create(2**22 - 1), JobCreated)
    with pytest.raises(Denied, match="job-name"):
        kernel.ask("job_create", _create(agent.pid, JobId("../free")), JobCreated)
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    with pytest.raises(Denied, match="job-nested"):
        kernel.ask("job_create", _create(agent.pid, JobId("j-ffffffffffffffff")), JobCreated)
    with pytest.raises(Denied, match="job-exists"):
        kernel.ask("job_create", _create(kernel.agent().pid), JobCreated)
    assert sorted(path.name for path in kernel.jobs.iterdir() if path.is_dir()) == [JOB]


def test_existing_cgroups_come_and_go(kernel: Kernel) -> None:
    world = kernel.world
    state = kernel.ask("state", None, KernelState)
    assert state.governed == (f"/{kernel.config.govern.root}",)
    world.new_cgroup("system.slice/other.service")
    cgroup = world.new_cgroup("system.slice/runner.7.service")
    [event] = kernel.ask("next_events", 0, EventBatch).events
    number = cgroup.stat().st_ino
    assert (event.kind, event.job.label, event.job.job, event.job.managed) == (
        "appeared",
        "ci",
        f"j-{number:016x}",
        False,
    )
    agent = kernel.agent(cgroup=world.new_cgroup("system.slice/runner.7.service/below"))
    facts = kernel.ask("attest", kernel.connected(agent), Attested).facts
    assert (facts.job, facts.job_label, facts.launched_uid) == (event.job.job, "ci", -1)
    assert (facts.unit, facts.cgroup) == (
        "runner.7.service",
        f"/{world.cgroup_name}/system.slice/runner.7.service/below",
    )
    with pytest.raises(Denied, match="job-not-ours"):
        kernel.ask("job_end", event.job.job)
    agent.kill()
    agent.wait()
    kinds = [e.kind for e in kernel.ask("next_events", event.number, EventBatch).events]
    assert kinds == ["emptied"]
    os.rmdir(cgroup / "below")
    os.rmdir(cgroup)
    _await(lambda: kernel.ask("jobs", None, list[JobInfo]) == [])
    assert kernel.ask("state", None, KernelState).governed == (f"/{kernel.config.govern.root}",)
    assert not (kernel.places.pins / "links" / str(number)).exists()


def test_killed_and_restarted(kernel: Kernel) -> None:
    cgroup = kernel.world.new_cgroup("system.slice/runner.8.service")
    kernel.ask("next_events", 0, EventBatch)
    agent = kernel.agent()
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    before = kernel.ask("jobs", None, list[JobInfo])
    assert len(before) == 2
    kernel.process.kill()
    kernel.process.wait()
    key = kernel.connected(agent)  # still turned
    os.rmdir(cgroup)  # while nobody looks
    kernel.start()
    [event] = kernel.ask("next_events", 0, EventBatch).events
    assert (event.kind, event.job.label, event.job.managed) == ("gone", "ci", False)
    after = kernel.ask("jobs", None, list[JobInfo])
    assert after == [job for job in before if job.managed]
    assert kernel.ask("attest", key, Attested).facts.complete
    kernel.ask("job_end", JOB)
    assert kernel.nothing_escaped()


LOAD = f"""
import socket, sys, time
sys.stdin.readline()
end, count = time.monotonic() + 3, 0
while time.monotonic() < end:
    with socket.socket() as s:
        s.settimeout(5); s.connect(({OUTSIDE4!r}, 443)); count += s.recv(9) == b'PROXY'
print(count)
"""


def test_restarts_under_load(kernel: Kernel) -> None:
    """Killed and started again and again while connections are made: none gets past, and none fails."""

    def serve() -> None:
        while True:
            try:
                sock, _ = kernel.proxy.accept()
            except OSError:
                return  # the test has ended
            with sock:
                sock.sendall(b"PROXY")

    threading.Thread(target=serve, daemon=True).start()
    agent = kernel.agent(LOAD)
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    assert agent.stdin is not None
    agent.stdin.write("\n")
    agent.stdin.flush()
    restarts = 0
    while agent.poll() is None:
        kernel.process.kill()
        kernel.process.wait()
        kernel.start()
        restarts += 1
    kernel.proxy.shutdown(socket.SHUT_RDWR)
    assert agent.stdout is not None
    made = int(agent.stdout.read())
    turned = kernel.ask("counters", None, dict[str, int])["tcp-turned"]
    assert restarts >= 2
    assert made == turned > 100
    assert kernel.nothing_escaped()


def test_a_pattern_that_is_no_longer_there(kernel: Kernel) -> None:
    """After a restart with another configuration the cgroup is let go."""
    cgroup = kernel.world.new_cgroup("system.slice/runner.9.service")
    kernel.ask("next_events", 0, EventBatch)
    kernel.process.kill()
    kernel.process.wait()
    govern = kernel.config.govern.model_copy(update={"existing": ()})
    kernel.config = kernel.config.model_copy(update={"govern": govern})
    kernel.start()
    assert kernel.ask("jobs", None, list[JobInfo]) == []
    kernel.outside.setblocking(True)
    code = f"import socket; socket.create_connection(({OUTSIDE4!r}, 443), 5)"
    kernel.world.python(code, cgroup=cgroup, check=True)


def test_patterns_do_not_nest(kernel: Kernel) -> None:
    """The hooks must not run twice for one connection: the outer cgroup governs."""
    kernel.process.kill()
    kernel.process.wait()
    name = kernel.world.cgroup_name
    inner = kernel.world.new_cgroup("nest/outer/inner")
    existing = [{"pattern": f"{name}/nest/*/*", "label": "inner"}, {"pattern": f"{name}/nest/*", "label": "outer"}]
    config = kernel.config.model_dump(by_alias=True) | {"govern": {"root": f"{name}/jobs", "existing": existing}}
    kernel.config = Config.model_validate(config)
    kernel.start()
    assert [job.label for job in kernel.ask("jobs", None, list[JobInfo])] == ["outer"]
    facts = kernel.ask("attest", kernel.connected(kernel.agent(cgroup=inner)), Attested).facts
    assert facts.job_label == "outer"


def test_stopped_by_sigterm(kernel: Kernel) -> None:
    agent = kernel.agent()
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    kernel.process.terminate()
    assert kernel.process.wait(10) == 0
    kernel.connected(agent)
    assert kernel.nothing_escaped()


HANDED = """
import ctypes, sys
from appliance.attest.flowmap import FlowMap
from appliance.ipc import handover
from appliance.kernel import libbpf
from appliance.model.errors import EnvironmentFailed
fd = handover.receive(sys.argv[1], 0)['flows']
value = FlowMap(fd).lookup(bytes.fromhex(sys.argv[2]))
print(len(value))
key = bytes.fromhex(sys.argv[2])
for attempt in (lambda: libbpf.update(fd, bytes(48), bytes(192)), lambda: libbpf.delete(fd, key)):
    try:
        attempt(); print('written')
    except EnvironmentFailed:
        print('refused')
"""


def test_the_proxy_may_read_flows_and_no_more(kernel: Kernel) -> None:
    agent = kernel.agent()
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    arguments = [kernel.places.handover_socket, kernel.connected(agent)[8:].hex()]  # the key of the question
    uid = accounts(kernel.config).proxy
    done = kernel.world.python(HANDED, *arguments, uid=uid)
    assert done.stdout.split() == ["192", "refused", "refused"], done.stderr
    refused = kernel.world.python(HANDED, *arguments, uid=4242)
    assert refused.returncode == 1
    assert "refused uid 4242" in refused.stderr


def test_who_may_call(kernel: Kernel) -> None:
    code = """
import asyncio, sys
from appliance.ipc.client import IpcClient
from appliance.model.errors import Denied
async def main():
    client = IpcClient('kernel', sys.argv[1], 0)
    for method, value in (('attest', b''), ('job_create', 1), ('job_end', 'x'), ('jobs', None), ('counters', None)):
        try:
            await client.call(method, value); print('allowed')
        except Denied:
            print('denied')
asyncio.run(main())
"""
    done = kernel.world.python(code, kernel.places.kernel_socket, uid=accounts(kernel.config).proxy, check=True)
    assert done.stdout.split() == ["denied"] * 5


def test_bad_keys(kernel: Kernel) -> None:
    with pytest.raises(PeerError):
        kernel.ask("attest", b"short", Attested)
    with pytest.raises(Denied, match="no-record"):
        kernel.ask("attest", bytes(56), Attested)
    agent = kernel.agent()
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    asked = kernel.connected(agent)
    kernel.ask("attest", asked, Attested)
    other = (int.from_bytes(asked[:8], sys.byteorder) + 1).to_bytes(8, sys.byteorder)
    with pytest.raises(Denied, match="no-record"):  # another socket has these ports by now
        kernel.ask("attest", other + asked[8:], Attested)
    with pytest.raises(Denied, match="no-job"):
        kernel.ask("attest_pid", os.getpid(), ProcessFacts)
    with pytest.raises(Denied, match="no-facts"):
        kernel.ask("attest_pid", 2**22 - 1, ProcessFacts)


def test_an_executable_on_overlayfs(kernel: Kernel) -> None:
    """stat(2) and the kernel's own inode may disagree there: the facts are complete all the same."""
    world = kernel.world
    folders = {name: world.dir / "overlay" / name for name in ("lower", "upper", "work", "merged")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folders["lower"])], check=True)
    subprocess.run(["cp", "/bin/bash", str(folders["lower"])], check=True)
    options = f"lowerdir={folders['lower']},upperdir={folders['upper']},workdir={folders['work']}"
    subprocess.run(["mount", "-t", "overlay", "none", "-o", options, str(folders["merged"])], check=True)
    bash = str(folders["merged"] / "bash")
    code = f"read; exec 3<>/dev/tcp/{OUTSIDE4}/443; read"
    agent = kernel.agent(argv=[bash, "-c", code])
    kernel.ask("job_create", _create(agent.pid), JobCreated)
    assert agent.stdin is not None
    agent.stdin.write("\n")
    agent.stdin.flush()
    _, peer = kernel.proxy.accept()
    key = kernel.question(peer)
    facts = kernel.ask("attest", key, Attested).facts
    assert facts.complete
    assert facts.exe == bash
    assert facts.exe_sha256 == hashlib.sha256(Path("/bin/bash").read_bytes()).hexdigest()
