"""One appliance with its hostile jobs for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bypass.hostile import Hostile


@pytest.fixture(scope="package")
def hostile() -> Iterator[Hostile]:
    with Hostile() as made:
        yield made
