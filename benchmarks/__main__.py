"""`python -m benchmarks http`: see docs/benchmarks.md."""

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

from benchmarks import report
from benchmarks.generators import BenchmarkFailed
from benchmarks.plot import draw
from benchmarks.run import FULL, QUICK, Plan, Results, clock, measure, start_all
from benchmarks.setting import Setting
from benchmarks.targets import ALL, Target
from tests.world import World

_PLOT = Path(__file__).parent / "out" / "http.png"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    names = [target.name for target in ALL]
    parser = argparse.ArgumentParser(prog="benchmarks", description="Speed of the product beside its peers.")
    http = parser.add_subparsers(dest="what", required=True).add_parser("http", help="HTTPS through each target")
    http.add_argument("--quick", action="store_true", help="under 45 seconds: fewer scenarios, one round")
    http.add_argument("--rounds", type=int, metavar="N", help=f"how often each is measured (default {FULL.rounds})")
    http.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    http.add_argument("--plot", type=Path, metavar="FILE", default=_PLOT, help="default: benchmarks/out/http.png")
    http.add_argument("--targets", default=",".join(names), help="some of: %(default)s")
    found = parser.parse_args(argv)
    unknown = set(found.targets.split(",")) - set(names)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if found.rounds is not None and found.rounds < 1:
        parser.error("--rounds is at least 1")
    return found


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


def http(arguments: argparse.Namespace) -> int:
    plan: Plan = QUICK if arguments.quick else FULL
    if arguments.rounds is not None:
        plan = dataclasses.replace(plan, rounds=arguments.rounds)
    chosen = arguments.targets.split(",")
    elapsed = clock()
    results = Results()

    def say(line: str) -> None:
        print(f"[{elapsed():5.1f} s] {line}", file=sys.stderr, flush=True)

    affinity = os.sched_getaffinity(0)
    try:
        with _world() as world:
            setting = Setting(world)
            targets: list[Target] = [target(setting) for target in ALL if target.name in chosen]
            start_all(targets, say)
            measure(setting, targets, plan, results, say)
    finally:
        os.sched_setaffinity(0, affinity)
    _publish(arguments, plan, results, [target.name for target in targets], elapsed())
    say("done")
    return 0


def _publish(
    arguments: argparse.Namespace, plan: Plan, results: Results, targets: Sequence[str], seconds: float
) -> None:
    medians = results.medians()
    wanted = report.columns(plan.connections, plan.many)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_json(results, wanted, seconds), indent=1) + "\n")
    print(f"\nMedians of {plan.rounds} round(s); OpenSSL's own part of a pair: {results.openssl_pair_kb:.1f} kB\n")
    print(report.table(medians, targets, wanted))
    lines = report.requirements(medians)
    print("", *lines, sep="\n")
    draw(medians, targets, wanted, arguments.plot)
    print(f"\nplot: {arguments.plot}")


def main() -> int:
    try:
        return http(_arguments(sys.argv[1:]))
    except (BenchmarkFailed, RuntimeError) as failure:
        print(f"benchmarks: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; everything is cleaned up", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
