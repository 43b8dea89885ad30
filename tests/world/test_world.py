"""The world keeps its promises: it is private, it works, and nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import HOST4, OUTSIDE4, OUTSIDE6, World, cgroup2_mount
from tests.world.world import REPOSITORY

pytestmark = pytest.mark.world


def _traces(name: str) -> list[str]:
    found = [str(p) for p in (*cgroup2_mount().glob(f"{name}*"), *Path("/tmp").glob(f"{name}*"))]
    found += [str(p) for p in Path("/run/netns").glob(f"{name}*")]
    return found + [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]


@pytest.mark.parametrize("address", [OUTSIDE4, OUTSIDE6])
def test_host_reaches_outside(world: World, address: str) -> None:
    server = world.listener("outside", address)
    port = server.getsockname()[1]
    code = f"import socket; s = socket.create_connection(({address!r}, {port}), 5); print(s.getsockname()[0])"
    done = world.python(code, check=True)
    assert done.stdout.strip() == {OUTSIDE4: HOST4, OUTSIDE6: "fd77::1"}[address]


def test_programs_run_where_they_are_told(world: World) -> None:
    cgroup = world.new_cgroup("here/below")
    code = "import os; print(os.getuid(), os.getgid(), os.getgroups(), open('/proc/self/cgroup').read())"
    done = world.python(code, cgroup=cgroup, uid=4242, groups=(7, 8), check=True)
    assert done.stdout.startswith("4242 4242 [7, 8]")
    assert f"0::/{world.cgroup_name}/here/below\n" in done.stdout


def test_mounts_are_private(world: World) -> None:
    file = world.dir / "resolv.conf"
    file.write_text("nameserver 192.0.2.53\n")
    done = world.run(["cat", "/etc/resolv.conf"], mounts={"/etc/resolv.conf": str(file)}, check=True)
    assert done.stdout == file.read_text()
    assert Path("/etc/resolv.conf").read_text() != file.read_text()


def test_nothing_stays_after_a_failure() -> None:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    with pytest.raises(ZeroDivisionError), World() as world:  # noqa: PT012  # the failure is the point
        name = world.name
        process = world.popen(["setsid", "sleep", "600"])
        mounted = world.dir / "m"
        mounted.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(mounted)], check=True)
        assert _traces(name)
        raise ZeroDivisionError
    assert _traces(name) == []
    assert process.returncode is not None
    assert not os.path.exists(f"/proc/{process.pid}")
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout == links


def test_what_a_killed_maker_left_is_removed_by_the_next_world() -> None:
    code = "import time\nfrom tests.world import World\nworld = World()\nworld.__enter__()\n"
    code += "world.popen(['sleep', '1000'])\n"
    code += "while not (world.free / 'cgroup.procs').read_text(): time.sleep(0.01)\n"
    code += "print(world.name, flush=True)\ntime.sleep(1000)"
    maker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert maker.stdout is not None
    name = maker.stdout.readline().strip()
    cgroup = cgroup2_mount() / name
    maker.kill()
    maker.wait()  # its output stays open in the sleeper
    assert (cgroup / "free" / "cgroup.procs").read_text()
    with World() as world:
        assert not cgroup.exists()  # nor has it a process then
        assert not os.path.exists(f"/run/netns/{name}-host")
        assert not list(world.dir.parent.glob(f"{name}-*"))
        assert world.cgroup.exists()
