"""The order of things: start, memory before load, rounds over all targets, memory after load; medians at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import memory, scenarios
from benchmarks.results import BenchmarkFailed, Figures, Results, Say, told
from benchmarks.setting import Setting
from benchmarks.targets import Target

NEW = "h1-new-connections"
BODY = "h1-body-200mb"
IDLE = "idle-memory"


def keepalive_name(connections: int) -> str:
    return f"h1-keepalive-{connections}"


@dataclass(frozen=True)
class Plan:
    """How much is measured. Seconds; `rate` is requests a second for the latency."""

    rounds: int
    connections: tuple[int, ...]
    warm: float
    window: float
    latency_window: float
    rate: float
    body_times: int
    memory_steps: tuple[int, ...]
    many: bool


FULL = Plan(3, (1, 64, 1000), 0.6, 2.5, 3.0, 250, 2, (1, 64, 1000), True)
QUICK = Plan(1, (64,), 0.3, 1.0, 1.0, 250, 1, (64, 256), False)


def measure(setting: Setting, targets: Sequence[Target], plan: Plan, results: Results, say: Say) -> float:
    """Fills `results`; what is there when this raises is whole. Returns what a connection pair costs OpenSSL alone, in
    KiB. Raises BenchmarkFailed."""
    openssl_pair_kb = memory.openssl_pair_kb(setting)
    proxies = [target for target in targets if target.root is not None]
    say(f"memory at {', '.join(map(str, plan.memory_steps))} idle connections")
    for name, figures in memory.idle(setting, proxies, plan.memory_steps).items():
        figures["kb_per_pair_beyond_openssl"] = figures["kb_per_pair"] - openssl_pair_kb
        results.add(name, IDLE, figures)
    for number in range(plan.rounds):
        for scenario, target, step in _round(setting, targets, plan, results, first=number == 0):
            figures = step()
            results.add(target.name, scenario, figures)
            say(f"round {number + 1}/{plan.rounds} {scenario} {target.name}: {told(figures)}")
    if plan.many:
        for target in proxies:
            say(f"memory of {target.name} after {memory.MANY:,} connections")
            results.add(target.name, IDLE, memory.after_many(setting, target))
    return openssl_pair_kb


def _round(
    setting: Setting, targets: Sequence[Target], plan: Plan, results: Results, *, first: bool
) -> Iterator[tuple[str, Target, Callable[[], Figures]]]:
    """Every scenario, and within it every target: what is to be compared is measured within seconds. Slow targets are
    in the first round only."""
    mine = [target for target in targets if first or not target.slow]
    for target in mine:
        yield NEW, target, partial(scenarios.new_connections, setting, target, plan.warm, plan.window)
    for count in plan.connections:
        name = keepalive_name(count)
        for target in mine:
            warm = plan.warm + _handshakes(results, target, count)

            def busy(target: Target = target, count: int = count, warm: float = warm) -> Figures:
                return scenarios.keepalive(setting, target, count, warm, plan.window)

            def calm(target: Target = target, count: int = count, warm: float = warm) -> Figures:
                return scenarios.latency(setting, target, count, plan.rate, warm, plan.latency_window)

            if target.root is not None:
                yield name, target, busy
            yield name, target, calm
    for target in mine:
        yield BODY, target, partial(scenarios.body, target, plan.body_times)


def _handshakes(results: Results, target: Target, connections: int) -> float:
    """Seconds that the target needs to take so many connections, by what this run has seen, twice over."""
    rate = results.medians()[target.name, NEW]["connections_per_s"]
    if rate <= 0:
        raise BenchmarkFailed(f"{target.name} made no connection")
    return 2 * connections / rate
