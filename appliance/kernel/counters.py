"""What the hooks count, in words. The order is `enum counter` of bpf/consts.h."""

from __future__ import annotations

import os
import struct

from appliance.kernel import libbpf

NAMES = (
    "tcp-turned",
    "dns-turned",
    "loopback-direct",
    "flow-written",
    "flow-removed",
    "refused-no-config",
    "refused-deny-all",
    "refused-netns",
    "refused-no-job",
    "refused-unknown-socket",
    "refused-foreign-socket",
    "refused-socket-kind",
    "refused-protocol",
    "refused-own-port",
    "refused-bind",
    "refused-udp",
    "refused-device",
    "dropped-no-config",
    "dropped-deny-all",
    "dropped-interface",
    "dropped-unknown-socket",
    "dropped-packet",
    "dropped-foreign-peer",
    "failed-storage",
    "failed-task",
    "failed-flow",
    "failed-callback",
)


def possible_cpus() -> int:
    """How many values a per-CPU map has: possible, not online, CPUs."""
    with open("/sys/devices/system/cpu/possible") as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return max(int(last) + 1, os.cpu_count() or 1)


def read(fd: int, cpus: int) -> dict[str, int]:
    """Sums over all CPUs. Raises EnvironmentFailed."""
    counted: dict[str, int] = {}
    for index, name in enumerate(NAMES):
        value = libbpf.lookup(fd, index.to_bytes(4, "little"), 8 * cpus) or bytes(8 * cpus)
        counted[name] = sum(each for (each,) in struct.iter_unpack("=Q", value))
    return counted
