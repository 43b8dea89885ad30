"""Within a job loopback is its own; everything else there is a destination like any other, for policy to judge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.attest.layouts import address_text
from tests.kernel.governed import Governed

pytestmark = pytest.mark.world

SERVE_TCP = """
import socket, sys
s = socket.socket({family}); s.setsockopt(1, 2, 1); s.bind(({address!r}, {port})); s.listen(); print('up', flush=True)
while True:
    c, _ = s.accept(); c.sendall(b'OWN'); c.close()
"""
SERVE_UDP = """
import socket, sys
s = socket.socket({family}, 2); s.bind(({address!r}, {port})); print('up', flush=True)
while True:
    d, a = s.recvfrom(99); s.sendto(b'OWN' + d, a)
"""
PORT = 8701


@contextmanager
def served(governed: Governed, cgroup: Path | None, code: str, family: int, address: str) -> Iterator[None]:
    process = governed.world.popen(
        [sys.executable, "-c", code.format(family=family, address=address, port=PORT)],
        cgroup=cgroup,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        governed.forget()
        yield
    finally:
        process.kill()
        process.wait()


ANY = "0.0.0.0"  # noqa: S104
CASES = [
    (2, "127.0.0.1", 2, "127.0.0.1"),
    (2, ANY, 2, "127.0.0.1"),
    (2, ANY, 2, ANY),
    (2, "127.0.0.1", 10, "::ffff:127.0.0.1"),
    (10, "::1", 10, "::1"),
    (10, "::", 10, "::"),
    (10, "::", 2, "127.0.0.1"),
    (2, "127.7.7.7", 2, "127.7.7.7"),
]


@pytest.mark.parametrize(("family", "bound", "client", "address"), CASES)
def test_same_job_tcp(governed: Governed, job: Path, family: int, bound: str, client: int, address: str) -> None:
    with served(governed, job, SERVE_TCP, family, bound):
        code = f"s = socket.socket({client}); s.settimeout(5); s.connect(({address!r}, {PORT})); print(s.recv(9))"
        assert governed.run(job, code) == "b'OWN'"
    assert governed.counted()["loopback-direct"] == 1
    assert governed.accepted.empty()


@pytest.mark.parametrize(("family", "bound", "client", "address"), CASES)
@pytest.mark.parametrize("connected", [True, False])
def test_same_job_udp(
    governed: Governed, job: Path, family: int, bound: str, client: int, address: str, connected: bool
) -> None:
    with served(governed, job, SERVE_UDP, family, bound):
        send = (
            f"s.connect(({address!r}, {PORT})); s.send(b'x')" if connected else f"s.sendto(b'x', ({address!r}, {PORT}))"
        )
        code = f"s = socket.socket({client}, 2); s.settimeout(5); {send}; print(s.recv(9))"
        assert governed.run(job, code) == "b'OWNx'"
    assert governed.eyes.seen() == []


@pytest.mark.parametrize("owner", ["another job", "the host"])
@pytest.mark.parametrize("address", ["127.0.0.1", ANY, "::ffff:127.0.0.1"])
def test_others_tcp_is_for_policy(governed: Governed, job: Path, owner: str, address: str) -> None:
    cgroup = governed.job("two") if owner == "another job" else None
    with served(governed, cgroup, SERVE_TCP, 2, "127.0.0.1"):
        family = 10 if ":" in address else 2
        code = f"s = socket.socket({family}); s.settimeout(5); s.connect(({address!r}, {PORT})); print(s.recv(9))"
        assert governed.run(job, code) == "b'PROXY'"
    record = governed.accepted.get(timeout=20)
    assert record is not None
    assert (address_text(record.address), record.port) == ("127.0.0.1", PORT)


@pytest.mark.parametrize("owner", ["another job", "the host"])
def test_others_udp_is_refused(governed: Governed, job: Path, owner: str) -> None:
    cgroup = governed.job("two") if owner == "another job" else None
    with served(governed, cgroup, SERVE_UDP, 2, "127.0.0.1"):
        assert governed.run(job, f"s = socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', {PORT}))") == "EPERM"


def test_udp_whose_receiver_changed(governed: Governed, job: Path) -> None:
    """Connected to a socket of its own job, then somebody else takes the port: nothing more gets there."""
    code = f"""
own = socket.socket(2, 2); own.bind(('127.0.0.1', {PORT}))
s = socket.socket(2, 2); s.connect(('127.0.0.1', {PORT})); s.send(b'first')
own.close(); print('closed', flush=True); sys.stdin.readline()
s.send(b'second'); print('sent')
"""
    process = governed.world.popen(
        [sys.executable, "-c", f"import socket, sys\n{code}"],
        cgroup=job,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "closed\n"
    with served(governed, None, SERVE_UDP, 2, "127.0.0.1"):
        out, err = process.communicate("\n", timeout=30)
        assert "PermissionError" in err
        assert "sent" not in out
    assert governed.counted()["dropped-foreign-peer"] == 1


def test_what_a_job_serves_can_be_used_by_the_host(governed: Governed, job: Path) -> None:
    with served(governed, job, SERVE_TCP, 2, "127.0.0.1"):
        code = f"import socket; print(socket.create_connection(('127.0.0.1', {PORT})).recv(9))"
        assert governed.world.python(code, check=True).stdout.strip() == "b'OWN'"
