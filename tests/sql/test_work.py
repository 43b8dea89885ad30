"""How the work grows with the text: the lines of our own that are carried out for one of twice the size."""

# ruff: noqa: S608
from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from appliance.sql.reading import MAX_GUESSES
from appliance.sql.statements import Unparsed, statements

TEXTS: dict[str, Callable[[int], str]] = {
    "columns of tables": lambda n: "select " + ", ".join(f"c{i}" for i in range(n)) + " from " + tables(n),
    "columns of one table": lambda n: "select " + ", ".join(["a"] * n) + " from " + ", ".join(["t"] * n),
    "qualified": lambda n: "select " + ", ".join(f"t{i}.c" for i in range(n)) + " from " + tables(n),
    "with their schema": lambda n: "select " + ", ".join(f"s.t{i}.c" for i in range(n)) + " from " + tables(n),
    "stars": lambda n: "select " + ", ".join(["*"] * n) + " from " + tables(n),
    "stars of tables": lambda n: "select " + ", ".join(f"t{i}.*" for i in range(n)) + " from " + tables(n),
    "calls": lambda n: "select " + ", ".join(f"f{i}(t{i}.*), f{i}(t{i})" for i in range(n)) + " from " + tables(n),
    "fields": lambda n: "select " + ", ".join(f"g{i}.f" for i in range(n)) + " from " + functions(n),
    "subqueries": lambda n: "select " + ", ".join(f"(select a from u{i})" for i in range(n)) + " from " + tables(n),
    "with": lambda n: "with " + ", ".join(f"x{i} as (select a from y{i}, x0)" for i in range(n)) + " select a from x0",
    "of a with": lambda n: "with " + ", ".join(f"x{i} as (select)" for i in range(n)) + " select from " + tables(n),
    "recursive": lambda n: "with recursive " + ", ".join(f"x{i} as (table x{n - i})" for i in range(n)) + " select 1",
    "joins": lambda n: "select a from " + ", ".join(f"s.t{i} join u using (a, b)" for i in range(n)),
    "updates": lambda n: "update t set " + ", ".join(f"c{i} = d{i}" for i in range(n)) + " from " + tables(n),
    "statements": lambda n: "select a from t;" * n,
    "deletes": lambda n: nested(
        n // 2, "delete from t where (with x as (", ") select true)", "delete from t where 1 = 1"
    ),
}


def tables(n: int) -> str:
    return ", ".join(f"s.t{i}" for i in range(n))


def functions(n: int) -> str:
    return ", ".join(f"lower('a') g{i}" for i in range(n))


def nested(n: int, before: str, after: str, inmost: str) -> str:
    return before * n + inmost + after * n


def work(text: str) -> int:
    lines = 0

    def each(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        statements(text)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("kind", TEXTS)
def test_twice_the_text_is_twice_the_work(kind: str) -> None:
    assert work(TEXTS[kind](90)) < 2.3 * work(TEXTS[kind](45))


def test_what_may_be_of_any_table_is_bounded() -> None:
    """Each column without a table counts for each of them, in policy and in what it remembers."""
    side = int(MAX_GUESSES**0.5)
    statements(TEXTS["columns of tables"](side))
    with pytest.raises(Unparsed, match="columns"):
        statements(TEXTS["columns of tables"](side + 1))


@pytest.mark.parametrize("column", ["a", "a.b", "f(a)", "(select 1 where a)", "(select a.b)"])
def test_what_may_be_of_any_table_of_an_alias_is_bounded(column: str) -> None:
    """The server refuses an alias that is there twice; what is found until then is neither work nor memory."""

    def text(n: int) -> str:
        return "select " + ", ".join([column] * n) + " from " + ", ".join(f"t{i} a" for i in range(n))

    statements(text(int((MAX_GUESSES / 2) ** 0.5)))
    with pytest.raises(Unparsed, match="columns"):
        statements(text(int(MAX_GUESSES**0.5) + 1))


@pytest.mark.parametrize("column", ["a", "a.b", "f(a)"])
def test_names_in_queries_in_each_other_are_bounded(column: str) -> None:
    names = ", ".join([column] * 20_000)
    assert statements(nested(2, "select (", ") from t", f"select {names}"))
    with pytest.raises(Unparsed, match="deep"):
        statements(nested(60, "select (", ") from t", f"select {names}"))


def test_functions_in_bodies_of_functions_are_bounded() -> None:
    """No server takes one; each would have all that is in those within it."""
    text = nested(20, "create function f() returns int begin atomic ", "; end", "select 1")
    with pytest.raises(Unparsed, match="deep"):
        statements(text)
