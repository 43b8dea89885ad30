"""What is printed of PostgreSQL, and what the project asks of it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.postgres.run import CONNECT, COPY, FREE_CONNECTIONS, MASK, MODES, queries_name
from benchmarks.report import Column, Requirement

COMPARED = ("pgbouncer", "direct")


def columns(connections: Sequence[int]) -> list[Column]:
    found = []
    named = [(queries_name(mode, count), f"{mode}, {count} conn.") for count in connections for mode in MODES]
    named.append((queries_name("simple", FREE_CONNECTIONS, free=True), f"simple, {FREE_CONNECTIONS} conn., no rules"))
    for name, told in named:
        found.append(Column(f"queries/CPU-s, {told}", name, "queries_per_cpu_s"))
        found.append(Column(f"queries/s, {told}", name, "queries_per_s"))
        found.append(Column(f"latency added, {told}, ms", name, "latency_ms", ".3f", added=True))
    return [
        *found,
        Column("connect, ms of CPU each", CONNECT, "connect_cpu_ms", ".2f"),
        Column("connections/s", CONNECT, "connections_per_s"),
        Column("COPY out, MB/s", COPY, "mb_per_s"),
        Column("COPY out, CPU-s/GB", COPY, "cpu_s_per_gb", ".2f"),
        Column("COPY out, memory growth, MB", COPY, "memory_growth_mb", ".1f"),
        Column("2 of 10 masked, rows/CPU-s", MASK, "rows_per_cpu_s"),
        Column("2 of 10 masked, rows/s", MASK, "rows_per_s"),
        Column("2 of 10 masked, memory growth, MB", MASK, "memory_growth_mb", ".1f"),
    ]


def requirements(connections: Sequence[int]) -> list[Requirement]:
    found = []
    for count in connections:
        for mode in MODES:
            name = queries_name(mode, count)
            column = Column("", name, "queries_per_cpu_s")
            found.append(Requirement(f"{name}, queries/CPU-s", column, "pgbouncer", 0.6))
    name = queries_name("simple", FREE_CONNECTIONS, free=True)
    column = Column("", name, "queries_per_cpu_s")
    return [
        *found,
        Requirement(f"{name}, queries/CPU-s", column, "pgbouncer", 0.75),
        Requirement("COPY out, MB/s", Column("", COPY, "mb_per_s"), "direct", 0.6),
        Requirement("masked rows/CPU-s", Column("", MASK, "rows_per_cpu_s"), None, 400_000),
        Requirement("connect, ms of CPU", Column("", CONNECT, "connect_cpu_ms"), None, 4.0, at_most=True),
        Requirement("COPY out, MB grown", Column("", COPY, "memory_growth_mb"), None, 16, at_most=True),
        Requirement("masked rows, MB grown", Column("", MASK, "memory_growth_mb"), None, 16, at_most=True),
    ]
