"""Masked columns of types that users made: their values do not come out, and a client can read what does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.postgres.scripts import seen_by
from tests.postgres.spine import Spine

pytestmark = pytest.mark.world
_CANARY = "canary"  # in every value that is masked
_TYPES = f"""
create extension citext;
create type mood as enum ('{_CANARY}', 'calm');
create domain mail as text check (value like '%@%');
create domain loud as citext;
create domain mails as mail[];
create domain doc as jsonb;
create domain brief as jsonb;
create type span as range (subtype = text);
create type pair as (a text, b int);
create table made (
    n int primary key, plain citext, mood mood, mail mail, part citext, token loud, span span,
    spans span_multirange, pair pair, moods mood[], mails mails, names citext[], nested mails[], docs doc[],
    pairs pair[]
);
insert into made select n, 'Plain', '{_CANARY}', '{_CANARY}@x.test', '{_CANARY} four', '{_CANARY}' || n % 2,
    span('{_CANARY}', 'd'), span_multirange(span('{_CANARY}', 'd')), ('{_CANARY}', 424242)::pair,
    '{{{_CANARY},NULL,calm}}', '{{{_CANARY}@x.test,NULL}}', '{{{{{_CANARY}}},{{b}}}}',
    array['{{{_CANARY}@x.test}}'::mails], array['{{"k": "{_CANARY}", "l": 7}}'::doc], array[('{_CANARY}', 1)::pair]
    from generate_series(1, 3) n;
create table changing (early brief[]);
insert into changing values (array['{{"k": "{_CANARY}"}}'::brief]);
grant all on all tables in schema public to app;
create function become() returns text language plpgsql security definer as $$ begin
    alter table changing drop early;
    drop domain brief;
    create domain brief as text;
    alter table changing add early brief[];
    update changing set early = '{{42424, 2}}';
    return 'done';
end $$;
"""
_HIDDEN = ("mood", "mail", "span", "spans", "pair", "moods", "mails", "names", "nested", "pairs")
_MASKS = [
    {"name": "made", "columns": [f"public.made.{name}" for name in _HIDDEN]},
    {"name": "docs", "columns": ["public.made.docs", "public.changing.early"], "paths": ["$.k"]},
    {"name": "part", "columns": ["public.made.part"], "how": "partial"},
    {"name": "token", "columns": ["public.made.token"], "how": "token"},
]
# As psycopg's users do. Not EnumInfo: *** is none of an enum's labels.
_REGISTERED = """
from psycopg.types import TypeInfo
from psycopg.types.json import JsonbBinaryLoader, JsonbLoader
from psycopg.types.multirange import MultirangeInfo, register_multirange
from psycopg.types.range import RangeInfo, register_range
from psycopg.types.string import TextBinaryLoader, TextLoader
for name in ("citext", "mood", "mail", "loud", "mails", "doc"):
    info = TypeInfo.fetch(connection, name)
    info.register(connection)
    for loader in (JsonbLoader, JsonbBinaryLoader) if name == "doc" else (TextLoader, TextBinaryLoader):
        connection.adapters.register_loader(info.oid, loader)
register_range(RangeInfo.fetch(connection, "span"), connection)
register_multirange(MultirangeInfo.fetch(connection, "span_multirange"), connection)
"""


def _change(config: dict[str, Any], destination: dict[str, Any]) -> None:
    destination |= {
        "masks": _MASKS,
        "opaque_functions": ["public.become"],
        "rules": [{"name": "become", "functions": ["public.become"]}, {"name": "any"}],
    }


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        made.server.sql(_TYPES)
        yield made


def _seen(spine: Spine, code: str) -> list[Any]:
    seen = seen_by(spine, code)
    told = json.dumps(seen)
    assert _CANARY not in told
    assert "424242" not in told
    return list(seen)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_each_is_hidden_and_readable(spine: Spine, binary: bool) -> None:
    (rows,) = _seen(spine, f'{_REGISTERED}\ngo("select * from made order by n", binary={binary})')
    tokens = [row.pop(5) for row in rows]
    assert tokens[0] == tokens[2] != tokens[1]
    assert all(token.startswith("tok_") for token in tokens)
    hidden: dict[str, Any] = {
        "plain": "Plain",
        "mood": "***",
        "mail": "***",
        "part": "***ur",
        "span": "empty",
        "spans": "{}",
        "pair": None,
        "moods": ["***", None, "***"],
        "mails": ["***", None],
        "names": [["***"], ["***"]],
        "nested": [],
        "docs": [{"k": "***", "l": 7}],
        "pairs": None,
    }
    assert rows == [[n, *hidden.values()] for n in (1, 2, 3)]


def test_copy(spine: Spine) -> None:
    code = """
for options in ("", " (format csv)", " (format binary)"):
    with connection.cursor().copy("copy made to stdout" + options) as copy:
        seen.append(b"".join(bytes(part) for part in copy).decode("latin-1"))
"""
    assert all("Plain" in data for data in _seen(spine, code))


def test_a_type_that_has_become_another(spine: Spine) -> None:
    """In a session whose catalogue is older: what hides paths of JSON would let through what is no JSON any more."""
    code = """
go("select early from changing")
go("select become()")
go("select early from changing")
"""
    before, done, after = _seen(spine, code)
    assert before == [['{"{\\"k\\": \\"***\\"}"}']]
    assert done == [["done"]]
    assert after == [[None]]
