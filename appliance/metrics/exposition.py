"""The text that Prometheus reads, of families from wherever they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as ClientMetric
from prometheus_client.registry import Collector

from appliance.ipc.messages import Family

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class _Families(Collector):
    def __init__(self, source: Callable[[], Iterable[Family]]) -> None:
        self._source = source

    def describe(self) -> list[ClientMetric]:
        return []  # nothing to be collected at registration

    def collect(self) -> Iterator[ClientMetric]:
        for family in self._source():
            metric = ClientMetric(family.name, family.documentation, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def exposition(families: Iterable[Family]) -> bytes:
    """The Prometheus text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(lambda: families))
    return generate_latest(registry)
