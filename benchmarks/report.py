"""What is printed and written: the table with its ratios, the requirements, the JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results import Figures, Results

Medians = Mapping[tuple[str, str], Figures]

PRODUCT = "coatcheck"
_VERSIONS = {
    "nginx": ["nginx", "-v"],
    "haproxy": ["haproxy", "-v"],
    "squid": ["squid", "-v"],
    "mitmproxy": ["mitmdump", "--version"],
    "wrk": ["wrk", "-v"],
    "pgbouncer": ["pgbouncer", "--version"],
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


def value(medians: Medians, target: str, column: Column) -> float | None:
    figure = medians.get((target, column.scenario), {}).get(column.figure)
    if figure is None or not column.added:
        return figure
    direct = medians.get(("direct", column.scenario), {}).get(column.figure)
    return None if direct is None or target == "direct" else figure - direct


def table(medians: Medians, targets: Sequence[str], wanted: Sequence[Column], compared: Sequence[str]) -> str:
    """Figures, a row each; after them the product's (or first target's) ratio to those of `compared`."""
    first = targets[0]
    against = [peer for peer in compared if peer in targets and peer != first]
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


def requirements(medians: Medians, all_wanted: Sequence[Requirement]) -> list[str]:
    """A line for each that this run can tell of."""
    lines = []
    for wanted in all_wanted:
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
        told = f"{name}: {figure:,.2f}, wanted {side} {wanted.bound:,g}"
        lines.append(f"{'reached ' if reached else 'MISSED  '} {told}")
    return lines


def as_json(results: Results, wanted: Sequence[Column]) -> dict[str, Any]:
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
