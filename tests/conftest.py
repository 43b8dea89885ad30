"""Fixtures that every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh world for one test (about 0.1 s). Mark the test `@pytest.mark.world`."""
    with World() as made:
        yield made
