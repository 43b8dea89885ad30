"""Which columns a name may mean, and what of masked columns each of them carries.

A set of masks is an int: bit i stands for mask i of the plan. A `Taint` says which masks' columns a value is (`passed`:
as they are; the server's RowDescription then names the column it comes from) and which it was made from (`made`).

The rules are those of the PostgreSQL documentation, chapters 4.2 (Value Expressions), 7.2 (Table Expressions) and 7.8
(WITH), with one bend: wherever it cannot be certain what a name means (a relation whose columns are not known, or may
be others by now: a temporary one hides it, it was dropped and made anew), it means all that it may mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple


class Taint(NamedTuple):
    passed: int  # masks
    made: int  # masks

    def all(self) -> int:
        return self.passed | self.made


CLEAN: Final = Taint(0, 0)


def union(one: Taint, other: Taint) -> Taint:
    if other is CLEAN or one is other:
        return one
    return Taint(one.passed | other.passed, one.made | other.made)


class Columns:
    """The columns of a relation, of a query's result, or of one item in FROM.

    `names`, `taints`: what is known, in order. A name None is one that we do not know: it may be any.
    `rest`: what a column carries that is not listed. It matters if not `complete`.
    `complete`: all columns are listed, in the order that `*` gives.
    `certain`: the names are there for sure (they are those of the text, or of a view's definition).
    """

    __slots__ = ("_by_name", "_whole", "certain", "complete", "names", "rest", "taints")

    def __init__(
        self,
        names: Sequence[str | None],
        taints: Sequence[Taint],
        *,
        rest: Taint = CLEAN,
        complete: bool = True,
        certain: bool = True,
    ) -> None:
        self.names = list(names)
        self.taints = list(taints)
        self.rest = rest
        self.complete = complete
        self.certain = certain
        self._by_name: dict[str | None, Taint] | None = None  # once a name has been asked for
        self._whole: Taint | None = None

    def whole(self) -> Taint:
        """What all columns together carry."""
        if self._whole is None:
            taint = self.rest
            for each in self.taints:
                taint = union(taint, each)
            self._whole = taint
        return self._whole

    def masks(self) -> int:
        return self.whole().all()

    def find(self, name: str) -> tuple[Taint, bool]:
        """What the column `name` may carry, and whether it is listed (if `certain`, it is there)."""
        by_name = self._by_name
        if by_name is None:
            by_name = self._by_name = {}
            for known, each in zip(self.names, self.taints, strict=True):
                by_name[known] = union(by_name.get(known, CLEAN), each)
        found = by_name.get(name)
        taint = union(found or CLEAN, by_name.get(None, CLEAN))
        if not self.complete:
            taint = union(taint, self.rest)
        return taint, found is not None

    def renamed(self, names: Sequence[str]) -> Columns:
        """With the column names of an alias: `AS s(a, b)` names the first columns anew, the others keep theirs."""
        if not names:
            return self
        if self.complete:
            kept = self.names[len(names) :]
            new: list[str | None] = [*names[: len(self.names)], *kept]
            return Columns(new, self.taints, certain=self.certain)
        whole = self.whole()  # which is the first is not known
        return Columns(list(names), [whole] * len(names), rest=whole, complete=False, certain=self.certain)

    def same_as(self, other: Columns) -> bool:
        return (
            self.names == other.names
            and self.taints == other.taints
            and self.rest == other.rest
            and self.complete == other.complete
        )


def joined(parts: Sequence[Columns]) -> Columns:
    """What `*` gives of several items in FROM."""
    if len(parts) == 1:
        return parts[0]
    names: list[str | None] = []
    taints: list[Taint] = []
    rest, complete, certain = CLEAN, True, True
    for part in parts:
        names += part.names
        taints += part.taints
        rest = union(rest, part.rest)
        complete = complete and part.complete and part.certain  # another relation may have another number of columns
        certain = certain and part.certain
    return Columns(names, taints, rest=rest, complete=complete, certain=certain)


def one_above_the_other(first: Columns, second: Columns) -> Columns:
    """The columns of a set operation or of rows of VALUES: by position, with the names of the first."""
    if first.complete and second.complete and len(first.names) == len(second.names):
        taints = [Taint(0, a.all() | b.all()) for a, b in zip(first.taints, second.taints, strict=True)]
        return Columns(first.names, taints, certain=first.certain)
    whole = Taint(0, first.masks() | second.masks())
    return Columns(first.names, [whole] * len(first.names), rest=whole, complete=False, certain=first.certain)


class Item:
    """What one name in FROM stands for."""

    __slots__ = ("columns", "is_value", "name", "qualified")

    def __init__(self, name: str | None, columns: Columns, *, qualified: bool = False, is_value: bool = False) -> None:
        self.name = name  # alias, relation or function; "" if there is none; None: one that we do not know, maybe any
        self.columns = columns
        self.qualified = qualified  # "schema.relation.column" may mean it, too: a relation without an alias
        self.is_value = is_value  # a function's, that may give values of one type in place of rows


class Scope:
    """The names that an expression sees: the items of its own query, then those of the queries around it."""

    __slots__ = ("ctes", "items", "outer", "windows")

    def __init__(self, items: list[Item], ctes: dict[str, Columns], outer: Scope | None) -> None:
        self.items = items
        self.ctes = ctes  # of this query's WITH
        self.outer = outer
        self.windows: dict[str, int] = {}  # of this query's WINDOW clause: what they are made by

    def inside(self) -> Scope:
        """For a query that is part of an expression here."""
        return Scope([], {}, self)

    def beside(self, items: list[Item]) -> Scope:
        """Where the same WITH and the same outer queries are seen, and of this query's items these alone."""
        return Scope(items, self.ctes, self.outer)

    def width(self) -> int:
        """How many columns a name is looked up in, at most."""
        count = 0
        scope: Scope | None = self
        while scope is not None:
            for item in scope.items:
                count += 1 + len(item.columns.names)
            scope = scope.outer
        return count

    def cte(self, name: str) -> Columns | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return scope.ctes[name]
            scope = scope.outer
        return None

    def items_called(self, name: str, *, qualified: bool) -> list[Item]:
        """The items that a qualifier may mean: of the innermost query that has the name; with a schema, of every."""
        found: list[Item] = []
        certain = False
        scope: Scope | None = self
        while scope is not None:
            for item in scope.items:
                if item.name in (name, None) and (item.qualified or not qualified):
                    found.append(item)
                    certain = certain or item.name is not None
            if certain and not qualified:
                break
            scope = scope.outer
        return found

    def column(self, name: str) -> tuple[Taint, bool]:
        """What a name without qualifier may carry, and whether some item surely has a column of that name."""
        taint = CLEAN
        scope: Scope | None = self
        while scope is not None:
            certain = False
            for item in scope.items:
                columns = item.columns
                if not columns.names:  # an unmasked relation, most of the time
                    taint = union(taint, columns.rest)
                    continue
                each, listed = columns.find(name)
                taint = union(taint, each)
                certain = certain or (listed and item.columns.certain)
            if certain:
                return taint, True
            scope = scope.outer
        return taint, False
