"""Names in an operation are those that the server would find, or all that it might."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.model.verdict import PostgresPlan, SqlOperation
from appliance.policy.statements import part_of, relation_pattern
from appliance.session import sql_operation
from appliance.session.sql_operation import fast_path, unparsed


class Name(NamedTuple):
    schema: str
    name: str


class Said(NamedTuple):
    """A statement, as appliance.sql tells it."""

    command: str = "select"
    reads: tuple[Name, ...] = ()
    writes: tuple[Name, ...] = ()
    columns: tuple[tuple[Name | None, str], ...] = ()
    functions: tuple[str, ...] = ()
    where: bool = False
    marks: tuple[str, ...] = ()
    inner: tuple[Said, ...] = ()


def operation_of(
    statement: Said, plan: PostgresPlan, database: str = "shop", user: str = "app", is_utf8: bool = True
) -> SqlOperation:
    return sql_operation.operation_of(statement, plan, database, user, (), is_utf8=is_utf8)


PLAN = PostgresPlan(search_path=("$user", "public"))
FREE = PostgresPlan(search_path=())


@pytest.mark.parametrize(
    ("name", "plan", "found"),
    [
        (Name("a", "t"), PLAN, ("a.t",)),
        (Name("", "t"), PLAN, ("app.t", "public.t")),
        (Name("", "t"), replace(PLAN, role="reader"), ("public.t", "reader.t")),
        (Name("", "t"), FREE, ("?.t",)),
        (Name("", "pg_class"), PLAN, ("pg_catalog.pg_class",)),
        (Name("", "pg_class"), FREE, ("pg_catalog.pg_class",)),
        (Name("", "pg_stat_statements"), PLAN, ("app.pg_stat_statements", "pg_catalog.pg_stat_statements",
                                                "public.pg_stat_statements")),
        (Name("a.b", "c"), PLAN, ("a%2Eb.c",)),
        (Name("", "b.c"), PLAN, ("app.b%2Ec", "public.b%2Ec")),
        (Name("?", "*"), PLAN, ("%3F.%2A",)),
        (Name("a", "%2E"), PLAN, ("a.%252E",)),
    ],
)  # fmt: skip
def test_relations(name: Name, plan: PostgresPlan, found: tuple[str, ...]) -> None:
    operation = operation_of(Said(reads=(name,), writes=(name,)), plan)
    assert operation.reads == operation.writes == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("now", ("pg_catalog.now",)),
        ("pg_read_file", ("pg_catalog.pg_read_file",)),
        (
            "pg_of_an_extension",
            ("app.pg_of_an_extension", "pg_catalog.pg_of_an_extension", "public.pg_of_an_extension"),
        ),
        ("total", ("app.total", "public.total")),
        ("a.total", ("a.total",)),
        ("a.now", ("a.now",)),
        ("operator(@#)", ("app.operator(@#)", "public.operator(@#)")),
        ("operator(a.*)", ("a.operator(%2A)",)),
        # a function of the agent's, by the name "pg_catalog.now"
        ("pg_catalog.now", ("?.pg_catalog%2Enow", "pg_catalog.now")),
        # and what may be "b.c" in a, or c in "a.b": neither allowed, both refused by their names
        ("a.b.c", ("?.a%2Eb%2Ec", "a%2Eb.c", "a.b%2Ec")),
        ("operator(a.b.+)", ("?.operator(a%2Eb%2E+)", "a%2Eb.operator(+)", "a.operator(b%2E+)")),
    ],
)
def test_functions(name: str, found: tuple[str, ...]) -> None:
    assert operation_of(Said(functions=(name,)), PLAN).functions == found


def test_a_column_of_nobody_knows_which_relation_is_of_each() -> None:
    reads = (Name("a", "t"), Name("", "u"))
    columns = ((Name("a", "t"), "x"), (Name("a", "t"), "*"), (None, "y"), (None, "odd.*"))
    operation = operation_of(Said(reads=reads, columns=columns), PostgresPlan())
    assert operation.columns == (
        "a.t.*", "a.t.odd%2E%2A", "a.t.x", "a.t.y", "public.u.odd%2E%2A", "public.u.y",
    )  # fmt: skip
    assert operation_of(Said(columns=((None, "y"),)), PLAN).columns == ("?.?.y",)


def test_what_is_within() -> None:
    nested = Said("explain", inner=(Said("prepare", inner=(Said("delete"),)),))
    operation = operation_of(nested, PLAN)
    assert (operation.command, operation.inner) == ("explain", ("delete", "prepare"))
    changing = operation_of(Said(marks=("writes-in-cte",)), PLAN)
    assert changing.inner == ("delete", "insert", "merge", "update")
    assert operation_of(Said("insert", marks=("then-update",)), PLAN).inner == ("update",)


@pytest.mark.parametrize(
    ("statement", "role", "left"),
    [
        (
            Said("reset", marks=("all", "reset", "role", "search-path", "set-other")),
            "reader",
            ("reset", "set-other"),
        ),
        (Said("reset", marks=("reset", "role")), "reader", ("reset", "role")),
        (Said("discard", marks=("all", "reset", "role", "search-path")), "reader", ("reset", "role")),
        (Said("discard", marks=("all", "reset", "role", "search-path")), "", ("reset",)),
        (Said("set", marks=("search-path",)), "", ("search-path",)),
        (Said("vacuum", marks=("all",)), "", ("all",)),
        (Said("set", marks=("role",)), "", ("role",)),
    ],
)
def test_reset_goes_back_to_the_plan_but_for_a_locked_role(statement: Said, role: str, left: tuple[str, ...]) -> None:
    assert operation_of(statement, PostgresPlan(role=role)).marks == left


def test_a_where_that_names_no_column_is_none() -> None:
    assert operation_of(Said("delete", where=True), PLAN).where
    assert not operation_of(Said("delete", where=True, marks=("where-constant",)), PLAN).where


def test_names_that_are_not_ascii_matter_where_the_server_folds_them() -> None:
    statement = Said(marks=("non-ascii-name",))
    assert operation_of(statement, PLAN).marks == ()
    assert operation_of(statement, PLAN, is_utf8=False).marks == ("non-ascii-name",)


def test_what_is_not_sql() -> None:
    assert unparsed("shop", "app").command == "unparsed"
    fast = fast_path(1598, "shop", "app", ("b", "a"))
    assert (fast.command, fast.functions, fast.credentials) == ("fastpath", ("oid:1598",), ("a", "b"))


names = st.text(alphabet='ab.%*?"\\ Aé', min_size=1, max_size=6)


@given(names, names, names, names)
def test_no_name_looks_like_another(schema: str, name: str, other_schema: str, other: str) -> None:
    def full(*parts: str) -> str:
        return operation_of(Said(reads=(Name(*parts),)), PLAN).reads[0]

    assert (full(schema, name) == full(other_schema, other)) is ((schema, name) == (other_schema, other))

    glob = f"{part_of(schema)}.{part_of(name)}"
    assert (re.match(relation_pattern(glob), full(other_schema, other)) is not None) is (
        (schema, name) == (other_schema, other)
    )
    assert re.match(relation_pattern(f"{part_of(schema)}.*"), full(schema, other))
