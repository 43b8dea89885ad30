"""Every row that is a script: run in a job, it comes out as said, and nothing is seen outside."""

from __future__ import annotations

import pytest

from tests.bypass.hostile import Hostile
from tests.bypass.rows import Row, rows

pytestmark = pytest.mark.world

SCRIPTED = [row for kind in rows().values() for row in kind if row.script]


@pytest.mark.parametrize("row", SCRIPTED, ids=lambda row: row.name)
def test_scripted(hostile: Hostile, row: Row) -> None:
    hostile.escaped()
    outcome = hostile.attempt(row.script)
    assert outcome.startswith(row.outcomes), outcome
    assert hostile.escaped() == []
