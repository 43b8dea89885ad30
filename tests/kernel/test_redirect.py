"""TCP of every kind of address goes to the proxy, with a true record of who asked for what."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from appliance.attest.layouts import address_text
from tests.kernel.governed import Governed
from tests.world import HOST4, HOST6, OUTSIDE4, OUTSIDE6

pytestmark = pytest.mark.world

TALK = "s.settimeout(5); {connect}; print(s.recv(9), s.getpeername()[:2], os.getpid())"


@pytest.mark.parametrize(
    ("family", "address", "asked"),
    [
        ("AF_INET", OUTSIDE4, OUTSIDE4),
        ("AF_INET6", OUTSIDE6, OUTSIDE6),
        ("AF_INET6", f"::ffff:{OUTSIDE4}", OUTSIDE4),
        ("AF_INET", "192.0.2.77", "192.0.2.77"),  # no route is needed
        ("AF_INET", HOST4, HOST4),  # the host's own address
        ("AF_INET6", HOST6, HOST6),
        ("AF_INET6", "2001:db8::77", "2001:db8::77"),
    ],
)
def test_turned_with_a_record(governed: Governed, job: Path, family: str, address: str, asked: str) -> None:
    code = f"s = socket.socket(socket.{family}); " + TALK.format(connect=f"s.connect(({address!r}, 8443))")
    printed = governed.run(job, code, uid=4321)
    record = governed.accepted.get(timeout=20)
    assert record is not None
    assert printed == f"b'PROXY' ({address!r}, 8443) {record.pid}"
    assert (address_text(record.address), record.port, record.protocol) == (asked, 8443, 6)
    assert record.family == {"AF_INET": 2, "AF_INET6": 10}[family]
    assert (record.uid, record.gid, record.tid) == (4321, 4321, record.pid)
    assert record.netns == governed.netns
    assert record.task_cgroup == record.task_job == record.socket_job == job.stat().st_ino
    exe = os.stat(sys.executable)
    assert (record.exe_inode, record.exe_device) == (
        exe.st_ino,
        os.major(exe.st_dev) << 20 | os.minor(exe.st_dev),
    )
    assert record.exe_name == os.path.basename(os.path.realpath(sys.executable))
    assert record.comm == os.path.basename(sys.executable)[:15]
    assert 0 < record.start_ns < record.connect_ns
    assert governed.eyes.seen() == []
    counted = governed.counted()
    assert (counted["tcp-turned"], counted["flow-written"], counted["flow-removed"]) == (1, 1, 1)


WAYS = {
    "bound source": f"s.bind(({HOST4!r}, 0)); s.connect(({OUTSIDE4!r}, 80))",
    "fast open": f"s.settimeout(None); s.sendto(b'x', 0x20000000, ({OUTSIDE4!r}, 80))",
    "fast open at connect": f"s.setsockopt(6, 30, 1); s.connect(({OUTSIDE4!r}, 80)); s.send(b'x')",
    "bound device": f"s.setsockopt(1, 25, b'v0'); s.connect(({OUTSIDE4!r}, 80))",
    "unicast interface": (
        f"s.setsockopt(0, 50, struct.pack('!I', socket.if_nametoindex('v0'))); s.connect(({OUTSIDE4!r}, 80))"
    ),
    "DNS over TCP": f"s.connect(({OUTSIDE4!r}, 53))",
    "zero address": "s.connect(('0.0.0.0', 8080))",
    "below a job": f"s.connect(({OUTSIDE4!r}, 80))",
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_round_are_turned_too(governed: Governed, job: Path, way: str) -> None:
    cgroup = governed.world.new_cgroup("jobs/one/deep/deeper") if way == "below a job" else job
    code = f"s = socket.socket(); s.settimeout(5); {WAYS[way]}; print(s.recv(9))"
    assert governed.run(cgroup, code) == "b'PROXY'"
    record = governed.accepted.get(timeout=20)
    assert record is not None
    assert record.task_job == job.stat().st_ino
    assert record.task_cgroup == cgroup.stat().st_ino
    assert governed.eyes.seen() == []


@pytest.mark.parametrize("poll", ["0", "1"])
@pytest.mark.parametrize("offload", ["0", "1"])
def test_io_uring(governed: Governed, job: Path, poll: str, offload: str) -> None:
    """The connection is made by a worker of the kernel; it is the process's all the same."""
    argv = [sys.executable, "-m", "tests.kernel.uring", OUTSIDE4, "80", poll, offload]
    done = governed.world.run(argv, cgroup=job, check=True)
    assert done.stdout.strip() == "0 b'PROXY'"
    record = governed.accepted.get(timeout=20)
    assert record is not None
    assert (record.port, record.task_job) == (80, job.stat().st_ino)
    assert record.comm == os.path.basename(sys.executable)[:15]
    assert record.exe_inode == os.stat(sys.executable).st_ino
    assert governed.eyes.seen() == []


def test_a_disconnected_socket_connects_anew(governed: Governed, job: Path) -> None:
    code = f"""
import ctypes
s = socket.socket()
for port in (1111, 2222):
    s.connect(({OUTSIDE4!r}, port)); s.recv(9); print(s.getpeername()[1])
    assert ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16) == 0  # AF_UNSPEC: connect(2)
"""
    assert governed.run(job, code).split() == ["1111", "2222"]
    records = [governed.accepted.get(timeout=20) for _ in range(2)]
    assert [record.port for record in records if record] == [1111, 2222]
    assert governed.counted()["flow-removed"] == 2
    assert governed.eyes.seen() == []


def test_a_thread_is_recorded_as_its_process(governed: Governed, job: Path) -> None:
    code = f"""
import threading
def work():
    open(f'/proc/self/task/{{threading.get_native_id()}}/comm', 'w').write('innocent')
    s = socket.create_connection(({OUTSIDE4!r}, 80)); s.recv(9); print(os.getpid(), threading.get_native_id())
thread = threading.Thread(target=work); thread.start(); thread.join()
"""
    pid, tid = governed.run(job, code).split()
    record = governed.accepted.get(timeout=20)
    assert record is not None
    assert (record.pid, record.tid, record.comm) == (int(pid), int(tid), os.path.basename(sys.executable)[:15])


def test_every_connection_has_its_record(governed: Governed, job: Path) -> None:
    code = f"""
for number in range(300):
    s = socket.create_connection(({OUTSIDE4!r}, 1000 + number)); s.recv(9); s.close()
"""
    governed.run(job, code)
    records = [governed.accepted.get(timeout=20) for _ in range(300)]
    assert [record.port for record in records if record] == [1000 + number for number in range(300)]
    assert governed.eyes.seen() == []


def test_a_record_ends_with_its_connection(governed: Governed, job: Path) -> None:
    """Another process with the same ports must not find it."""
    code = f"""
s = socket.create_connection(({OUTSIDE4!r}, 80)); s.recv(9); print(s.getsockname()[1], flush=True)
s.close()
"""
    port = int(governed.run(job, code))
    governed.accepted.get(timeout=20)
    assert governed.look(("127.0.0.1", port), ("127.0.0.1", 1006), 6) is None
    assert governed.counted()["flow-removed"] == 1


def test_nothing_serves_nothing_passes(governed: Governed, job: Path) -> None:
    """The proxy's listeners are there, but not for this: a port that nobody serves."""
    governed.hooks._ports = (governed.netns, 999, 998)
    governed.hooks.configure(deny_all=False)
    try:
        assert governed.run(job, f"s = socket.socket(); s.connect(({OUTSIDE4!r}, 80))") == "ECONNREFUSED"
    finally:
        governed.hooks._ports = (governed.netns, 1006, 1007)
        governed.hooks.configure(deny_all=False)
    assert governed.eyes.seen() == []


def test_deny_all(governed: Governed, job: Path) -> None:
    governed.hooks.configure(deny_all=True)
    try:
        assert governed.run(job, f"s = socket.socket(); s.connect(({OUTSIDE4!r}, 80))") == "EPERM"
        assert governed.counted() == {"refused-deny-all": 1}
    finally:
        governed.hooks.configure(deny_all=False)
