"""UDP to port 53 goes to the forwarder whatever its address, and the answer seems to come from where it was sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.attest.layouts import address_text
from tests.kernel.governed import DNS_PORT, Governed
from tests.world import HOST4, OUTSIDE4, OUTSIDE6

pytestmark = pytest.mark.world

ADDRESSES = [
    ("AF_INET", OUTSIDE4, OUTSIDE4),
    ("AF_INET", "127.0.0.53", "127.0.0.53"),
    ("AF_INET", "127.0.0.1", "127.0.0.1"),
    ("AF_INET6", OUTSIDE6, OUTSIDE6),
    ("AF_INET6", "::1", "::1"),
    ("AF_INET6", f"::ffff:{OUTSIDE4}", OUTSIDE4),
]
WAYS = {
    "connected": "s.connect(to); s.send(b'q'); print(s.recv(99), s.recvfrom.__name__, s.getpeername()[:2] == to)",
    "connected, source shown": "s.connect(to); s.send(b'q'); d, a = s.recvfrom(99); print(d, 'recvfrom', a[:2] == to)",
    "unconnected": "s.sendto(b'q', to); d, a = s.recvfrom(99); print(d, 'recvfrom', a[:2] == to)",
    "connected elsewhere in between": (
        "s.connect(to); s.sendto(b'q', to); d, a = s.recvfrom(99); print(d, 'recvfrom', a[:2] == to)"
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("family", "address", "asked"), ADDRESSES)
def test_forwarded_and_answered(governed: Governed, job: Path, family: str, address: str, asked: str, way: str) -> None:
    code = f"s = socket.socket(socket.{family}, 2); s.settimeout(5); to = ({address!r}, 53)\n{WAYS[way]}"
    assert governed.run(job, code, uid=77) == "b'answer:q' recvfrom True"
    record = governed.asked.get(timeout=20)
    assert record is not None
    assert (address_text(record.address), record.port, record.protocol, record.uid) == (asked, 53, 17, 77)
    assert record.task_job == record.socket_job == job.stat().st_ino
    assert governed.eyes.seen() == []
    counted = governed.counted()
    assert counted["flow-written"] == counted["flow-removed"] == 1


def test_bound_source(governed: Governed, job: Path) -> None:
    code = f"s = socket.socket(2, 2); s.settimeout(5); s.bind(({HOST4!r}, 0)); s.sendto(b'q', ({OUTSIDE4!r}, 53))\n"
    assert governed.run(job, code + "print(s.recvfrom(9)[0])") == "b'answer:q'"
    record = governed.asked.get(timeout=20)
    assert record is not None
    assert record.task_job == job.stat().st_ino


def test_the_port_is_forgotten_with_the_socket(governed: Governed, job: Path) -> None:
    code = f"s = socket.socket(2, 2); s.sendto(b'q', ({OUTSIDE4!r}, 53)); s.recv(99); print(s.getsockname()[1])"
    port = int(governed.run(job, code))
    assert governed.asked.get(timeout=20) is not None
    assert governed.look(("127.0.0.1", port), ("127.0.0.1", DNS_PORT), 17) is None


def test_connected_for_dns_and_then_elsewhere(governed: Governed, job: Path) -> None:
    code = f"s = socket.socket(2, 2); s.connect(({OUTSIDE4!r}, 53)); s.sendto(b'x', ({OUTSIDE4!r}, 443))"
    assert governed.run(job, code) == "EPERM"
    assert governed.eyes.seen() == []
    assert governed.counted()["refused-udp"] == 1
