"""What is printed and written: the table with its ratios, the requirements, the JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.run import BODY, IDLE, NEW, Results, keepalive_name
from benchmarks.scenarios import Figures

Medians = Mapping[tuple[str, str], Figures]

PRODUCT = "coatcheck"
COMPARED = ("haproxy", "squid")
_VERSIONS = {
    "nginx": ["nginx", "-v"],
    "haproxy": ["haproxy", "-v"],
    "squid": ["squid", "-v"],
    "mitmproxy": ["mitmdump", "--version"],
    "wrk": ["wrk", "-v"],
    "openssl": ["openssl", "version"],
}


@dataclass(frozen=True)
class Column:
    """One figure of one scenario. `added`: what the figure is beyond that of "direct"."""

    title: str
    scenario: str
    figure: str
    form: str = ",.0f"
    added: bool = False


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


def value(medians: Medians, target: str, column: Column) -> float | None:
    figure = medians.get((target, column.scenario), {}).get(column.figure)
    if figure is None or not column.added:
        return figure
    direct = medians.get(("direct", column.scenario), {}).get(column.figure)
    return None if direct is None or target == "direct" else figure - direct


def table(medians: Medians, targets: Sequence[str], wanted: Sequence[Column]) -> str:
    """Figures, a row each; after them the product's (or first target's) ratio to those of COMPARED."""
    first = targets[0]
    against = [peer for peer in COMPARED if peer in targets and peer != first]
    head = ["", *targets, *(f"{first} / {peer}" for peer in against)]
    rows = [head]
    for column in wanted:
        values = {target: value(medians, target, column) for target in targets}
        if all(figure is None for figure in values.values()):
            continue
        cells = ["" if v is None else format(v, column.form) for v in values.values()]
        rows.append([column.title, *cells, *(_ratio(values[first], values[peer]) for peer in against)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(head))]
    lines = [
        "  ".join(_fit(cell, width, index) for index, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _fit(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)


def _ratio(mine: float | None, other: float | None) -> str:
    return "" if mine is None or other is None or other <= 0 else f"{mine / other:.2f}"


@dataclass(frozen=True)
class Requirement:
    """What the project asks of the product: a figure, or its ratio to a peer's, at least or at most `bound`."""

    text: str
    column: Column
    peer: str | None
    bound: float
    at_most: bool = False


REQUIREMENTS = (
    Requirement("requests/CPU-s", Column("", keepalive_name(64), "requests_per_cpu_s"), "haproxy", 0.5),
    Requirement("requests/CPU-s", Column("", keepalive_name(64), "requests_per_cpu_s"), "squid", 1.2),
    Requirement("MB/s", Column("", BODY, "mb_per_s"), "haproxy", 0.6),
    Requirement("new connections/s", Column("", NEW, "connections_per_s"), "squid", 1.0),
    Requirement("MB for an idle worker", Column("", IDLE, "worker_mb_0"), None, 60, at_most=True),
    Requirement("kB for a pair beyond OpenSSL", Column("", IDLE, "kb_per_pair_beyond_openssl"), None, 40, at_most=True),
)


def requirements(medians: Medians) -> list[str]:
    """A line for each that this run can tell of."""
    lines = []
    for wanted in REQUIREMENTS:
        figure = value(medians, PRODUCT, wanted.column)
        if figure is None:
            continue
        name = wanted.text
        if wanted.peer is not None:
            other = value(medians, wanted.peer, wanted.column)
            if not other:
                continue
            figure, name = figure / other, f"{name} / {wanted.peer}'s"
        reached = figure <= wanted.bound if wanted.at_most else figure >= wanted.bound
        side = "at most" if wanted.at_most else "at least"
        lines.append(f"{'reached ' if reached else 'MISSED  '} {name}: {figure:.2f}, wanted {side} {wanted.bound:g}")
    return lines


def as_json(results: Results, wanted: Sequence[Column], seconds: float) -> dict[str, Any]:
    """{"runs": [one entry for each target and scenario, with what was measured], …}."""
    medians = results.medians()
    runs = []
    for (target, scenario), figures in medians.items():
        entry: dict[str, Any] = {
            "target": target,
            "scenario": scenario,
            "rounds": len(results.rounds[target, scenario]),
        }
        entry |= {name: round(figure, 4) for name, figure in figures.items()}
        for column in wanted:
            if column.added and column.scenario == scenario and (v := value(medians, target, column)) is not None:
                entry[f"added_{column.figure}"] = round(v, 4)
        runs.append(entry)
    return {
        "runs": runs,
        "openssl_kb_per_pair": results.openssl_pair_kb,
        "seconds": round(seconds, 1),
        "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What each program says of itself, its first line."""
    found = {}
    for name, argv in _VERSIONS.items():
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        except FileNotFoundError:
            continue
        found[name] = next(iter((done.stdout + done.stderr).splitlines()), "")
    return found
