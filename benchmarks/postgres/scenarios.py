"""What is measured, one function a measurement. Each gives the figures of one target in one round by the names that
they have in the JSON."""

from __future__ import annotations

import os
import select
import subprocess
import time

from benchmarks import accounting
from benchmarks.postgres.programs import (
    Mode,
    Progress,
    all_people,
    copy_out,
    one_person,
    pgbench,
    read_all_people,
    read_copy,
    read_progress,
)
from benchmarks.postgres.setting import JUDGED, MASKED, Setting
from benchmarks.results import BenchmarkFailed, Figures
from benchmarks.scenarios import stop
from benchmarks.targets import Target

CONNECT_AT_A_TIME = 4
_PATIENCE = 60.0  # seconds without a word


def queries(target: Target, connections: int, mode: Mode, host: str, warm: int, window: int) -> Figures:
    """Look-ups by key over connections that stay open.

    What is counted lies between two of pgbench's own lines, `window` seconds apart, the first `warm` seconds after all
    were connected: pgbench's transactions, and the CPU time of the target's processes. So no login is part of it.
    """
    count, cpu, seconds, latency = _within_window(target, pgbench(connections, mode, host), warm, window)
    figures = {"queries_per_s": count / seconds, "latency_ms": latency}
    if target.root is not None:
        figures["queries_per_cpu_s"] = count / cpu if cpu else 0.0
    return figures


def connect(target: Target, warm: int, window: int) -> Figures:
    """TCP, TLS, the login and one look-up, each time anew, on both sides of the target."""
    script = pgbench(CONNECT_AT_A_TIME, "simple", JUDGED, connect=True)
    count, cpu, seconds, _ = _within_window(target, script, warm, window)
    figures = {"connections_per_s": count / seconds}
    if target.root is not None:
        figures["connect_cpu_ms"] = 1000 * cpu / count
    return figures


def _within_window(target: Target, script: str, warm: int, window: int) -> tuple[float, float, float, float]:
    """(transactions, CPU seconds, seconds, mean latency in ms) of the window. Raises BenchmarkFailed."""
    generator = target.client(script)
    said = _Said(target, generator)
    try:
        said.wait_for(warm)
        begin, cpu = len(said.progress), target.cpu_seconds()
        said.wait_for(said.progress[-1].second + window)
        cpu = target.cpu_seconds() - cpu
    finally:
        stop(generator)
    count = latency = 0.0
    first = last = said.progress[begin - 1].second
    for line in said.progress[begin:]:
        transactions = line.rate * (line.second - last)
        count += transactions
        latency += line.latency * transactions
        last = line.second
    if not count:
        raise BenchmarkFailed(f"{target.name} gave no answers\n{target.log()}")
    return count, cpu, last - first, latency / count


class _Said:
    """What pgbench has said of its progress so far."""

    def __init__(self, target: Target, generator: subprocess.Popen[str]) -> None:
        assert generator.stderr is not None
        self.progress: list[Progress] = []
        self._target = target
        self._generator = generator
        self._file = generator.stderr.fileno()
        self._line = ""  # what there is of the next one
        self._other = ""  # lines that tell no progress

    def wait_for(self, second: float) -> None:
        """Until pgbench says that so many seconds (nearly) have gone by since all were connected.

        Raises BenchmarkFailed if it will not say so.
        """
        while not self.progress or self.progress[-1].second < second - 0.5:
            ready, _, _ = select.select([self._file], [], [], _PATIENCE)
            piece = os.read(self._file, 65536).decode() if ready else ""
            if not piece:
                rest = (self._other + self._line)[-2000:] + stop(self._generator)
                raise BenchmarkFailed(f"{self._target.name} gave no answers: {rest}\n{self._target.log()}")
            *lines, self._line = (self._line + piece).split("\n")
            for line in lines:
                self._understand(line)

    def _understand(self, line: str) -> None:
        try:
            found = read_progress(line)
        except BenchmarkFailed as failure:
            raise BenchmarkFailed(f"{self._target.name}: {failure}\n{self._target.log()}") from None
        if found is None:
            self._other += f"{line}\n"
        else:
            self.progress.append(found)


def copy(setting: Setting, target: Target) -> Figures:
    """The table `big` by COPY, in text."""
    before = _at_rest(target)
    output, cpu = _to_the_end(target, copy_out(JUDGED))
    try:
        seconds = read_copy(output, setting.big_rows)
    except BenchmarkFailed as failure:
        raise BenchmarkFailed(f"{target.name}: {failure}\n{target.log()}") from None
    figures = {"mb_per_s": setting.big_bytes / 1e6 / seconds}
    if target.root is not None:
        figures["cpu_s_per_gb"] = cpu / (setting.big_bytes / 1e9)
        figures["memory_growth_mb"] = accounting.tree_peak_mb(target.root) - before
    return figures


def masked(setting: Setting, target: Target, times: int) -> Figures:
    """Every row of `people`, of whose ten columns of text the appliance masks two (a peer none)."""
    script = setting.world.dir / "people.sql"
    script.write_text("select * from people;\n")
    before = _at_rest(target)
    output, cpu = _to_the_end(target, all_people(str(script), times, MASKED))
    try:
        seconds = read_all_people(output, times)
    except BenchmarkFailed as failure:
        raise BenchmarkFailed(f"{target.name}: {failure}\n{target.log()}") from None
    figures = {"rows_per_s": setting.people / seconds}
    if target.root is not None:
        figures["rows_per_cpu_s"] = setting.people * times / cpu if cpu else 0.0
        figures["memory_growth_mb"] = accounting.tree_peak_mb(target.root) - before
    return figures


def check_masks(target: Target) -> None:
    """Raises BenchmarkFailed if the target lets through what is to be masked, or anything less than the rest."""
    output, _ = _to_the_end(target, one_person(MASKED))
    shown = {value for value in ("person1@example.com", "+43 660 1", "Person 1", "1 High Street") if value in output}
    if shown != {"Person 1", "1 High Street"}:
        raise BenchmarkFailed(f"{target.name} masks wrongly: {output}")


def _at_rest(target: Target) -> float:
    """Megabytes that the target has now; from here on its peak is counted."""
    return 0.0 if target.root is None else accounting.begin_peak(target.root)


def _to_the_end(target: Target, script: str) -> tuple[str, float]:
    """(what it wrote, the target's CPU seconds meanwhile). The login is part of it, some milliseconds of CPU."""
    cpu = target.cpu_seconds()
    generator = target.client(script)
    try:
        out, err = generator.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        generator.kill()
        raise BenchmarkFailed(f"{target.name} does not come to an end\n{target.log()}") from None
    time.sleep(0.05)  # what it still has to write down belongs to it
    return out + err, target.cpu_seconds() - cpu
