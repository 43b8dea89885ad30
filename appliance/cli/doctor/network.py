"""The network as the appliance needs it, in the network namespace that this runs in."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from appliance.cli.doctor.findings import Finding, unknown
from appliance.cli.doctor.running import Running
from appliance.config.schema import Config

_IFF_UP = 1  # <linux/if.h>
_LISTEN = "0A"  # TCP_LISTEN of <net/tcp_states.h>, as /proc/net/tcp has it
_TABLES: Final = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}
_HERE: Final = {  # how /proc/net writes the addresses that clash with ours (little endian)
    "0100007F",
    "00000000",
    "0" * 24 + "01000000",
    "0" * 32,
}


def network(config: Config | None, running: Running) -> Iterator[Finding]:
    yield from _loopback()
    if config is None:
        yield unknown("ports", "they are in the configuration, which cannot be read")
        yield unknown("name servers", "they may be in the configuration, which cannot be read")
        return
    for kind, port, of in (
        ("tcp", config.listen.proxy_port, "listen.proxy_port"),
        ("udp", config.listen.dns_port, "listen.dns_port"),
    ):
        yield _port(kind, port, of, running)
    yield _name_servers(config)


def _loopback() -> Iterator[Finding]:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as routes:
            index = routes.link_lookup(ifname="lo")[0]
            up = bool(next(iter(routes.get_links(index)))["flags"] & _IFF_UP)
            six = any(a.get_attr("IFA_ADDRESS") == "::1" for a in routes.get_addr(index=index, family=socket.AF_INET6))
    except (NetlinkError, OSError, IndexError, StopIteration) as error:
        yield unknown("loopback", f"the links cannot be listed: {error or type(error).__name__}")
        return
    if not up:
        yield Finding("loopback", "missing", "lo is down: governed traffic is turned to it", "ip link set lo up")
        return
    yield Finding("loopback", "ok", "lo is up")
    if six:
        yield Finding("IPv6", "ok", "lo has ::1")
    else:
        yield Finding(
            "IPv6",
            "optional",
            "lo has no ::1: jobs' connections over IPv6 are refused",
            "sysctl net.ipv6.conf.lo.disable_ipv6=0",
        )


class _Entry(NamedTuple):
    port: int
    inode: int


def _taken(kind: str) -> list[_Entry]:
    """Sockets that hold a port on the loopback addresses or on all (proc(5), /proc/net/tcp)."""
    found = []
    for table in _TABLES[kind]:
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if address in _HERE and (kind == "udp" or fields[3] == _LISTEN):
                found.append(_Entry(int(port, 16), int(fields[9])))
    return found


def _port(kind: str, port: int, key: str, running: Running) -> Finding:
    name = f"{kind} port {port}"
    try:
        holders = [entry.inode for entry in _taken(kind) if entry.port == port]
    except (OSError, ValueError, IndexError) as error:
        return unknown(name, f"the sockets cannot be listed: {error}")
    if not holders:
        lowest = _lowest_free_for_all()
        if port >= lowest:
            return Finding(
                name,
                "optional",
                f"free, but any user may take it, and governed traffic is then refused (it is not below {lowest})",
                f"set {key} to a port below 1024",
            )
        return Finding(name, "ok", "free")
    if running.pid and all(inode in running.sockets() for inode in holders):
        return Finding(name, "ok", f"held by the appliance that runs (pid {running.pid})")
    if running.pid and os.geteuid() != 0:
        return Finding(name, "ok", f"held, it seems by the appliance that runs (pid {running.pid})")
    return Finding(
        name,
        "missing",
        "another program has it",
        f"find it (ss -{'t' if kind == 'tcp' else 'u'}lnp 'sport = :{port}') and end it, or set {key} to another port",
    )


def _lowest_free_for_all() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _name_servers(config: Config) -> Finding:
    from appliance.proxy.forwarder import servers_of

    servers = servers_of(config.dns)
    if servers:
        said = ", ".join(address for address, _ in servers)
        of = "dns.servers" if config.dns.servers else "/etc/resolv.conf"
        return Finding("name servers", "ok", f"{said} ({of})")
    if config.dns.hosts:
        return Finding(
            "name servers", "optional", "none: only the names of dns.hosts are known", "set dns.servers in the file"
        )
    return Finding(
        "name servers", "missing", "neither /etc/resolv.conf nor dns.servers names one", "set dns.servers in the file"
    )
