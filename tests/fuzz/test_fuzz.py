"""A taste of each fuzz loop, so that the harnesses themselves stay sound."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import dns, hello, http1, masking, names, postgres, scram, sql, target
from tests.fuzz.runner import Harness, judge, mutant

ALL = [
    http1.REQUEST,
    http1.RESPONSE,
    hello.HARNESS,
    names.HARNESS,
    target.HARNESS,
    dns.HARNESS,
    scram.HARNESS,
    masking.ROW_MASKS,
    masking.COPY_MASKS,
    masking.VALUE_MASKS,
    postgres.START,
    postgres.CLIENT,
    postgres.SERVER,
    sql.HARNESS,
]


@pytest.mark.parametrize("harness", ALL, ids=lambda h: h.name)
def test_a_few_hundred_mutants(harness: Harness) -> None:
    for seed in range(300):
        chance = random.Random(seed)
        judge(harness, mutant(harness, chance), chance)
