"""The programs that make the load: shell commands (they run in a job, where $PGPASSWORD is), and what they answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from benchmarks.postgres.setting import programs
from benchmarks.results import BenchmarkFailed

Mode = Literal["simple", "prepared"]
LONGEST = 300  # seconds; a generator is stopped when its window is over

_PROGRESS = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+|NaN) ms stddev ([\d.]+|NaN), (\d+) failed")


def pgbench(connections: int, mode: Mode, host: str, *, connect: bool = False) -> str:
    """One row of pgbench_accounts by its key, as fast as they come, until SIGINT; a line each second on stderr.
    `connect`: over a connection of its own each."""
    extra = " -C" if connect else ""
    bench = f"{programs()}/pgbench -n -S -M {mode} -c {connections} -j 1 -P 1 -T {LONGEST}{extra}"
    return f"export PGHOST={host}; exec {bench}"


@dataclass(frozen=True)
class Progress:
    """Since the line before: how many transactions, at the `second` since all were connected."""

    second: float
    rate: float  # a second
    latency: float  # milliseconds, mean


def read_progress(line: str) -> Progress | None:
    """None if the line is another. Raises BenchmarkFailed if a transaction failed."""
    match = _PROGRESS.match(line)
    if match is None:
        return None
    if match[5] != "0":
        raise BenchmarkFailed(line.strip())
    return Progress(float(match[1]), float(match[2]), float(match[3]))


def copy_out(host: str) -> str:
    """The table `big`, thrown away; prints "COPY rows" and the milliseconds."""
    copy = r"\copy big to '/dev/null'"
    return f"export PGHOST={host}; exec {programs()}/psql -X -c '\\timing on' -c \"{copy}\""


def read_copy(output: str, rows: int) -> float:
    """Seconds. Raises BenchmarkFailed if they were not so many rows."""
    count = re.search(r"^COPY (\d+)$", output, re.MULTILINE)
    duration = re.search(r"^Time: ([\d.]+) ms", output, re.MULTILINE)
    if count is None or duration is None or int(count[1]) != rows:
        raise BenchmarkFailed(f"COPY gave no {rows} rows: {output[-800:]}")
    return float(duration[1]) / 1000


def all_people(script: str, times: int, host: str) -> str:
    """Every row of `people` as one result, `times` times over one connection. libpq takes it in; nobody looks at it."""
    bench = f"{programs()}/pgbench -n -M simple -c 1 -t {times} -f {script}"
    return f"export PGHOST={host}; exec {bench}"


def read_all_people(output: str, times: int) -> float:
    """Seconds of one time, on average. Raises BenchmarkFailed if one did not come through."""
    done = f"number of transactions actually processed: {times}/{times}"
    latency = re.search(r"^latency average = ([\d.]+) ms", output, re.MULTILINE)
    if done not in output or latency is None:
        raise BenchmarkFailed(f"not all rows came through: {output[-800:]}")
    return float(latency[1]) / 1000


def one_person(host: str) -> str:
    """The columns of one row, a line each."""
    sql = "select * from people where key = 'p1'"
    return f'export PGHOST={host}; exec {programs()}/psql -X -A -t -x -c "{sql}"'
