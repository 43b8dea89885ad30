"""What all targets share: the world, the upstream, the CPUs, and the names by which clients find the upstream."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.generators import probe
from benchmarks.upstream import CREDENTIAL, HOST, Upstream, make_authority
from tests.world import OUTSIDE4, World

LOAD_CPU, TARGET_CPU = 0, 1
_EVER_NEEDED = {"nft": "nftables", "taskset": "util-linux", "/usr/bin/python3": "python3"}
_SYSCTLS = (
    # thousands of connections a second from one address to one port, for minutes
    "echo '12000 65000' > /proc/sys/net/ipv4/ip_local_port_range && echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse"
)


class Ground:
    """The same for every protocol. Attributes: `world`, `hosts_file`, `upstream_ca` (signs the upstream's certificate),
    `proxy_ca` (signs what the peers show to clients: that a client which trusts only this one is content proves that it
    was intercepted)."""

    port: ClassVar[int]  # of the upstream
    probe: str  # a shell script that asks for something the whole way …
    probe_answer: str  # … and what it prints, spaces apart, if all is well

    def __init__(self, world: World, needed: Mapping[str, str], names: Sequence[str]) -> None:
        """`needed`: programs and their packages; `names`: of the upstream. Raises RuntimeError if a program or the
        second CPU is missing."""
        programs = {**_EVER_NEEDED, **needed}
        missing = sorted({package for program, package in programs.items() if shutil.which(program) is None})
        if missing:
            raise RuntimeError(f"programs are missing: apt-get install {' '.join(missing)}")
        if not {LOAD_CPU, TARGET_CPU} <= os.sched_getaffinity(0):
            raise RuntimeError(f"this needs CPUs {LOAD_CPU} and {TARGET_CPU}: load on the one, target on the other")
        os.sched_setaffinity(0, {LOAD_CPU})  # the benchmark itself must not disturb the target
        self.world = world
        self.upstream_ca = make_authority(world.dir, "upstream-ca")
        self.proxy_ca = make_authority(world.dir, "proxy-ca")
        self.hosts_file = world.dir / "hosts"
        self.hosts_file.write_text(f"127.0.0.1 localhost\n{OUTSIDE4} {' '.join(names)}\n")
        world.run(["sh", "-c", _SYSCTLS], where="host", check=True)
        world.run(["sh", "-c", _SYSCTLS], where="outside", check=True)

    def environment(self, trust: Path) -> dict[str, str]:
        """What clients have that hold the real credential and trust the CA in that file."""
        raise NotImplementedError


class Setting(Ground):
    """That of HTTP; `upstream` is nginx."""

    port = 443

    def __init__(self, world: World) -> None:
        super().__init__(world, {"nginx": "nginx-light", "wrk": "wrk", "curl": "curl"}, [HOST])
        self.probe, self.probe_answer = probe(), "200"
        self.upstream = Upstream(world, self.upstream_ca)
        self.upstream.start(LOAD_CPU)
        self.upstream.wait_until_up()

    def environment(self, trust: Path) -> dict[str, str]:
        return {"BENCH_TOKEN": CREDENTIAL, "CURL_CA_BUNDLE": str(trust)}
