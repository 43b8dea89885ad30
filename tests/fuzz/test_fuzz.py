"""A taste of each fuzz loop, so that the harnesses themselves stay sound."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.harnesses import ALL
from tests.fuzz.runner import Harness, judge, mutant


@pytest.mark.parametrize("harness", ALL, ids=lambda h: h.name)
def test_a_few_hundred_mutants(harness: Harness) -> None:
    for seed in range(300):
        chance = random.Random(seed)
        judge(harness, mutant(harness, chance), chance)
