"""What measurements give, whatever was measured: figures by name, round for round, and the failure that ends a run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Figures = dict[str, float]
Say = Callable[[str], None]


class BenchmarkFailed(Exception):
    """A measurement that means nothing: wrong answers, no answers, a dead process."""


@dataclass
class Results:
    """Figures by target and scenario, one entry a round."""

    rounds: dict[tuple[str, str], list[Figures]] = field(default_factory=dict)

    def add(self, target: str, scenario: str, figures: Figures) -> None:
        self.rounds.setdefault((target, scenario), []).append(figures)

    def medians(self) -> dict[tuple[str, str], Figures]:
        """The median of each figure over the rounds."""
        found = {}
        for key, rounds in self.rounds.items():
            names = dict.fromkeys(name for figures in rounds for name in figures)
            found[key] = {name: statistics.median(f[name] for f in rounds if name in f) for name in names}
        return found


def told(figures: Figures) -> str:
    """Figures on a line, for whoever waits."""
    return ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())


def clock() -> Callable[[], float]:
    """Seconds since now."""
    begin = time.monotonic()
    return lambda: time.monotonic() - begin
