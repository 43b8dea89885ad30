"""The order of things: rounds over all scenarios, and within each over all targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.postgres import scenarios
from benchmarks.postgres.programs import Mode
from benchmarks.postgres.setting import FREE, JUDGED, Setting
from benchmarks.report import PRODUCT
from benchmarks.results import Figures, Results, Say, told
from benchmarks.targets import Target

COPY = "copy-out"
MASK = "mask-2-of-10"
CONNECT = "connect"
MODES: tuple[Mode, ...] = ("simple", "prepared")
FREE_CONNECTIONS = 8


def queries_name(mode: Mode, connections: int, *, free: bool = False) -> str:
    return f"{mode}-{connections}{'-free' if free else ''}"


@dataclass(frozen=True)
class Plan:
    """How much is measured. `warm` and `window` in whole seconds: pgbench tells once a second."""

    rounds: int
    connections: tuple[int, ...]
    warm: int
    window: int
    copy_mb: int
    people: int
    people_times: int
    direct: bool  # nothing in between, too, where only CPU time is compared


FULL = Plan(3, (1, 8, 64), 1, 3, 1000, 400_000, 3, True)
QUICK = Plan(1, (8,), 1, 1, 100, 400_000, 1, False)


def measure(setting: Setting, targets: Sequence[Target], plan: Plan, results: Results, say: Say) -> None:
    """Fills `results`; what is there when this raises is whole. Raises BenchmarkFailed."""
    for target in targets:
        if target.name == PRODUCT:
            scenarios.check_masks(target)
    for number in range(plan.rounds):
        for scenario, target, step in _round(setting, targets, plan):
            figures = step()
            results.add(target.name, scenario, figures)
            say(f"round {number + 1}/{plan.rounds} {scenario} {target.name}: {told(figures)}")


def _round(
    setting: Setting, targets: Sequence[Target], plan: Plan
) -> Iterator[tuple[str, Target, Callable[[], Figures]]]:
    """Every scenario, and within it every target: what is to be compared is measured within seconds."""
    of_cpu = [target for target in targets if plan.direct or target.root is not None]
    asked = [(mode, count, False) for count in plan.connections for mode in MODES]
    asked.append(("simple", FREE_CONNECTIONS, True))
    for mode, count, free in asked:
        for target in of_cpu:

            def look_up(
                target: Target = target, mode: Mode = mode, count: int = count, host: str = FREE if free else JUDGED
            ) -> Figures:
                return scenarios.queries(target, count, mode, host, plan.warm, plan.window)

            yield queries_name(mode, count, free=free), target, look_up
    for target in of_cpu:
        yield CONNECT, target, partial(scenarios.connect, target, plan.warm, plan.window)
    for target in targets:
        yield COPY, target, partial(scenarios.copy, setting, target)
    for target in of_cpu:
        yield MASK, target, partial(scenarios.masked, setting, target, plan.people_times)
