"""One governed world for each test module: the hooks take a moment to load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.governed import Governed
from tests.world import World


@pytest.fixture(scope="module")
def governed_world() -> Iterator[Governed]:
    with World() as world:
        made = Governed(world)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def governed(governed_world: Governed) -> Governed:
    governed_world.forget()
    return governed_world


@pytest.fixture
def job(governed: Governed) -> Path:
    return governed.job("one")
