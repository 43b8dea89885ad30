from __future__ import annotations

import math
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from appliance.ipc.messages import Family, Sample, WorkerMetrics
from appliance.metrics import names
from appliance.metrics.exposition import exposition
from appliance.metrics.merge import MOST_WORKERS, STALE, Merged
from appliance.metrics.tally import LABEL_LENGTH, MOST_CHILDREN, Histogram, Tally, memory_bytes


def shown(merged: Merged, now: float = 0.0) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The exposition as Prometheus' own parser reads it."""
    text = exposition(merged.families(now)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_is_well_named_and_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for metric in names.EVERY.values():
        assert re.fullmatch(r"coatcheck_[a-z_]+", metric.name)
        assert not metric.name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert metric.by
        assert (metric.kind == "histogram") == bool(metric.buckets)
        shown_name = metric.name + "_total" if metric.kind == "counter" else metric.name
        assert f"| `{shown_name}` |" in text, f"docs/metrics.md lacks {shown_name}"


def test_what_is_counted_is_what_prometheus_reads() -> None:
    tally = Tally("proxy-0")
    tally.counter(names.SWAPS, "demo").inc()
    tally.counter(names.SWAPS, "demo").inc(2)
    tally.gauge(names.FLOWS_OPEN).set(7)
    for value in (0.00001, 0.00002, 0.3, 99.0):
        tally.histogram(names.STEP_SECONDS, "dial").observe(value)
    merged = Merged()
    exported = msgspec.msgpack.decode(msgspec.msgpack.encode(tally.export()), type=WorkerMetrics)
    merged.push("proxy", exported, 0.0)
    read = shown(merged)
    assert merged.refused == 0
    assert read["coatcheck_swaps_total", (("secret", "demo"),)] == 3
    assert read["coatcheck_flows_open", ()] == 7
    buckets = {key[1][0][1]: v for key, v in read.items() if key[0] == "coatcheck_step_seconds_bucket"}
    assert buckets["1e-05"] == 1  # `le` is less or equal
    assert buckets["2.5e-05"] == 2
    assert buckets["0.5"] == 3
    assert buckets["10.0"] == 3
    assert buckets["+Inf"] == 4
    assert read["coatcheck_step_seconds_count", (("step", "dial"),)] == 4
    assert read["coatcheck_step_seconds_sum", (("step", "dial"),)] == pytest.approx(99.30003)
    assert read["coatcheck_memory_bytes", (("process", "proxy-0"),)] > 1e6
    assert memory_bytes() > 1_000_000


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_puts_each_value_where_its_bound_says(values: list[float]) -> None:
    histogram = Histogram(names.STEP_BUCKETS)
    for value in values:
        histogram.observe(value)
    total = 0
    for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        total += count
        assert total == sum(value <= bound for value in values)


def test_label_values_are_bounded() -> None:
    tally = Tally("proxy-0")
    for n in range(MOST_CHILDREN * 2):
        tally.counter(names.DENIALS, f"reason-{n}").inc()
    tally.counter(names.STRAYS, "x" * 1000).inc()
    merged = Merged()
    merged.push("proxy", tally.export(), 0.0)
    read = shown(merged)
    assert merged.refused == 0
    assert read["coatcheck_denials_total", (("reason", "other"),)] == MOST_CHILDREN
    assert sum(key[0] == "coatcheck_denials_total" for key in read) == MOST_CHILDREN + 1
    assert read["coatcheck_stray_placeholders_total", (("place", "x" * LABEL_LENGTH),)] == 1


def test_misuse_is_a_mistake_of_ours() -> None:
    tally = Tally("x")
    with pytest.raises(ValueError, match="counter"):
        tally.gauge(names.SWAPS, "demo")
    with pytest.raises(ValueError, match="labels"):
        tally.counter(names.SWAPS)
    with pytest.raises(ValueError, match="read"):
        tally.read(names.SWAPS, lambda: 1.0)


def pushed(swaps: int, open_flows: int = 0) -> WorkerMetrics:
    tally = Tally("proxy-0")
    tally.counter(names.SWAPS, "demo").inc(swaps)
    tally.gauge(names.FLOWS_OPEN).set(open_flows)
    return tally.export()


SWAPPED = ("coatcheck_swaps_total", (("secret", "demo"),))
OPEN = ("coatcheck_flows_open", ())


def test_workers_are_added_up_and_the_dead_ones_counters_stay() -> None:
    merged = Merged()
    merged.push("proxy", msgspec.structs.replace(pushed(5, 2), worker="proxy-0"), 0.0)
    merged.push("proxy", msgspec.structs.replace(pushed(7, 3), worker="proxy-1"), 0.0)
    assert (shown(merged)[SWAPPED], shown(merged)[OPEN]) == (12, 5)
    merged.push("proxy", msgspec.structs.replace(pushed(8, 4), worker="proxy-1"), STALE + 1)
    assert shown(merged, STALE + 1)[SWAPPED] == 13
    assert shown(merged, STALE + 1)[OPEN] == 4
    assert merged.alive(STALE + 1) == {"proxy": 1}
    merged.push("proxy", msgspec.structs.replace(pushed(1, 1), worker="proxy-0"), STALE + 2)  # a new life
    assert shown(merged, STALE + 2)[SWAPPED] == 14
    assert shown(merged, STALE + 2)[OPEN] == 5


@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 9))), max_size=40))
def test_no_count_is_ever_lost(steps: list[tuple[int, int | None]]) -> None:
    """Any interleaving of workers that count, push and restart: the sum is all that was counted."""
    merged = Merged()
    lives = dict.fromkeys(range(4), 0)
    total = 0
    for worker, more in steps:
        if more is None:
            if lives[worker] == 0:
                continue  # a life that counted nothing cannot be told from the next
            lives[worker] = 0
            merged.push("proxy", msgspec.structs.replace(pushed(0), worker=f"{worker}"), 0.0)
        else:
            lives[worker] += more
            total += more
            merged.push("proxy", msgspec.structs.replace(pushed(lives[worker]), worker=f"{worker}"), 0.0)
    assert shown(merged).get(SWAPPED, 0) == total


def test_workers_are_bounded_and_what_they_counted_stays() -> None:
    merged = Merged()
    for n in range(MOST_WORKERS * 2):
        merged.push("proxy", msgspec.structs.replace(pushed(1), worker=f"w{n}"), float(n))
    assert len(merged.workers(0.0)) == MOST_WORKERS
    assert shown(merged)[SWAPPED] == MOST_WORKERS * 2


def one(family: Family) -> WorkerMetrics:
    return WorkerMetrics("w", (family,))


HOSTILE = {
    "an unknown name": Family("evil", "gauge", "x", (Sample("evil", {}, 1.0),)),
    "another process's": Family(
        "coatcheck_audit_sequence", "gauge", "", (Sample("coatcheck_audit_sequence", {}, 1.0),)
    ),
    "another kind": Family("coatcheck_swaps", "gauge", "", (Sample("coatcheck_swaps_total", {"secret": "a"}, 1.0),)),
    "another sample": Family("coatcheck_swaps", "counter", "", (Sample("coatcheck_up", {"secret": "a"}, 1.0),)),
    "a label too many": Family(
        "coatcheck_swaps", "counter", "", (Sample("coatcheck_swaps_total", {"secret": "a", "b": "c"}, 1.0),)
    ),
    "a label too few": Family("coatcheck_swaps", "counter", "", (Sample("coatcheck_swaps_total", {}, 1.0),)),
    "a long label": Family(
        "coatcheck_swaps", "counter", "", (Sample("coatcheck_swaps_total", {"secret": "a" * 999}, 1.0),)
    ),
    "below zero": Family("coatcheck_swaps", "counter", "", (Sample("coatcheck_swaps_total", {"secret": "a"}, -1.0),)),
    "no number": Family("coatcheck_flows_open", "gauge", "", (Sample("coatcheck_flows_open", {}, math.nan),)),
    "no bucket": Family(
        "coatcheck_step_seconds",
        "histogram",
        "",
        (Sample("coatcheck_step_seconds_bucket", {"step": "dial", "le": "3"}, 1.0),),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_in_the_table_is_refused(name: str) -> None:
    merged = Merged()
    merged.push("proxy", one(HOSTILE[name]), 0.0)
    assert merged.refused == 1
    assert shown(merged) == {}


def test_a_flood_is_bounded_and_nobody_speaks_for_another_process() -> None:
    merged = Merged()
    samples = tuple(Sample("coatcheck_swaps_total", {"secret": f"s{n}"}, 1.0) for n in range(100_000))
    merged.push("proxy", one(Family("coatcheck_swaps", "counter", "", samples)), 0.0)
    assert len(shown(merged)) <= MOST_CHILDREN + 1
    sample = Sample("coatcheck_memory_bytes", {"process": "vault"}, 1.0)
    merged.push("proxy", one(Family("coatcheck_memory_bytes", "gauge", "", (sample,))), 0.0)
    assert [key for key in shown(merged) if key[0] == "coatcheck_memory_bytes"] == [
        ("coatcheck_memory_bytes", (("process", "w"),))
    ]


def test_label_values_cannot_break_the_text() -> None:
    merged = Merged()
    value = 'a"} 1\ncoatcheck_evil 1 \\'
    sample = Sample("coatcheck_swaps_total", {"secret": value}, 1.0)
    merged.push("proxy", one(Family("coatcheck_swaps", "counter", "", (sample,))), 0.0)
    assert list(shown(merged)) == [("coatcheck_swaps_total", (("secret", value),))]
