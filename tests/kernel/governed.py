"""A world with the hooks in it: jobs, something in the proxy's place, and eyes outside for whatever gets past."""

from __future__ import annotations

import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.attest.flowmap import FlowMap, netns_cookie
from appliance.attest.layouts import flow_key, parse_record
from appliance.kernel.hooks import Hooks
from appliance.kernel.layouts import JobValue
from appliance.model.facts import SocketRecord
from tests.world import World

PROXY_PORT = 1006
DNS_PORT = 1007
_ETH_P_ALL = 3
_NEIGHBOURS = {133, 134, 135, 136, 137, 143}  # ICMPv6 of the link itself
Address = tuple[Any, ...]


class Eyes:
    """Every IP packet that reaches the outside namespace, except the link's own business."""

    def __init__(self, world: World) -> None:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
            sock.bind(("v1", 0))
            sock.setblocking(False)
            return sock

        self._socket = world.inside("outside", make)

    def seen(self) -> list[str]:
        """What arrived since the last call, as protocol and destination."""
        time.sleep(0.05)  # for what is still on its way
        found: list[str] = []
        while True:
            try:
                data, address = self._socket.recvfrom(65536)
            except BlockingIOError:
                return found
            if address[2] == socket.PACKET_OUTGOING:
                continue
            if address[1] == 0x0800:
                found.append(f"{data[9]} {socket.inet_ntop(socket.AF_INET, data[16:20])}")
            elif address[1] == 0x86DD and not (data[6] in (0, 58) and _icmp6(data) in _NEIGHBOURS):
                found.append(f"{data[6]} {socket.inet_ntop(socket.AF_INET6, data[24:40])}")

    def close(self) -> None:
        self._socket.close()


def _icmp6(packet: bytes) -> int:
    start = 48 if packet[6] == 0 else 40  # MLD has a hop-by-hop header
    return packet[start]


class Governed:
    """`jobs/` in the world's cgroup has the hooks; the proxy's and the forwarder's ports are served in "host"."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = world.new_cgroup("jobs")
        # where distributions let everybody ping, the kernel would not refuse it for us
        world.run(["sh", "-c", "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range"], check=True)
        self.pins = world.dir / "bpf"
        self.netns = world.inside("host", netns_cookie)
        self.hooks = self.load()
        self.hooks.attach(self.root.stat().st_ino, self.root)
        self.map = world.inside("host", lambda: FlowMap(self.hooks.flows_fd))
        self._lock = threading.Lock()
        self.accepted: queue.Queue[SocketRecord | None] = queue.Queue()
        self.asked: queue.Queue[SocketRecord | None] = queue.Queue()
        self.eyes = Eyes(world)
        self._stop = False
        self._threads: list[threading.Thread] = []
        for address in ("127.0.0.1", "::1"):
            self._serve(self._proxy, world.listener("host", address, PROXY_PORT))
            self._serve(self._forwarder, world.listener("host", address, DNS_PORT, socket.SOCK_DGRAM))
        self._before = self.hooks.counted()

    def load(self) -> Hooks:
        return Hooks(self.pins, self.netns, PROXY_PORT, DNS_PORT)

    def close(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
        self.eyes.close()
        self.hooks.close()

    def job(self, name: str) -> Path:
        """A job's cgroup, registered."""
        path = self.world.new_cgroup(f"jobs/{name}")
        self.hooks.put_job(path.stat().st_ino, JobValue(True, 0, name, "test"))
        return path

    def run(self, job: Path, code: str, *arguments: str, **options: Any) -> str:
        """Runs Python in the job: what it printed, or the name of the errno that ended it."""
        wrapped = f"import errno, os, socket, struct, sys, time\ntry:\n{_indent(code)}\n"
        wrapped += "except OSError as error:\n print(errno.errorcode.get(error.errno, error))\n"
        done = self.world.run([sys.executable, "-c", wrapped, *arguments], cgroup=job, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def counted(self) -> dict[str, int]:
        """What was counted since the last call."""
        now = self.hooks.counted()
        found = {name: value - self._before[name] for name, value in now.items() if value != self._before[name]}
        self._before = now
        return found

    def forget(self) -> None:
        """Before an attempt: what was seen and counted so far does not matter."""
        self.counted()
        self.eyes.seen()
        for seen in (self.accepted, self.asked):
            while not seen.empty():
                seen.get()

    def look(self, peer: Address, local: Address, protocol: int) -> SocketRecord | None:
        with self._lock:
            value = self.map.lookup(flow_key(self.netns, peer, local, protocol))
        return None if value is None else parse_record(value)

    def _serve(self, what: Callable[[socket.socket], None], sock: socket.socket) -> None:
        sock.settimeout(0.05)

        def work() -> None:
            while not self._stop:
                try:
                    what(sock)
                except TimeoutError:
                    continue

        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)

    def _proxy(self, listener: socket.socket) -> None:
        sock, peer = listener.accept()
        with sock:
            self.accepted.put(self.look(peer, sock.getsockname(), socket.IPPROTO_TCP))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 0, 0))
            try:
                sock.sendall(b"PROXY")
                sock.settimeout(1)
                sock.recv(100)
            except OSError:
                pass  # the client has gone

    def _forwarder(self, sock: socket.socket) -> None:
        data, peer = sock.recvfrom(512)
        self.asked.put(self.look(peer, sock.getsockname(), socket.IPPROTO_UDP))
        sock.sendto(b"answer:" + data, peer)


def _indent(code: str) -> str:
    return "\n".join(f" {line}" for line in code.strip().splitlines())
