"""The law of lineage, by real servers: what the proxy would let through does not depend on what is in a masked column.

Each text runs in two worlds that differ in their masked columns alone. If its Flow lets it through, both must show the
same, once the columns that RowDescription (or, for COPY, the Flow's output) says are masked have been hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from appliance.lineage.lineage import Flow, lineage
from appliance.model.errors import PeerError
from tests.lineage.queries import Maker
from tests.lineage.servers import VERSIONS, Server
from tests.lineage.world import CANARY, World, hidden, hidden_by_output

TEXTS = 2500  # for each server


@pytest.fixture(scope="module", params=VERSIONS)
def worlds(request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    server = Server(request.param)
    try:
        yield World(server, "a"), World(server, "b")
    finally:
        server.close()


def flow_of(world: World, text: str) -> Flow | None:
    try:
        (flow,) = lineage(text, world.catalogue)
    except PeerError:
        return None
    return flow


def judge(worlds: tuple[World, World], text: str, shadow: str) -> str:
    """Runs a text in both worlds and checks all that must hold of it. Says what kind of text it was."""
    one, other = worlds
    flow = flow_of(one, text)
    if flow is None:
        return "unread"
    assert flow == flow_of(other, text)
    if flow.opaque or flow.writes:
        return "denied"
    a, b = one.show(text, shadow), other.show(text, shadow)
    if flow.probes:  # may tell of a masked value, but must not show it
        for world, shown in ((one, a), (other, b)):
            assert CANARY not in str(hidden(shown, world.catalogue, flow)), text
            assert flow.expressions or CANARY not in shown.message, text
        return "probes"
    if flow.expressions and (a.error or b.error):
        return "loud"  # the error is hidden, too
    assert (a.error, a.message) == (b.error, b.message), text
    assert [number for _, number in a.columns] == [number for _, number in b.columns], text
    assert same(hidden(a, one.catalogue, flow), hidden(b, other.catalogue, flow)), (text, flow)
    if (by_output := hidden_by_output(a, flow)) is not None:
        assert same(by_output, hidden_by_output(b, flow) or []), (text, flow)
    if a.error:
        return "fails"
    masked = any(one.catalogue.mask_of(*column) >= 0 for column in a.columns)
    return "masked" if masked else ("expressions" if flow.expressions else "clean")


def same(rows: list[tuple[object, ...]], others: list[tuple[object, ...]]) -> bool:
    return sorted(map(repr, rows)) == sorted(map(repr, others))


@pytest.mark.timeout(900)
def test_what_is_let_through_does_not_depend_on_what_is_masked(worlds: tuple[World, World]) -> None:
    kinds: dict[str, int] = {}

    @settings(
        max_examples=TEXTS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(seed=st.integers(0, 2**40), shadow=st.sampled_from(["", "", "", "", "", "users", "tags", "events"]))
    def law(seed: int, shadow: str) -> None:
        kind = judge(worlds, Maker(Random(seed)).statement(), shadow)
        event(kind)
        kinds[kind] = kinds.get(kind, 0) + 1

    law()
    for kind in ("denied", "probes", "masked", "expressions", "clean"):  # the law must have been tried on each
        assert kinds.get(kind, 0) >= TEXTS // 100, kinds
