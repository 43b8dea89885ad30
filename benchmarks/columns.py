"""What is printed of HTTP, and what the project asks of it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report import Column, Requirement
from benchmarks.run import BODY, IDLE, NEW, keepalive_name

COMPARED = ("haproxy", "squid")


def columns(connections: Sequence[int], many: bool) -> list[Column]:
    found = []
    for count in connections:
        name = keepalive_name(count)
        found.append(Column(f"requests/CPU-s, {count} connections", name, "requests_per_cpu_s"))
        found.append(Column(f"requests/s, {count} connections", name, "requests_per_s"))
        found.append(Column(f"p50 added, {count} connections, ms", name, "p50_ms", ".3f", added=True))
        found.append(Column(f"p99 added, {count} connections, ms", name, "p99_ms", ".3f", added=True))
    found += [
        Column("200 MB body, MB/s", BODY, "mb_per_s"),
        Column("200 MB body, CPU-s/GB", BODY, "cpu_s_per_gb", ".2f"),
        Column("new connections/s", NEW, "connections_per_s"),
        Column("new connections/CPU-s", NEW, "connections_per_cpu_s"),
        Column("idle: largest worker, MB", IDLE, "worker_mb_0", ".1f"),
        Column("idle: all processes, MB", IDLE, "memory_mb_0", ".1f"),
        Column("kB for a kept-alive pair", IDLE, "kb_per_pair", ".1f"),
        Column("… beyond OpenSSL's own", IDLE, "kb_per_pair_beyond_openssl", ".1f"),
    ]
    if many:
        found.append(Column("all processes after 10,000 connections, MB", IDLE, "memory_mb_after_many", ".1f"))
    return found


REQUIREMENTS = (
    Requirement("requests/CPU-s", Column("", keepalive_name(64), "requests_per_cpu_s"), "haproxy", 0.5),
    Requirement("requests/CPU-s", Column("", keepalive_name(64), "requests_per_cpu_s"), "squid", 1.2),
    Requirement("MB/s", Column("", BODY, "mb_per_s"), "haproxy", 0.6),
    Requirement("new connections/s", Column("", NEW, "connections_per_s"), "squid", 1.0),
    Requirement("MB for an idle worker", Column("", IDLE, "worker_mb_0"), None, 60, at_most=True),
    Requirement("kB for a pair beyond OpenSSL", Column("", IDLE, "kb_per_pair_beyond_openssl"), None, 40, at_most=True),
)
