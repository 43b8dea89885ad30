"""One running appliance for the tests of a module that do not change it; tests that do make their own Spine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.spine import Spine


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine() as made:
        yield made
