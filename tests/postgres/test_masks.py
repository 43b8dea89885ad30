"""What is masked does not come out: in any format, by any way to ask, in a dump; and what is not masked does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.postgres.scripts import assert_denied, seen_by
from tests.postgres.spine import Spine

pytestmark = pytest.mark.world
_CANARY = "canary"  # in every value that is masked
_TABLES = f"""
create extension hstore;
create table people (n int primary key, name text, email text, card text, mails text[], sums int[], about jsonb);
insert into people select n, 'name' || n, '{_CANARY}' || n || '@x.test', '{_CANARY}' || n % 2,
    array['{_CANARY}' || n, 'b'], array[n, 424242],
    jsonb_build_object('who', 'name' || n, 'key', jsonb_build_object('word', '{_CANARY}' || n), 'list',
        jsonb_build_array(jsonb_build_object('word', '{_CANARY}'), n)) from generate_series(1, 3) n;
create view mail as select n, email as address from people;
create table notes (n int, body text); insert into notes values (1, 'ask {_CANARY}@example.com, not me');
create table docs (n int, body jsonb, payload jsonb);
insert into docs select 1, about, about from people where n = 1;
create view cards as select n, card::int as number from people;
create view words as select body->'key' as inside, body as whole from docs;
create schema own authorization app;
grant all on all tables in schema public to app;
"""
_MASKS = [
    {"name": "mail", "columns": ["public.people.email", "public.people.mails", "public.people.sums"]},
    {"name": "card", "columns": ["public.people.card"], "how": "token", "expressions": "mask", "probing": "allow"},
    {"name": "key", "columns": ["public.people.about"], "paths": ["$.key.word", "$.list[*].word"]},
    {
        "name": "part",
        "columns": ["public.docs.body"],
        "paths": ["$.key.word", "$.list[*].word"],
        "expressions": "mask",
    },
    {"name": "called", "names": ["payload"], "paths": ["$.key.word", "$.list[*].word"], "expressions": "mask"},
    {"name": "found", "detect": ["email"]},
]
# What docs/policy.md says that pg_dump needs
_RULES: list[dict[str, Any]] = [
    {"name": "dump", "functions": ["pg_catalog.*"]},
    {"name": "any"},
]


def _change(config: dict[str, Any], destination: dict[str, Any]) -> None:
    destination |= {"masks": _MASKS, "rules": _RULES}


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        made.server.sql(_TABLES)
        yield made


def _seen(spine: Spine, code: str) -> list[Any]:
    seen = seen_by(spine, code)
    assert _CANARY not in json.dumps(seen)
    return list(seen)


_ROW = ("***", ["***", "***"])


def test_plain_and_prepared(spine: Spine) -> None:
    """By every way a driver asks: simple, extended, prepared under a name, in binary, by SQL's PREPARE, by a cursor."""
    ask = "select email, mails from people where n = "
    code = f"""
go("{ask}1")
go("{ask}%s", (1,))
for _ in range(3):
    go("{ask}%s", (1,), prepare=True)
go("{ask}%s", (1,), binary=True)
go("prepare p (int) as {ask}$1"); go("execute p (1)")
go("begin"); go("declare c cursor for {ask}1"); go("fetch all from c"); go("commit")
with connection.transaction(), connection.cursor(name="named") as cursor:
    cursor.execute("{ask}1")
    seen.append(cursor.fetchall())
go("select name from people where n = 1")
"""
    *rows, name = [got for got in _seen(spine, code) if isinstance(got, list)]
    assert rows == [[list(_ROW)]] * 9
    assert name == [["name1"]]


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_arrays_json_and_what_a_detector_finds(spine: Spine, binary: bool) -> None:
    code = f"""
go("select mails, sums, about from people where n = 1", binary={binary})
go("select about from people where n = 1", binary={binary})
go("select body from notes", binary={binary})
go("select array[body] from notes", binary={binary})
go("select address from mail where n = 1", binary={binary})
"""
    (arrays,), ((about,),), ((body,),), ((several,),), ((address,),) = _seen(spine, code)
    assert arrays[:2] == [["***", "***"], []]
    assert about == {"who": "name1", "key": {"word": "***"}, "list": [{"word": "***"}, 1]}
    assert (body, several) == ("ask ***, not me", ["ask ***, not me"])
    assert address == "***"


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_paths_lead_through_the_column_itself_and_nothing_that_is_computed_from_it(spine: Spine, binary: bool) -> None:
    """What is computed has another form: a path would miss what it is meant to hide."""
    around = [
        "select body->'key' from docs",
        "select body->'key'->'word' from docs",
        "select to_jsonb(d)->'body' from docs d",
        "select inside from words",
        "select payload->'key' as payload from docs",
        "select body->'key' as payload from docs",
        "select jsonb_agg(body) from docs",
    ]
    code = f"""
for what in ["select body, payload from docs", "select whole, whole from words", *{around!r}]:
    go(what, binary={binary})
for what in {around!r}:
    with connection.cursor().copy(f"copy ({{what}}) to stdout") as copy:
        seen.append(b"".join(bytes(part) for part in copy).decode())
"""
    (plain,), (view,), *computed = _seen(spine, code)
    shown = {"who": "name1", "key": {"word": "***"}, "list": [{"word": "***"}, 1]}
    assert (plain, view) == ([shown, shown], [shown, shown])
    rows, copies = computed[: len(around)], computed[len(around) :]
    assert len(copies) == len(around)
    assert all("name1" not in json.dumps(each) for each in (*rows, *copies))


def test_tokens_are_the_same_for_the_same(spine: Spine) -> None:
    code = """
go("select card from people order by n")
go("select upper(card) from people where n = 1")
go("select count(*) from people where card like 'c%%'")
"""
    cards, upper, count = _seen(spine, code)
    assert cards[0] == cards[2] != cards[1]
    assert len(upper) == 1  # computed, so hidden as a whole
    assert count == [[3]]


def test_what_is_computed_answers_nothing(spine: Spine) -> None:
    """Not by where it is NULL, nor by tokens of a letter or the number of an array's elements."""
    what = f"nullif(card, '{_CANARY}1'), substr(card, 1, 1), string_to_array(card, 'a'), length(card)"
    code = f"""
go("select {what} from people")
go("select {what} from people", binary=True)
for options in ("", " (format csv)"):
    with connection.cursor().copy("copy (select {what} from people) to stdout" + options) as copy:
        seen.append(b"".join(bytes(part) for part in copy).decode())
"""
    text, binary, copied, csv = _seen(spine, code)
    assert text == binary == [[None] * 4] * 3
    assert (copied, csv) == ("\\N\t\\N\t\\N\t\\N\n" * 3, ",,,\n" * 3)


_COPIED = ["people", "people (n, email, about)", "(select n, email, card, mails from people)"]
_FORMATS = ["", " (format csv)", " (format csv, header, force_quote *)", " (format binary)"]


@pytest.mark.parametrize("options", _FORMATS)
def test_copy(spine: Spine, options: str) -> None:
    code = f"""
for what in {_COPIED!r}:
    with connection.cursor().copy(f"copy {{what}} to stdout{options}") as copy:
        seen.append(b"".join(bytes(part) for part in copy).decode("latin-1"))
go("select count(*) from people")
"""
    *copied, count = _seen(spine, code)
    assert len(copied) == len(_COPIED)
    assert count == [[3]]
    for data in copied:
        if "binary" in options:
            assert data.startswith("PGCOPY\n")
            assert data.endswith("\xff\xff")
        else:
            assert len(data.splitlines()) == 3 + ("header" in options)
            assert data.count("***") >= 3


@pytest.mark.parametrize(
    ("null", "named", "found"),
    [
        (f"{_CANARY}1@x.test", False, False),
        ("", False, True),
        (r"no\ne", False, True),
        (r"\N", True, True),
        (r"\?", True, True),
    ],
)
def test_copy_as_text_has_no_null_that_could_be_a_value(spine: Spine, null: str, named: bool, found: bool) -> None:
    """It is written as it is given: whoever guesses a value would see the rows that have it."""
    code = f"""
for what in ("email from people order by n", "body from notes"):
    for options in ("format text", "format csv"):
        try:
            null = {null!r}
            with connection.cursor().copy(f"copy (select {{what}}) to stdout (null '{{null}}', {{options}})") as copy:
                seen.append(b"".join(bytes(part) for part in copy).decode())
        except psycopg.Error as error:
            seen.append(error.sqlstate)
"""
    emails, notes = "***\n" * 3, "ask ***, not me\n"
    assert _seen(spine, code) == [
        emails if named else "42501",
        emails,
        notes if found else "42501",
        notes.replace("ask ***, not me", '"ask ***, not me"'),
    ]


_AROUND = [
    "select upper(system_user) from (select email as system_user from people) s",
    "alter domain own.kind add check (value not like 'c%')",
    "select s.record_send from (select o.*, p.email from notes o, people p) s",
    "select s.hstore from (select o.*, p.email from notes o, people p) s",
    "update public.people set email = nullif(email, 'x') returning n, email",
    "update public.people set about['who'] = about['key'] returning about",
    "select substr(email, 1, 3) from people",
    "select n from people where email like 'c%'",
    "select n from people order by email",
    "select max(email) from people",
    "select p from people p",
    "select row_to_json(people) from people",
    "select email from people union select 'x'",
    "create table own.mine as select * from people",
    "insert into own.mine select email from people",
    "create view own.mine as select email from people",
    "do $$ begin perform 1; end $$",
    "select most_common_vals from pg_stats where tablename = 'people'",
    "select query_to_xml('select email from people', true, true, '')",
    "explain analyze select n from people where email = 'x'",
]


def test_ways_around(spine: Spine) -> None:
    """In one job, each on its own."""
    seen = _seen(spine, f"for statement in {_AROUND!r}:\n    go(statement)")
    for statement, got in zip(_AROUND, seen, strict=True):
        assert got[0] == "42501", (statement, got)
        assert_denied(got)


def test_an_error_does_not_quote_it(spine: Spine) -> None:
    """The server's own says `Key (email)=(…) already exists`, with the value."""
    spine.server.sql("create unique index if not exists people_email on people (email)")
    (got,) = _seen(
        spine,
        f"""
try:
    connection.execute("insert into people (n, email) values (99, '{_CANARY[:3]}' || '{_CANARY[3:]}1@x.test')")
except psycopg.Error as error:
    seen.append([error.sqlstate, str(error), error.diag.message_detail, error.diag.constraint_name])
""",
    )
    assert got[0] == "23505"
    assert got[2] is None
    assert got[3] == "people_email"


def test_an_error_that_comes_later_or_of_a_character_does_not_quote_it(spine: Spine) -> None:
    """COMMIT computes what a cursor WITH HOLD is to give; what the client's encoding has not is named by its bytes."""
    spine.server.sql("create table apart (n int, body text); insert into apart values (1, '€')")
    spine.server.sql("grant all on apart to app")
    *_, later, character = _seen(
        spine,
        """
go("begin"); go("DECLARE c CURSOR WITH HOLD FOR select card::int from people"); go("commit")
go("select body from apart", on=psycopg.connect("", autocommit=True, client_encoding="latin1"))
""",
    )
    assert later[0] == "22P02"
    assert character[0] == "22P05"
    assert "0xe2" not in character[1]


def test_an_error_of_a_view_does_not_quote_it(spine: Spine) -> None:
    """It may compute what a statement only compares: where that is allowed, nothing else holds the message back."""
    ask = "select n from cards where number > 0"
    *seen, fine, typo = _seen(
        spine,
        f"""
go("{ask}")
go("prepare p as {ask}"); go("execute p"); go("{ask}", prepare=True)
go("begin"); go("declare c cursor for {ask}"); go("fetch c"); go("rollback")
go("select count(*) from people where card like 'c%%'")
go("select nothing from people where card like 'c%%'")
""",
    )
    assert [each[0] for each in seen if isinstance(each, list)] == ["22P02"] * 4
    assert fine == [[3]]
    assert typo[1] == 'column "nothing" does not exist'


def test_what_a_detector_finds_is_not_in_the_servers_words(spine: Spine) -> None:
    """Errors and reports of settings repeat values of columns that no mask names."""
    cast, _, status, late = _seen(
        spine,
        """
go("select body::int from notes")
go("select set_config('application_name', body, false) from notes")
seen.append(connection.info.parameter_status("application_name"))
go("select set_config('timezone', body, false) from notes")
""",
    )
    assert cast[:2] == ["22P02", 'invalid input syntax for type integer: "ask ***, not me"']
    assert status == "ask ***, not me"
    assert late[1] == 'invalid value for parameter "TimeZone": "ask ***, not me"'


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_pg_dump(spine: Spine, form: str) -> None:
    """A dump is made and has everything but what is masked."""
    read = "cat" if form == "plain" else "pg_restore -f -"
    done = spine.shell(f"set -o pipefail; pg_dump -t people -F {form[0]} | {read}", timeout=60)
    assert done.returncode == 0, done.stderr
    assert _CANARY not in done.stdout + done.stderr
    assert "424242" not in done.stdout
    assert "name1" in done.stdout
    assert "***" in done.stdout


def test_a_database_without_a_column_that_a_mask_names(spine: Spine) -> None:
    """It may have been renamed: nobody would notice that it is no longer hidden."""
    spine.server.sql("create database renamed owner app template app", database="postgres")
    assert spine.sql("select 1;", env={"PGDATABASE": "renamed"}, timeout=60).stdout == "1\n"
    spine.server.sql("alter database renamed rename to renamed_once", database="postgres")  # as one nobody knows yet
    spine.server.sql("alter table people rename email to mail", database="renamed_once")
    done = spine.sql("select mail from people;", env={"PGDATABASE": "renamed_once"}, timeout=60)
    assert done.stdout == ""
    assert "the policy hides the column public.people.email, and this database has none of that name" in done.stderr
    assert "mask-missing" in done.stderr


def test_who_may_see_everything_does() -> None:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination["masks"] = [{**mask, "unless_groups": ["ci"]} for mask in _MASKS]

    with Spine(change) as spine:
        spine.server.sql(_TABLES)
        (got,) = seen_by(spine, "go('select email from people where n = 1')")
        assert got == [[f"{_CANARY}1@x.test"]]
