"""How it ends: by SIGTERM, by SIGKILL of the supervisor, by `release`; and what systemd is told meanwhile."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.processes import NAMES, gone, pids
from tests.e2e.spine import HOST, Spine
from tests.world import OUTSIDE4
from tests.world.appliance import Appliance

pytestmark = pytest.mark.world


def mounted(folder: Path) -> list[str]:
    """Types of what is mounted at `folder` or below it."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [words[words.index("-") + 1] for words in lines if f"{words[4]}/".startswith(f"{folder}/")]


def members(spine: Spine) -> list[str]:
    """Processes in all of the world's cgroups."""
    return [pid for file in spine.world.cgroup.rglob("cgroup.procs") for pid in file.read_text().split()]


def listening(spine: Spine, path: str) -> socket.socket:
    """A NOTIFY_SOCKET (sd_notify(3)). Abstract addresses belong to a network namespace."""
    sock = spine.world.inside("host", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sock.bind("\0" + path[1:] if path.startswith("@") else path)
    sock.settimeout(10)
    return sock


@pytest.mark.parametrize("name", [lambda folder: f"{folder}/notify", lambda folder: f"@{folder}/notify"])
def test_sigterm(name: Callable[[Path], str], tmp_path: Path) -> None:
    """Exit status 0, in order, with nothing left but what is documented: the pins, until `release`."""
    path = name(tmp_path)
    with Spine(environment={"NOTIFY_SOCKET": path}, start=False) as spine, listening(spine, path) as told:
        appliance = spine.appliance
        before = members(spine)
        appliance.start()
        assert told.recv(4096) == b"READY=1"
        running = pids(appliance)
        assert spine.shell(f"curl -sS https://{HOST}/echo").returncode == 0
        holding = spine.world.popen(
            appliance.job_command(["sleep", "600"]),
            cwd="/",
            env=appliance.environment,
            uid=65534,
            groups=[appliance.group],
        )
        while "sleep" not in os.readlink(f"/proc/{holding.pid}/exe"):
            pass
        assert appliance.stop() == 0
        assert told.recv(4096) == b"STOPPING=1"
        assert [name for name, pid in running.items() if not gone(pid, 0.1)] == []
        assert set(members(spine)) - set(before) == {str(holding.pid)}  # jobs go on, refused
        assert mounted(appliance.run_dir) == ["bpf"]
        assert release(appliance) == "released: nothing is governed any more\n"
        assert mounted(appliance.run_dir) == []
        assert release(appliance) == "released: nothing is governed any more\n"  # nothing to do
        holding.kill()
        assert [r["event"] for r in appliance.audit() if r["type"] == "service"] == ["started", "stopped"]


def release(appliance: Appliance) -> str:
    done = appliance.cli("release", "--config", str(appliance.config_file))
    assert done.returncode == 0, done.stderr
    return done.stdout


CONNECT = f"""
import errno, socket, sys
for line in sys.stdin:
    s = socket.socket()
    s.settimeout(3)
    try:
        s.connect(({OUTSIDE4!r}, 7777)); s.send(b'leak\\n'); s.recv(9); print('answered', flush=True)
    except OSError as error:
        print(errno.errorcode.get(error.errno, type(error).__name__), flush=True)
"""


def test_the_supervisor_is_killed() -> None:
    """Its children die with it, the hooks stay, connects are refused, and the next start takes over."""
    with Spine() as spine:
        appliance = spine.appliance
        spine.world.listener("outside", OUTSIDE4, 7777)
        agent = spine.world.popen(
            appliance.job_command([*appliance.python, "-c", CONNECT]),
            cwd="/",
            env=appliance.environment,
            uid=65534,
            groups=[appliance.group],
            stdin=-1,
            stdout=-1,
            text=True,
        )

        def attempt() -> str:
            assert agent.stdin is not None
            assert agent.stdout is not None
            agent.stdin.write("\n")
            agent.stdin.flush()
            return str(agent.stdout.readline()).strip()

        assert attempt() == "ECONNRESET"
        running = pids(appliance)
        assert set(running) == set(NAMES)
        assert appliance.process is not None
        appliance.process.send_signal(signal.SIGKILL)
        appliance.process.wait()
        appliance.process = None
        assert [name for name, pid in running.items() if not gone(pid)] == []
        assert attempt() == "ECONNREFUSED"
        assert mounted(appliance.run_dir) == ["bpf"]
        appliance.start()
        assert attempt() == "ECONNRESET"  # the job is known again: judged and denied
        denied = [r for r in appliance.audit() if r["type"] == "flow.opened"]
        assert len({(r["job"], r["principal"], r["decision"]) for r in denied}) == 1
        assert len(denied) == 2
        assert spine.shell(f"curl -sS https://{HOST}/echo").returncode == 0
        verified = appliance.cli("audit", "verify")
        assert verified.returncode == 0, verified
        agent.kill()


def test_a_second_one_is_refused() -> None:
    with Spine() as spine:
        appliance = spine.appliance
        done = appliance.cli("up", "--config", str(appliance.config_file))
        assert done.returncode == 1
        assert "another coatcheck runs" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        done = appliance.cli("release", "--config", str(appliance.config_file))
        assert done.returncode != 0  # not under a running one
        assert spine.shell(f"curl -sS https://{HOST}/echo").returncode == 0
