"""Every way out that is not TCP or DNS by way of us is refused, counted, and sends nothing."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.kernel.governed import DNS_PORT, PROXY_PORT, Governed
from tests.world import HOST4, OUTSIDE4, OUTSIDE6

pytestmark = pytest.mark.world

RAW = "struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 1, 0, 64, 17, 0, bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2]))"
ATTEMPTS: list[tuple[str, str, str]] = [
    ("QUIC by sendto", f"s = socket.socket(2, 2); s.sendto(b'x', ({OUTSIDE4!r}, 443))", "refused-udp"),
    ("QUIC by connect", f"s = socket.socket(2, 2); s.connect(({OUTSIDE4!r}, 443)); s.send(b'x')", "refused-udp"),
    ("UDP over IPv6", f"s = socket.socket(10, 2); s.sendto(b'x', ({OUTSIDE6!r}, 443))", "refused-udp"),
    ("UDP over IPv6, connected", f"s = socket.socket(10, 2); s.connect(({OUTSIDE6!r}, 443))", "refused-udp"),
    ("mapped UDP", f"s = socket.socket(10, 2); s.sendto(b'x', ('::ffff:{OUTSIDE4}', 443))", "refused-udp"),
    ("mapped UDP, connected", f"s = socket.socket(10, 2); s.connect(('::ffff:{OUTSIDE4}', 443))", "refused-udp"),
    ("multicast", "s = socket.socket(2, 2); s.sendto(b'x', ('224.0.0.5', 5000))", "refused-udp"),
    ("mDNS", "s = socket.socket(10, 2); s.sendto(b'x', ('ff02::fb', 5353))", "refused-udp"),
    (
        "broadcast",
        "s = socket.socket(2, 2); s.setsockopt(1, 6, 1); s.sendto(b'x', ('255.255.255.255', 67))",
        "refused-udp",
    ),
    ("UDP to loopback", "s = socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', 8125))", "refused-udp"),
    ("UDP to zero", "s = socket.socket(2, 2); s.sendto(b'x', ('0.0.0.0', 8125))", "refused-udp"),
    (
        "UDP to the forwarder itself",
        f"s = socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', {DNS_PORT}))",
        "refused-udp",
    ),
    ("MPTCP", f"s = socket.socket(2, 1, 262); s.connect(({OUTSIDE4!r}, 80))", "refused-socket-kind"),
    ("MPTCP over IPv6", f"s = socket.socket(10, 1, 262); s.connect(({OUTSIDE6!r}, 80))", "refused-socket-kind"),
    ("raw ICMP", "socket.socket(2, 3, 1)", "refused-socket-kind"),
    ("raw with header", f"s = socket.socket(2, 3, 255); s.sendto({RAW}, ({OUTSIDE4!r}, 0))", "refused-socket-kind"),
    ("raw ICMPv6", "socket.socket(10, 3, 58)", "refused-socket-kind"),
    ("ping", "socket.socket(2, 2, 1)", "refused-socket-kind"),
    ("ping over IPv6", "socket.socket(10, 2, 58)", "refused-socket-kind"),
    ("proxy port", f"s = socket.socket(); s.connect(('127.0.0.1', {PROXY_PORT}))", "refused-own-port"),
    ("proxy port, zero", f"s = socket.socket(); s.connect(('0.0.0.0', {PROXY_PORT}))", "refused-own-port"),
    ("proxy port, other", f"s = socket.socket(); s.connect(('127.9.9.9', {PROXY_PORT}))", "refused-own-port"),
    ("proxy port, IPv6", f"s = socket.socket(10); s.connect(('::1', {PROXY_PORT}))", "refused-own-port"),
    ("proxy port, ::", f"s = socket.socket(10); s.connect(('::', {PROXY_PORT}))", "refused-own-port"),
    ("proxy port, mapped", f"s = socket.socket(10); s.connect(('::ffff:127.0.0.1', {PROXY_PORT}))", "refused-own-port"),
    ("forwarder port", f"s = socket.socket(); s.connect(('127.0.0.1', {DNS_PORT}))", "refused-own-port"),
    ("squatting", f"s = socket.socket(); s.bind(('127.0.0.1', {PROXY_PORT}))", "refused-bind"),
    ("squatting elsewhere", f"s = socket.socket(); s.bind(({HOST4!r}, {PROXY_PORT}))", "refused-bind"),
    ("squatting, IPv6", f"s = socket.socket(10); s.bind(('::', {PROXY_PORT}))", "refused-bind"),
    ("squatting DNS", f"s = socket.socket(2, 2); s.bind(('0.0.0.0', {DNS_PORT}))", "refused-bind"),
    (
        "UDP bound to a device",
        f"s = socket.socket(2, 2); s.setsockopt(1, 25, b'v0'); s.sendto(b'x', ({OUTSIDE4!r}, 53))",
        "refused-device",
    ),
]


@pytest.mark.parametrize(("code", "counter"), [a[1:] for a in ATTEMPTS], ids=[a[0] for a in ATTEMPTS])
def test_refused(governed: Governed, job: Path, code: str, counter: str) -> None:
    assert governed.run(job, code) == "EPERM"
    assert governed.counted() == {counter: 1}
    assert governed.eyes.seen() == []


@pytest.mark.parametrize("protocol", [(2, 2, 136), (2, 1, 132), (2, 6, 33), (2, 2, 115), (10, 2, 136)])
def test_rare_protocols(governed: Governed, job: Path, protocol: tuple[int, int, int]) -> None:
    """UDPLITE, SCTP, DCCP, L2TP: refused by us, or not there at all, by kernel."""
    code = f"s = socket.socket{protocol}; print('made')"
    assert governed.run(job, code) in ("EPERM", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EAFNOSUPPORT")


def test_no_job(governed: Governed) -> None:
    """A process below the governed parent that belongs to no registered job gets no socket at all."""
    cgroup = governed.world.new_cgroup("jobs/unregistered")
    assert governed.run(cgroup, "socket.socket()") == "EPERM"
    assert governed.counted() == {"refused-no-job": 1}


def test_inbound(governed: Governed, job: Path) -> None:
    """Nobody outside can fetch what a job serves: its SYN-ACK does not leave."""
    serve = f"s = socket.socket(); s.bind(({HOST4!r}, 8088)); s.listen(); print(1, flush=True); s.accept()"
    server = governed.world.popen(
        [sys.executable, "-c", f"import socket\n{serve}"],
        cgroup=job,
        stdout=-1,
    )
    assert server.stdout is not None
    server.stdout.readline()
    governed.forget()
    with governed.world.inside("outside", socket.socket) as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.connect((HOST4, 8088))
    assert governed.eyes.seen() == []
    assert governed.counted()["dropped-interface"] >= 1
    server.kill()


def test_other_network_namespace(governed: Governed, job: Path) -> None:
    code = f"""
import ctypes
assert ctypes.CDLL(None).unshare(0x40000000) == 0
s = socket.socket(); s.connect(({OUTSIDE4!r}, 80))
"""
    assert governed.run(job, code) == "EPERM"
    assert governed.counted() == {"refused-netns": 1}


PASS = "s = {make}; socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b'x'], [s.fileno()]); time.sleep({stay})"
TAKE = "_, fds, _, _ = socket.recv_fds(socket.socket(fileno=int(sys.argv[1])), 9, 1); s = socket.socket(fileno=fds[0])"


@pytest.mark.parametrize(
    ("make", "use"),
    [
        ("socket.socket()", f"s.connect(({OUTSIDE4!r}, 80))"),
        ("socket.socket(2, 2)", f"s.sendto(b'x', ({OUTSIDE4!r}, 53))"),
        ("socket.socket(2, 2)", f"s.connect(({OUTSIDE4!r}, 53))"),
    ],
)
def test_a_socket_of_another_job(governed: Governed, job: Path, make: str, use: str) -> None:
    """Passed by SCM_RIGHTS: it may not be used under the name of the job that made it."""
    other = governed.job("two")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        governed.run(other, PASS.format(make=make, stay=0), str(ours.fileno()), pass_fds=[ours.fileno()])
        printed = governed.run(job, f"{TAKE}; {use}", str(theirs.fileno()), pass_fds=[theirs.fileno()])
    assert printed == "EPERM"
    assert governed.counted() == {"refused-foreign-socket": 1}
    assert governed.eyes.seen() == []


def test_moved_to_another_job(governed: Governed, job: Path) -> None:
    """A socket made before its process was moved stays with the old job."""
    other = governed.job("two")
    code = f"""
s = socket.socket()
open({str(other)!r} + '/cgroup.procs', 'w').write(str(os.getpid()))
s.connect(({OUTSIDE4!r}, 80))
"""
    assert governed.run(job, code) == "EPERM"
    assert governed.counted() == {"refused-foreign-socket": 1}


BEFORE = """
s = {make}
print('made', flush=True); sys.stdin.readline()
{use}
"""


@pytest.mark.parametrize(
    ("make", "use", "printed"),
    [
        ("socket.socket()", "s.connect(('10.77.0.2', 80))", "EPERM"),
        ("socket.create_connection(('10.77.0.2', 7777))", "s.settimeout(0.4); s.send(b'leak'); s.recv(9)", "timed out"),
        ("socket.create_connection(('127.0.0.1', 7778))", "s.settimeout(0.4); s.send(b'leak'); s.recv(9)", "timed out"),
        ("socket.socket(2, 2); s.connect(('10.77.0.2', 9999))", "s.send(b'leak')", "EPERM"),
    ],
)
def test_sockets_from_before(governed: Governed, make: str, use: str, printed: str) -> None:
    """An existing cgroup becomes governed: what it had open is cut off."""
    world = governed.world
    servers = [world.listener("outside", OUTSIDE4, 7777), world.listener("host", "127.0.0.1", 7778)]
    cgroup = world.new_cgroup("existing")
    process = world.popen(
        [sys.executable, "-c", f"import socket, sys, errno\ntry:\n{_block(BEFORE.format(make=make, use=use))}"],
        cgroup=cgroup,
        stdin=-1,
        stdout=-1,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    governed.job("../existing")
    governed.hooks.attach(cgroup.stat().st_ino, cgroup)
    governed.forget()
    try:
        out, _ = process.communicate("\n", timeout=30)
        assert out.strip() == printed
        assert governed.eyes.seen() == []
        counted = governed.counted()
        assert (
            counted.get("dropped-interface", 0)
            + counted.get("dropped-unknown-socket", 0)
            + counted.get("refused-unknown-socket", 0)
        )
    finally:
        governed.hooks.detach(cgroup.stat().st_ino)
        for server in servers:
            server.close()


def _block(code: str) -> str:
    lines = [f"  {line}" for line in code.strip().splitlines()]
    return "\n".join([*lines, "except OSError as error:", "  print(errno.errorcode.get(error.errno, error))"])
