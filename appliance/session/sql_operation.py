"""A statement as it was written -> the operation that policy judges: names resolved as the server would. Pure.

LIMITS
- An unqualified name may also be a temporary relation of the session (pg_temp comes first, before pg_catalog). Those
  are the agent's own, made by statements that were judged; they stand here under the schemas of the search path.
- An unqualified function of one of the server's own names is taken for that; PostgreSQL takes another of the same name
  in the search path if its arguments fit better (chapter 10.3, Functions).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from appliance.model.verdict import SqlOperation
from appliance.policy.server_functions import HARMLESS, OTHERS
from appliance.policy.statements import CATALOGUE, part_of

UNKNOWN_SCHEMA = "?"  # the search path is the agent's own


class Relation(Protocol):
    @property
    def schema(self) -> str: ...
    @property
    def name(self) -> str: ...


class Statement(Protocol):
    """`appliance.sql.statements.Statement`."""

    @property
    def command(self) -> str: ...
    @property
    def reads(self) -> tuple[Relation, ...]: ...
    @property
    def writes(self) -> tuple[Relation, ...]: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def functions(self) -> tuple[str, ...]: ...
    @property
    def where(self) -> bool: ...
    @property
    def marks(self) -> tuple[str, ...]: ...


def operation_of(
    statement: Statement, database: str, user: str, search_path: tuple[str, ...], credentials: tuple[str, ...]
) -> SqlOperation:
    """The operation of a statement.

    `search_path` is the plan's ("$user" is the schema named like the user); empty: the agent chose its own.
    `credentials` are the names of the secrets that the session was opened with.
    """
    schemas = tuple(user if schema == "$user" else schema for schema in search_path) or (UNKNOWN_SCHEMA,)
    return SqlOperation(
        kind="sql",
        dialect="postgres",
        database=database,
        user=user,
        command=statement.command,
        reads=_relations(statement.reads, schemas),
        writes=_relations(statement.writes, schemas),
        columns=_sorted(statement.columns),
        functions=_sorted(full for name in statement.functions for full in _function(name, schemas)),
        where=statement.where,
        marks=_sorted(statement.marks),
        credentials=_sorted(credentials),
    )


def unparsed(database: str, user: str, credentials: tuple[str, ...]) -> SqlOperation:
    """The operation of a text that cannot be read as SQL."""
    return _bare("unparsed", (), database, user, credentials)


def fast_path(oid: int, database: str, user: str, credentials: tuple[str, ...]) -> SqlOperation:
    """The operation of a FunctionCall message (chapter 55.2.4), which names its function by number."""
    return _bare("fastpath", (f"oid:{oid}",), database, user, credentials)


def _bare(
    command: str, functions: tuple[str, ...], database: str, user: str, credentials: tuple[str, ...]
) -> SqlOperation:
    return SqlOperation(
        "sql", "postgres", database, user, command, (), (), (), functions, False, (), _sorted(credentials)
    )


def _relations(relations: Iterable[Relation], schemas: tuple[str, ...]) -> tuple[str, ...]:
    return _sorted(full for each in relations for full in _relation(each.schema, each.name, schemas))


def _relation(schema: str, name: str, schemas: tuple[str, ...]) -> list[str]:
    """pg_catalog comes before the search path unless that names it (chapter 5.9.5)."""
    part = part_of(name)
    if schema:
        return [f"{part_of(schema)}.{part}"]
    if name in CATALOGUE:
        return [f"pg_catalog.{part}"]
    found = [f"{_schema(each)}.{part}" for each in schemas]
    return [f"pg_catalog.{part}", *found] if name.startswith("pg_") else found


def _function(name: str, schemas: tuple[str, ...]) -> list[str]:
    if "." in name:
        return [name]
    if name in HARMLESS or name in OTHERS:
        return [f"pg_catalog.{name}"]
    found = [f"{_schema(each)}.{part_of(name)}" for each in schemas]
    return [f"pg_catalog.{part_of(name)}", *found] if name.startswith("pg_") else found


def _schema(name: str) -> str:
    return name if name == UNKNOWN_SCHEMA else part_of(name)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
