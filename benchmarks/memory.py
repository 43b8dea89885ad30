"""What connections cost while nothing happens on them, and what stays when they are gone."""

from __future__ import annotations

import select
import shutil
import subprocess
import time
from collections.abc import Sequence

from benchmarks import accounting
from benchmarks.generators import wrk
from benchmarks.results import BenchmarkFailed, Figures
from benchmarks.scenarios import NEW_AT_A_TIME, stop
from benchmarks.setting import Setting
from benchmarks.targets import Target
from benchmarks.upstream import HOST
from tests.world import OUTSIDE4

MANY = 10_000
_LONGEST_MANY = 45.0  # seconds: who is too slow for all of them is measured after fewer
_PYTHON = "/usr/bin/python3"  # on OpenSSL as Debian ships it


def openssl_pair_kb(setting: Setting) -> float:
    """KiB that OpenSSL itself takes for one connection that is ended and one that is made."""
    certificate = setting.world.dir / "upstream" / "upstream.pem"
    argv = [_PYTHON, _copied(setting, "tls_memory.py"), str(certificate), str(setting.upstream_ca.pem), HOST]
    return float(setting.world.run(argv, check=True).stdout)


def _copied(setting: Setting, name: str) -> str:
    """A file of this package where every user can read it."""
    here = __file__.rpartition("/")[0]
    return shutil.copy(f"{here}/{name}", f"{setting.world.dir}/{name}")


def idle(setting: Setting, targets: Sequence[Target], steps: Sequence[int]) -> dict[str, Figures]:
    """Memory of each target at 0 and at each of `steps` idle kept-alive connections (rising), all targets at once:
    memory does not depend on how busy the machine is."""
    found: dict[str, Figures] = {target.name: _sizes(target, 0) for target in targets}
    script = f"exec {_PYTHON} {_copied(setting, 'hold.py')} {HOST} /slow"
    holders = {target.name: target.client(script, stdin=subprocess.PIPE) for target in targets}
    for step in steps:
        for holder in holders.values():
            assert holder.stdin is not None
            holder.stdin.write(f"{step}\n")
            holder.stdin.flush()
        for target in targets:
            _wait_for(target, holders[target.name], step)
        time.sleep(0.5)
        for target in targets:
            found[target.name] |= _sizes(target, step)
    for target in targets:
        holders[target.name].communicate(timeout=20)
        _per_pair(found[target.name], steps)
    return found


def _sizes(target: Target, connections: int) -> Figures:
    if target.root is None:
        return {}
    worker = target.worker()
    figures = {f"memory_mb_{connections}": accounting.tree_pss_kb(target.root) / 1024}
    if worker is not None:
        figures[f"worker_mb_{connections}"] = accounting.pss_kb(worker) / 1024
    if connections:
        upstream = accounting.connections_to(target.root, OUTSIDE4, 443)
        figures[f"upstream_connections_{connections}"] = upstream
    return figures


def _wait_for(target: Target, holder: subprocess.Popen[str], count: int) -> None:
    assert holder.stdout is not None
    ready, _, _ = select.select([holder.stdout], [], [], 120)
    line = holder.stdout.readline() if ready else ""
    if line.strip() != str(count):
        holder.kill()
        error = holder.communicate()[1]
        raise BenchmarkFailed(f"{target.name} does not hold {count} connections: {line}{error[-800:]}\n{target.log()}")


def _per_pair(figures: Figures, steps: Sequence[int]) -> None:
    """Adds KiB for each pair, from the last two steps: what is taken once does not count."""
    low, high = (0, *steps)[-2:]
    if f"memory_mb_{high}" in figures:
        grown = figures[f"memory_mb_{high}"] - figures[f"memory_mb_{low}"]
        figures["kb_per_pair"] = grown * 1024 / (high - low)


def after_many(setting: Setting, target: Target) -> Figures:
    """Memory when 10,000 connections have come and gone, one request each."""
    if target.root is None:
        return {}
    before = setting.upstream.requests()
    asked = 0
    generator = target.client(wrk(NEW_AT_A_TIME, close=True))
    end = time.monotonic() + _LONGEST_MANY
    made = 0
    while made < MANY and time.monotonic() < end and generator.poll() is None:
        time.sleep(0.2)
        asked += 1
        made = setting.upstream.requests() - before - asked
    stop(generator)
    time.sleep(1.0)
    return {"connections_made": made, "memory_mb_after_many": accounting.tree_pss_kb(target.root) / 1024}
