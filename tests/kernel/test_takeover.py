"""What is governed stays governed: over our end, our restart, an upgrade under load, until it is released."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from appliance.kernel import pins
from appliance.kernel.cgroups import CgroupTree, cgroup2_mount
from appliance.kernel.hooks import Hooks
from appliance.kernel.layouts import JobValue
from tests.kernel.governed import PROXY_PORT, Governed
from tests.world import OUTSIDE4, World

pytestmark = pytest.mark.world

CONNECT = f"""
import errno, socket
s = socket.socket(); s.settimeout(5)
try:
    s.connect(({OUTSIDE4!r}, 80)); print(s.recv(9))
except OSError as error:
    print(errno.errorcode.get(error.errno, error))
"""
LOAD = f"""
import collections, socket, sys, time
found = collections.Counter(); end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    s = socket.socket(); s.settimeout(2)
    try:
        s.connect(({OUTSIDE4!r}, 80)); found[s.recv(9).decode()] += 1
    except OSError as error:
        found[str(error.errno)] += 1
    s.close()
print(*(f'{{name}}={{count}}' for name, count in found.items()))
"""
HOLD = """
import sys
from pathlib import Path
from appliance.attest.flowmap import netns_cookie
from appliance.kernel.hooks import Hooks
from appliance.kernel.layouts import JobValue
folder, root, job = map(Path, sys.argv[1:])
hooks = Hooks(folder, netns_cookie(), 1006, 1007)
hooks.put_job(job.stat().st_ino, JobValue(True, 0, 'j-0', 'test'))
hooks.attach(root.stat().st_ino, root)
print('up', flush=True); sys.stdin.read()
"""


def test_killed_and_restarted(world: World) -> None:
    folder, root, job = world.dir / "bpf", world.new_cgroup("jobs"), world.new_cgroup("jobs/one")
    outside = world.listener("outside", OUTSIDE4, 80)
    pins.mount(folder)
    holder = world.popen(
        [sys.executable, "-c", HOLD, str(folder), str(root), str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"up\n"
    assert world.python(CONNECT, cgroup=job).stdout == "ECONNREFUSED\n"  # no proxy there yet
    holder.kill()
    holder.wait()
    assert world.python(CONNECT, cgroup=job).stdout == "ECONNREFUSED\n"
    hooks = Hooks(folder, 12345, PROXY_PORT, 1007)  # of another namespace: now the hook itself refuses
    tree = CgroupTree(cgroup2_mount())
    assert hooks.take_over(tree.path_now, tree.mount) == [root.stat().st_ino]
    assert hooks.jobs()[job.stat().st_ino] == JobValue(True, 0, "j-0", "test")
    assert world.python(CONNECT, cgroup=job).stdout == "EPERM\n"
    hooks.close()
    assert world.python(CONNECT, cgroup=job).stdout == "EPERM\n"
    outside.setblocking(False)
    with pytest.raises(BlockingIOError):
        outside.accept()
    pins.release(folder)
    deadline = time.monotonic() + 5  # links are let go of a moment later
    while world.python(CONNECT, cgroup=job).stdout == "EPERM\n":
        assert time.monotonic() < deadline
    assert not folder.exists()


def test_upgrades_under_load(governed: Governed, job: Path) -> None:
    """Programs are exchanged again and again while connections are made: none gets past."""
    world = governed.world
    load = world.popen([sys.executable, "-c", LOAD, "3"], cgroup=job, stdout=subprocess.PIPE, text=True)
    tree = CgroupTree(cgroup2_mount())
    upgrades = 0
    while load.poll() is None:
        hooks = governed.load()
        assert hooks.take_over(tree.path_now, tree.mount) == [governed.root.stat().st_ino]
        hooks.close()
        upgrades += 1
    tree.close()
    out, _ = load.communicate()
    counts = dict(word.split("=") for word in out.split())
    print(f"{upgrades} upgrades, {out}")
    assert set(counts) == {"PROXY"}
    assert int(counts["PROXY"]) > 100
    assert upgrades > 3
    assert governed.eyes.seen() == []


def test_a_layout_of_another_version(governed: Governed, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps cannot be taken over then; jobs are carried on, and there is no gap."""
    monkeypatch.setattr("appliance.kernel.hooks.LAYOUT", 2)
    stop, results = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            results.append(governed.run(job, CONNECT))

    thread = threading.Thread(target=load)
    thread.start()
    tree = CgroupTree(cgroup2_mount())
    before = governed.hooks.jobs()
    new = governed.load()
    assert new.jobs() == before
    new.take_over(tree.path_now, tree.mount)
    stop.set()
    thread.join()
    tree.close()
    assert set(results) <= {"b'PROXY'", "b''", "EPERM", "ECONNRESET"}
    assert governed.run(job, CONNECT) == "b'PROXY'"
    assert governed.eyes.seen() == []
    assert sorted(path.name for path in governed.pins.iterdir() if path.is_dir()) == ["links", "maps-2"]
    new.close()
