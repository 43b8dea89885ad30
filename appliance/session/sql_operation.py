"""A statement as it was written -> the operation that policy judges: names resolved as the server would. Pure.

LIMITS
- An unqualified name may also be a temporary relation of the session (pg_temp comes first, before pg_catalog). Those
  are the agent's own, made by statements that were judged; they stand here under the schemas of the search path.
- An unqualified function of one of the server's own names is taken for that; PostgreSQL takes another of the same name
  in the search path if its arguments fit better (chapter 10.3, Functions).
- Which command a WITH changes something by is not told apart: all that may stand there count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from appliance.model.verdict import PostgresPlan, SqlOperation
from appliance.policy.server_functions import HARMLESS, OTHERS
from appliance.policy.statements import CATALOGUE, SESSION, part_of

UNKNOWN = "?"
_IN_A_WITH = ("delete", "insert", "merge", "update")
# RESET goes back to what the session was started with, and that is the plan's
_SETTINGS = frozenset({"search-path", "standard-conforming-strings", "client-encoding", "role"})


class Relation(Protocol):
    """`schema` is "" where none is written."""

    @property
    def schema(self) -> str: ...
    @property
    def name(self) -> str: ...


class Statement(Protocol):
    """`appliance.sql.statements.Statement`."""

    @property
    def command(self) -> str: ...
    @property
    def reads(self) -> Sequence[Relation]: ...
    @property
    def writes(self) -> Sequence[Relation]: ...
    @property
    def columns(self) -> Sequence[tuple[Relation | None, str]]: ...
    @property
    def functions(self) -> Sequence[str]: ...
    @property
    def where(self) -> bool: ...
    @property
    def marks(self) -> Sequence[str]: ...
    @property
    def inner(self) -> Sequence[Statement]: ...


def operation_of(
    statement: Statement,
    plan: PostgresPlan,
    database: str,
    user: str,
    credentials: tuple[str, ...],
    *,
    is_utf8: bool,
) -> SqlOperation:
    """The operation of a statement.

    `credentials`: names of the secrets that the session was opened with. `is_utf8`: the server's encoding
    (server_encoding) is UTF8, so that names that are not ASCII are folded there as they are here. EXECUTE is its
    arguments only: what it executes is a statement of its own, which the session asks about, too.
    """
    schemas = search_path(plan, user) or (UNKNOWN,)
    marks = set(statement.marks)
    if "reset" in marks:
        keeps_role = statement.command == "reset" and "all" in marks  # SET ROLE and its like are not for RESET ALL
        marks -= _SETTINGS - ({"role"} if plan.role and not keeps_role else set())
    if statement.command in SESSION:
        marks.discard("all")  # there is of the session
    if is_utf8:
        marks.discard("non-ascii-name")
    reads, writes = _relations(statement.reads, schemas), _relations(statement.writes, schemas)
    return SqlOperation(
        kind="sql",
        dialect="postgres",
        database=database,
        user=user,
        command=statement.command,
        inner=_sorted(_inner(statement)),
        reads=reads,
        writes=writes,
        columns=_columns(statement.columns, {*reads, *writes}, schemas),
        functions=_sorted(full for name in statement.functions for full in functions_named(name, schemas)),
        where=statement.where and "where-constant" not in marks,
        marks=_sorted(marks),
        credentials=_sorted(credentials),
    )


def search_path(plan: PostgresPlan, user: str) -> tuple[str, ...]:
    """The schemas that a name without one is looked up in; none: the agent chooses them."""
    own = plan.role or user  # documentation, search_path: the name that CURRENT_USER returns
    return tuple(own if schema == "$user" else schema for schema in plan.search_path)


def server_first(plan: PostgresPlan) -> bool:
    """Whether a name without a schema that the server has is the server's: the path is policy's, and pg_catalog is not
    named behind another."""
    return bool(plan.search_path) and "pg_catalog" not in plan.search_path[1:]


def unparsed(database: str, user: str, credentials: tuple[str, ...] = ()) -> SqlOperation:
    """The operation of a text that cannot be read as SQL."""
    return _bare("unparsed", (), database, user, credentials)


def fast_path(oid: int, database: str, user: str, credentials: tuple[str, ...] = ()) -> SqlOperation:
    """The operation of a FunctionCall message (chapter 54.2.4), which names its function by number."""
    return _bare("fastpath", (f"oid:{oid}",), database, user, credentials)


def _bare(
    command: str, functions: tuple[str, ...], database: str, user: str, credentials: tuple[str, ...]
) -> SqlOperation:
    return SqlOperation(
        "sql", "postgres", database, user, command, (), (), (), (), functions, False, (), _sorted(credentials)
    )


def _inner(statement: Statement) -> set[str]:
    found = set(_IN_A_WITH) if "writes-in-cte" in statement.marks else set()
    found |= {mark.removeprefix("then-") for mark in statement.marks if mark.startswith("then-")}
    for each in statement.inner:
        found |= {each.command} | _inner(each)
    return found


def _relations(relations: Iterable[Relation], schemas: tuple[str, ...]) -> tuple[str, ...]:
    return _sorted(full for each in relations for full in _relation(each, schemas))


def _relation(relation: Relation, schemas: tuple[str, ...]) -> list[str]:
    """pg_catalog comes before the search path unless that names it (chapter 5.10.5). All its relations begin with pg_,
    and which of them there are depends on the version."""
    part = part_of(relation.name)
    if relation.schema:
        return [f"{part_of(relation.schema)}.{part}"]
    if relation.name in CATALOGUE:
        return [f"pg_catalog.{part}"]
    found = _in_each(part, schemas)
    return [f"pg_catalog.{part}", *found] if relation.name.startswith("pg_") else found


def _columns(
    columns: Iterable[tuple[Relation | None, str]], relations: set[str], schemas: tuple[str, ...]
) -> tuple[str, ...]:
    """A column whose relation is not known may be of each one in the statement."""
    found: set[str] = set()
    for relation, name in columns:
        owners = _relation(relation, schemas) if relation is not None else relations or {f"{UNKNOWN}.{UNKNOWN}"}
        column = name if name == "*" else part_of(name)
        found.update(f"{owner}.{column}" for owner in owners)
    return _sorted(found)


def functions_named(name: str, schemas: tuple[str, ...]) -> list[str]:
    """The functions that a name may mean: "name" or "schema.name", "operator(+)" or "operator(schema.+)"; pg_catalog is
    left out."""
    form, schema, last = "{}", "", name
    if name.startswith("operator("):
        form, last = "operator({})", name[len("operator(") : -1]
    if "." in last:
        whole = last
        schema, _, last = whole.partition(".")
        if "." in last or schema == "pg_catalog":  # a dot within a name: not to be told from the one between names
            cuts = ((schema, last), whole.rsplit(".", 1))
            found = [f"{part_of(before)}.{form.format(part_of(behind))}" for before, behind in cuts]
            return [f"{UNKNOWN}.{form.format(part_of(whole))}", *found]
    part = form.format(part_of(last))
    if schema:
        return [f"{part_of(schema)}.{part}"]
    if name in HARMLESS or name in OTHERS:
        return [f"pg_catalog.{part}"]
    found = _in_each(part, schemas)
    return [f"pg_catalog.{part}", *found] if name.startswith("pg_") else found


def _in_each(part: str, schemas: tuple[str, ...]) -> list[str]:
    return [f"{schema if schema == UNKNOWN else part_of(schema)}.{part}" for schema in schemas]


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
