"""What the processes pushed, checked against the table and added up.

A process is not believed: names that are not in the table, or that are another process's, labels and buckets that
were not declared, and numbers that cannot be are dropped and counted. Counters of a worker that died stay in
the sum; a worker that starts anew under its old name (its counters fall) is noticed. Gauges count only while
the worker reports.
"""

from __future__ import annotations

import math

from appliance.ipc.messages import Family, Sample, WorkerMetrics
from appliance.metrics.names import EVERY, Metric, Process
from appliance.metrics.tally import LABEL_LENGTH, MOST_CHILDREN

STALE = 10.0  # seconds without a push after which a worker's gauges are no longer shown
MOST_WORKERS = 200
_MOST_SAMPLES = 20_000  # of one push

_Key = tuple[str, str, tuple[str, ...]]  # metric, sample name, label values (with `le` last)


class _Worker:
    __slots__ = ("process", "seen", "values")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.seen = 0.0
        self.values: dict[_Key, float] = {}


class Merged:
    def __init__(self) -> None:
        self._workers: dict[tuple[Process, str], _Worker] = {}
        self._past: dict[_Key, float] = {}  # counters of lives that are over
        self.refused = 0  # samples

    def push(self, process: Process, metrics: WorkerMetrics, now: float) -> None:
        """Takes the totals of one worker at `now` (any clock that only goes forward, seconds)."""
        name = (process, metrics.worker[:LABEL_LENGTH])
        worker = self._workers.get(name)
        if worker is None:
            if len(self._workers) >= MOST_WORKERS:
                self._bury(min(self._workers, key=lambda key: self._workers[key].seen))
            worker = self._workers[name] = _Worker(process)
        values = self._checked(process, name[1], metrics.families)
        if any(values.get(key, 0.0) < value for key, value in worker.values.items() if _adds_up(key)):
            self._keep(worker)  # it has begun a new life
        worker.values = values
        worker.seen = now

    def families(self, now: float) -> list[Family]:
        """The sums, ordered by name."""
        sums = dict(self._past)
        for worker in self._workers.values():
            fresh = now - worker.seen <= STALE
            for key, value in worker.values.items():
                if fresh or _adds_up(key):
                    sums[key] = sums.get(key, 0.0) + value
        by_metric: dict[str, list[Sample]] = {}
        for (name, sample, labels), value in sums.items():
            metric = EVERY[name]
            keys = (*metric.labels, "le") if sample.endswith("_bucket") else metric.labels
            by_metric.setdefault(name, []).append(Sample(sample, dict(zip(keys, labels, strict=True)), value))
        return [Family(name, EVERY[name].kind, EVERY[name].help, tuple(by_metric[name])) for name in sorted(by_metric)]

    def workers(self, now: float) -> dict[str, float]:
        """Seconds since each worker's last push, by "process/worker"."""
        return {f"{process}/{name}": now - worker.seen for (process, name), worker in self._workers.items()}

    def alive(self, now: float) -> dict[Process, int]:
        """How many workers of each process reported lately."""
        count: dict[Process, int] = {}
        for worker in self._workers.values():
            count[worker.process] = count.get(worker.process, 0) + (now - worker.seen <= STALE)
        return count

    def _bury(self, name: tuple[Process, str]) -> None:
        self._keep(self._workers.pop(name))

    def _keep(self, worker: _Worker) -> None:
        for key, value in worker.values.items():
            if _adds_up(key) and (key in self._past or len(self._past) < _MOST_SAMPLES):
                self._past[key] = self._past.get(key, 0.0) + value

    def _checked(self, process: Process, worker: str, families: tuple[Family, ...]) -> dict[_Key, float]:
        values: dict[_Key, float] = {}
        children: dict[str, set[tuple[str, ...]]] = {}
        left = _MOST_SAMPLES
        for family in families:
            metric = EVERY.get(family.name)
            if metric is None or process not in metric.by or metric.kind != family.kind:
                self.refused += len(family.samples)
                continue
            known = children.setdefault(metric.name, set())
            for sample in family.samples:
                key = _key(metric, sample, worker)
                left -= 1
                if (
                    key is None
                    or left < 0
                    or (key[2][: len(metric.labels)] not in known and len(known) > MOST_CHILDREN)
                ):
                    self.refused += 1
                    continue
                known.add(key[2][: len(metric.labels)])
                values[key] = sample.value
        return values


def _adds_up(key: _Key) -> bool:
    return EVERY[key[0]].kind != "gauge"


def _key(metric: Metric, sample: Sample, worker: str) -> _Key | None:
    """Where the sample is kept, or None if it is not of this metric."""
    if not math.isfinite(sample.value) or (metric.kind != "gauge" and sample.value < 0):
        return None
    labels = sample.labels
    suffix = sample.name.removeprefix(metric.name) if sample.name.startswith(metric.name) else "?"
    wanted: tuple[str, ...] = metric.labels
    if metric.kind == "histogram" and suffix == "_bucket":
        wanted = (*wanted, "le")
        if labels.get("le") not in (*map(repr, metric.buckets), "+Inf"):
            return None
    elif suffix not in {"counter": ("_total",), "gauge": ("",), "histogram": ("_sum", "_count")}[metric.kind]:
        return None
    if len(labels) != len(wanted) or any(name not in labels for name in wanted):
        return None
    if any(len(value) > LABEL_LENGTH for value in labels.values()):
        return None
    return (metric.name, sample.name, tuple(worker if name == "process" else labels[name] for name in wanted))
