"""Whatever an agent says, in any order: it hears what the server would say directly, and what is denied is not done.
The conversations are by chance, and the same in every run; for others, or more: SEED=4000 COUNT=1000."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.postgres.session import Direct, Session
from tests.postgres.spine import Spine

pytestmark = pytest.mark.world
SEED, COUNT = int(os.environ.get("SEED", "1")), int(os.environ.get("COUNT", "60"))
_TABLES = """
create table t (n int); create table guarded (n int); create table people (email text);
grant all on t, guarded to plain;
"""


@pytest.fixture(scope="module", params=["plain", "masked"])
def spine(request: pytest.FixtureRequest) -> Iterator[Spine]:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination |= {"login": "password", "upstream_login": ["password"], "search_path": ["public"]}
        destination["rules"] = [
            {"name": "guarded", "writes": ["public.guarded"], "decision": "deny"},
            {"name": "any", "marks": ["*"]},
        ]
        if request.param == "masked":  # then rows are described before each Execute
            destination["masks"] = [{"name": "mail", "columns": ["public.people.email"]}]

    with Spine(change) as made:
        made.server.sql(_TABLES)
        yield made


@pytest.fixture(scope="module")
def through(spine: Spine) -> list[list[list[str]]]:
    return _heard(spine, spine)


@pytest.fixture(scope="module")
def guarded(spine: Spine) -> list[list[list[str]]]:
    """What is said is denied now and then."""
    return _heard(spine, spine, "guarded")


def _heard(spine: Spine, way: Session, *word: str) -> list[list[list[str]]]:
    done = way.run(
        [*spine.appliance.python, "-m", "tests.postgres.conversations", str(SEED), str(COUNT), *word],
        env={"PYTHONPATH": str(spine.appliance.root), "PGUSER": "plain"},
        timeout=60 + COUNT,
    )
    assert done.returncode == 0, done.stderr
    return [[_alike(*each) for each in json.loads(line)] for line in done.stdout.splitlines()]


def _alike(kind: str, text: str) -> list[str]:
    """What cannot be read is denied; of a name that is unknown we say so, whatever else is wrong."""
    if kind == "E" and text == "42601":
        return [kind, "42501"]
    return [kind, "26000"] if kind == "E" and text in ("25P02", "34000", "55000") else [kind, text]


def test_an_agent_hears_what_the_server_says(spine: Spine, through: list[list[list[str]]]) -> None:
    directly = _heard(spine, Direct(spine.world, spine.authority.file))
    assert len(directly) == COUNT
    assert [SEED + at for at, pair in enumerate(zip(directly, through, strict=True)) if pair[0] != pair[1]] == []


def test_what_is_denied_is_not_done(spine: Spine, guarded: list[list[list[str]]]) -> None:
    assert sum(["E", "42501"] in answer for answer in guarded) > COUNT / 10
    assert ["end", ""] not in [answer[-1] for answer in guarded]
    assert spine.server.sql("select count(*) from guarded") == "0"
    assert "flow.bug" not in spine.appliance.log()


@pytest.mark.usefixtures("through", "guarded")
def test_each_statement_has_one_end_on_record(spine: Spine) -> None:
    records = spine.appliance.audit()
    for _ in range(400):  # ends are handed over a moment later
        if sum((r["type"] == "flow.opened") - (r["type"] == "flow.closed") for r in records) == 0:
            break
        time.sleep(0.05)
        records = spine.appliance.audit()
    decided = [(r["flow"], r["operation"]) for r in records if r["type"] == "statement.decided"]
    ended = [(r["flow"], r["operation"]) for r in records if r["type"] == "statement.ended"]
    assert len(decided) > COUNT
    assert sorted(ended) == sorted(decided)
