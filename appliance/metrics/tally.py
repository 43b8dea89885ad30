"""Counting on the hot path: plain integers and fixed buckets, no lock, no label look-up per event.

Ask for a counter once and keep it: `swaps = tally.counter(names.SWAPS, "demo")`, then `swaps.value += 1`. One
thread only. `export()` gives what control's `metrics` method takes.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from collections.abc import Callable

from appliance.ipc.messages import Family, Sample, WorkerMetrics
from appliance.metrics import names
from appliance.metrics.names import Metric

MOST_CHILDREN = 200  # label combinations of one metric; the next ones are all "other"
LABEL_LENGTH = 100  # characters; what is over is cut
OTHER = "other"
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Counter:
    """`value` may be added to directly: that is the cheapest way."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount


class Gauge:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value

    def add(self, amount: float) -> None:
        self.value += amount


class Histogram:
    """Counts per bucket; they are added up only when exported."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Tally:
    """One process's or worker's metrics. `worker` is unique among those that run, for example "proxy-0"."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self._children: dict[Metric, dict[tuple[str, ...], Counter | Gauge | Histogram]] = {}
        self._read: dict[Metric, Callable[[], float]] = {}

    def counter(self, metric: Metric, *values: str) -> Counter:
        """The counter of these label values. Raises ValueError if the metric is of another kind or has other
        labels: a mistake of ours."""
        child = self._child(metric, values, "counter")
        assert isinstance(child, Counter)  # noqa: S101  # what _make made for this kind
        return child

    def gauge(self, metric: Metric, *values: str) -> Gauge:
        child = self._child(metric, values, "gauge")
        assert isinstance(child, Gauge)  # noqa: S101
        return child

    def histogram(self, metric: Metric, *values: str) -> Histogram:
        child = self._child(metric, values, "histogram")
        assert isinstance(child, Histogram)  # noqa: S101
        return child

    def read(self, metric: Metric, value: Callable[[], float]) -> None:
        """A gauge or counter without labels whose value is asked for at each export."""
        if metric.labels or metric.kind == "histogram":
            raise ValueError(f"{metric.name} cannot be read by a function")
        self._read[metric] = value

    def export(self) -> WorkerMetrics:
        """Everything so far, with this process's memory and processor time."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        memory = self.gauge(names.MEMORY, self.worker)
        try:
            memory.value = float(memory_bytes())
        except OSError:
            pass  # no descriptor to be had: the last figure stands, and nothing ends for want of it
        self.counter(names.CPU, self.worker).value = used.ru_utime + used.ru_stime
        families = [_family(metric, children) for metric, children in self._children.items()]
        for metric, value in self._read.items():
            families.append(family(metric, {(): float(value())}))
        return WorkerMetrics(self.worker, tuple(families))

    def _child(self, metric: Metric, values: tuple[str, ...], kind: names.Kind) -> Counter | Gauge | Histogram:
        if metric.kind != kind or len(values) != len(metric.labels):
            raise ValueError(f"{metric.name} is a {metric.kind} with the labels {metric.labels}")
        children = self._children.setdefault(metric, {})
        child = children.get(values)
        if child is None:
            if len(children) >= MOST_CHILDREN:
                values = (OTHER,) * len(values)
            else:
                values = tuple(value[:LABEL_LENGTH] for value in values)
            child = children.get(values)
            if child is None:
                child = children[values] = _make(metric)
        return child


def memory_bytes() -> int:
    """This process's resident memory (proc(5), statm, field 2)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def family(metric: Metric, values: dict[tuple[str, ...], float]) -> Family:
    """A family of a counter or gauge from its values by label values."""
    name = metric.name + "_total" if metric.kind == "counter" else metric.name
    samples = tuple(Sample(name, dict(zip(metric.labels, key, strict=True)), value) for key, value in values.items())
    return Family(metric.name, metric.kind, metric.help, samples)


def _make(metric: Metric) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(metric.buckets)
    return Counter() if metric.kind == "counter" else Gauge()


def _family(metric: Metric, children: dict[tuple[str, ...], Counter | Gauge | Histogram]) -> Family:
    values: dict[tuple[str, ...], float] = {}
    samples: list[Sample] = []
    for key, child in children.items():
        if isinstance(child, Histogram):
            samples += _histogram_samples(metric, key, child)
        else:
            values[key] = child.value
    return family(metric, values) if not samples else Family(metric.name, "histogram", metric.help, tuple(samples))


def _histogram_samples(metric: Metric, key: tuple[str, ...], histogram: Histogram) -> list[Sample]:
    labels = dict(zip(metric.labels, key, strict=True))
    samples = []
    total = 0
    for bound, count in zip((*map(repr, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        samples.append(Sample(metric.name + "_bucket", {**labels, "le": bound}, float(total)))
    samples.append(Sample(metric.name + "_count", labels, float(total)))
    samples.append(Sample(metric.name + "_sum", labels, histogram.sum))
    return samples
