"""Programs run unattached (BPF_PROG_TEST_RUN).

On the kernels there are, this is possible for cgroup_skb programs. The other types (cgroup_sock, cgroup_sock_addr,
sock_ops) have no test_run operation: bpf(2) answers ENOTSUPP, which `test_which_cannot` holds on to. These are tested
attached, in a world.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from appliance.kernel import libbpf
from appliance.kernel.hooks import Hooks
from appliance.model.errors import EnvironmentFailed
from tests.world import World

pytestmark = pytest.mark.world

ETHERNET = bytes(12) + b"\x08\x00"
ETHERNET6 = bytes(12) + b"\x86\xdd"


def _ipv4(protocol: int, payload: bytes) -> bytes:
    to = socket.inet_aton("127.0.0.1")
    return ETHERNET + struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, to, to) + payload


def _ipv6(following: int, payload: bytes) -> bytes:
    to = socket.inet_pton(socket.AF_INET6, "::1")
    return ETHERNET6 + struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + to + to + payload


PACKETS = {
    "udp": _ipv4(17, struct.pack("!HHHH", 40000, 1007, 8, 0)),
    "tcp": _ipv4(6, struct.pack("!HHIIBBHHH", 40000, 1006, 1, 0, 0x50, 2, 1024, 0, 0)),
    "udp6": _ipv6(17, struct.pack("!HHHH", 40000, 1007, 8, 0)),
    "hop by hop": _ipv6(0, bytes(16)),
}


@pytest.fixture(scope="module")
def hooks() -> Iterator[Hooks]:
    with World() as world:
        made = Hooks(world.dir / "bpf", 1, 1006, 1007)
        yield made
        made.close()


def _run(hooks: Hooks, packet: bytes) -> tuple[int, dict[str, int]]:
    before = hooks.counted()
    returned = libbpf.run_unattached(hooks._object.programs["egress"], packet)
    return returned, {name: value - before[name] for name, value in hooks.counted().items() if value != before[name]}


@pytest.mark.parametrize("packet", PACKETS)
def test_egress_drops_what_it_does_not_know(hooks: Hooks, packet: str) -> None:
    """On loopback, but from a socket that never went through sock_create."""
    assert _run(hooks, PACKETS[packet]) == (0, {"dropped-unknown-socket": 1})


def test_egress_drops_all_when_told(hooks: Hooks) -> None:
    hooks.configure(deny_all=True)
    try:
        assert _run(hooks, PACKETS["tcp"]) == (0, {"dropped-deny-all": 1})
    finally:
        hooks.configure(deny_all=False)


def test_egress_drops_all_until_configured(hooks: Hooks) -> None:
    ports, hooks._ports = hooks._ports, (0, 0, 0)
    hooks.configure(deny_all=False)
    try:
        assert _run(hooks, PACKETS["tcp"]) == (0, {"dropped-no-config": 1})
    finally:
        hooks._ports = ports
        hooks.configure(deny_all=False)


def test_which_cannot(hooks: Hooks) -> None:
    cannot = set()
    for name, program in hooks._object.programs.items():
        try:
            libbpf.run_unattached(program, PACKETS["tcp"])
        except EnvironmentFailed:
            cannot.add(name)
    assert cannot == set(hooks.names) - {"egress"}
