"""The admin socket from within a job, where more than one process is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bypass.hostile import Hostile
from tests.bypass.rows import tries

pytestmark = pytest.mark.world


@tries("ending another job")
def test_ending_another(hostile: Hostile) -> None:
    assert hostile.attempt(f"say(admin('DELETE', '/jobs/{hostile.two.job}')[0])") == "403"
    assert hostile.two.run("say('alive')") == "alive"


@tries("a placeholder for another job")
def test_minting_for_another(hostile: Hostile) -> None:
    ask = "say(admin('POST', '/mint', {'secret': 'demo', 'job': %r})[0])"
    assert hostile.attempt(ask % hostile.two.job) == "403"
    assert hostile.attempt(ask % hostile.one.job) == "200"


# Takes the pid of a process that has ended (ns_last_pid, pid_namespaces(7)), outside of any job, and stays.
TAKE_PID = """
import os, sys, time
wanted = int(sys.argv[1])
for _ in range(2000):
    open('/proc/sys/kernel/ns_last_pid', 'w').write(str(wanted - 1))
    pid = os.fork()
    if pid == 0:
        time.sleep(20); os._exit(0)
    if pid == wanted:
        print('taken', flush=True); sys.stdin.readline(); os.kill(pid, 9); os.wait(); sys.exit()
    os.kill(pid, 9); os.wait()
print('no', flush=True)
"""
CONNECT = """
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    s = socket.socket(UNIX)
    s.connect(os.environ['COATCHECK_SOCKET'])
    socket.send_fds(theirs, [b'x'], [s.fileno()])
    os._exit(0)
_, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
os.wait()
listener = socket.socket(UNIX)
listener.bind('\\0%s')
listener.listen()
listener.settimeout(6)
taker, _ = listener.accept()
taker.send(str(pid).encode())
taker.recv(9)
say(admin('GET', '/jobs', sock=socket.socket(fileno=descriptors[0]))[0])
"""


@tries("a connection whose maker has ended and whose pid is an operator's by now")
def test_pid_reused(hostile: Hostile) -> None:
    """The maker was of the agent's uid and group, which outside of a job would be an operator's."""
    name = f"{hostile.spine.world.name}-reuse"
    between = f"""
import socket, subprocess, sys, time
s = socket.socket(1, 1)
for _ in range(500):
    try:
        s.connect('\\0{name}'); break
    except ConnectionRefusedError: time.sleep(0.01)
taker = subprocess.Popen([sys.executable, '-c', {TAKE_PID!r}, s.recv(9).decode()], stdin=-1, stdout=-1)
print(taker.stdout.readline().decode(), end='', flush=True)
s.send(b'x'); time.sleep(1); taker.communicate(b'\\n')
"""
    operator = hostile.spine.world.popen([sys.executable, "-c", between], stdout=subprocess.PIPE, text=True)
    assert hostile.attempt(CONNECT % name) == "403"
    assert operator.stdout is not None
    assert operator.stdout.readline() == "taken\n"
    operator.wait(10)
