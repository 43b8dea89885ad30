"""`python -m benchmarks http|postgres`: see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import columns, report, run
from benchmarks.plot import draw
from benchmarks.postgres import columns as postgres_columns
from benchmarks.postgres import run as postgres_run
from benchmarks.postgres import setting as postgres_setting
from benchmarks.postgres import targets as postgres_targets
from benchmarks.report import Column
from benchmarks.results import BenchmarkFailed, Results, Say, clock
from benchmarks.setting import Setting
from benchmarks.targets import ALL, Target, start_all
from tests.world import World

_OUT = Path(__file__).parent / "out"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Speed of the product beside its peers.")
    kinds = parser.add_subparsers(dest="what", required=True)
    _add(kinds, "http", "HTTPS through each target", ALL, run.FULL.rounds)
    _add(kinds, "postgres", "PostgreSQL through each target", postgres_targets.ALL, postgres_run.FULL.rounds)
    found = parser.parse_args(argv)
    unknown = set(found.targets.split(",")) - set(found.known)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(found.known)}")
    if found.rounds is not None and found.rounds < 1:
        parser.error("--rounds is at least 1")
    return found


def _add(kinds: Any, name: str, help: str, targets: Sequence[type[Target]], rounds: int) -> None:
    names = [target.name for target in targets]
    kind = kinds.add_parser(name, help=help)
    kind.add_argument("--quick", action="store_true", help="under 45 seconds: fewer scenarios, one round")
    kind.add_argument("--rounds", type=int, metavar="N", help=f"how often each is measured (default {rounds})")
    kind.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    kind.add_argument(
        "--plot", type=Path, metavar="FILE", default=_OUT / f"{name}.png", help=f"default: benchmarks/out/{name}.png"
    )
    kind.add_argument("--targets", default=",".join(names), help="some of: %(default)s")
    kind.set_defaults(known=names)


@contextmanager
def _world() -> Iterator[World]:
    """A world whose end cannot be interrupted: a second Ctrl-C would leave half of it behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    world = World()
    try:
        with _uninterrupted():
            world.__enter__()
        yield world
    finally:
        with _uninterrupted():
            if hasattr(world, "dir"):
                world.close()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals wait until the end of the block."""
    waiting = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def http(arguments: argparse.Namespace, results: Results, say: Say) -> dict[str, Any]:
    plan = run.QUICK if arguments.quick else run.FULL
    if arguments.rounds is not None:
        plan = dataclasses.replace(plan, rounds=arguments.rounds)
    with _world() as world:
        setting = Setting(world)
        targets = [target(setting) for target in ALL if target.name in arguments.targets.split(",")]
        start_all(targets, say)
        openssl_pair_kb = run.measure(setting, targets, plan, results, say)
    wanted = columns.columns(plan.connections, plan.many)
    print(f"\nMedians of {plan.rounds} round(s); OpenSSL's own part of a pair: {openssl_pair_kb:.1f} kB\n")
    _tell(arguments, results, [target.name for target in targets], wanted, columns.COMPARED, columns.REQUIREMENTS)
    return {**report.as_json(results, wanted), "openssl_kb_per_pair": openssl_pair_kb}


def postgres(arguments: argparse.Namespace, results: Results, say: Say) -> dict[str, Any]:
    plan = postgres_run.QUICK if arguments.quick else postgres_run.FULL
    if arguments.rounds is not None:
        plan = dataclasses.replace(plan, rounds=arguments.rounds)
    with _world() as world:
        setting = postgres_setting.Setting(world, plan.copy_mb, plan.people)
        say("the server is ready")
        targets = [target(setting) for target in postgres_targets.ALL if target.name in arguments.targets.split(",")]
        start_all(targets, say)
        postgres_run.measure(setting, targets, plan, results, say)
    wanted = postgres_columns.columns(plan.connections)
    asked = postgres_columns.requirements(plan.connections)
    print(f"\nMedians of {plan.rounds} round(s)\n")
    _tell(arguments, results, [target.name for target in targets], wanted, postgres_columns.COMPARED, asked)
    return report.as_json(results, wanted)


def _tell(
    arguments: argparse.Namespace,
    results: Results,
    targets: Sequence[str],
    wanted: Sequence[Column],
    compared: Sequence[str],
    asked: Sequence[report.Requirement],
) -> None:
    medians = results.medians()
    print(report.table(medians, targets, wanted, compared))
    print("", *report.requirements(medians, asked), sep="\n")
    draw(medians, targets, wanted, arguments.plot)
    print(f"\nplot: {arguments.plot}")


def main() -> int:
    arguments = _arguments(sys.argv[1:])
    elapsed = clock()

    def say(line: str) -> None:
        print(f"[{elapsed():5.1f} s] {line}", file=sys.stderr, flush=True)

    affinity = os.sched_getaffinity(0)
    try:
        measured = {"http": http, "postgres": postgres}[arguments.what](arguments, Results(), say)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps({**measured, "seconds": round(elapsed(), 1)}, indent=1) + "\n")
        say("done")
        return 0
    except (BenchmarkFailed, RuntimeError) as failure:
        print(f"benchmarks: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; everything is cleaned up", file=sys.stderr)
        return 130
    finally:
        os.sched_setaffinity(0, affinity)


if __name__ == "__main__":
    sys.exit(main())
