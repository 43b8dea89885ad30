"""Two databases that differ in nothing but what is in their masked columns, and what the proxy would show of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from appliance.lineage.catalogue import ROUTINES, TYPES, Catalogue, Column, Made, Routine, build, relations_query
from appliance.lineage.lineage import Flow
from appliance.model.verdict import Mask
from tests.lineage.queries import MASKED, MASKED_NUMBERS, SCHEMA
from tests.lineage.servers import Server

MASKS = (Mask(name="email", columns=MASKED), Mask(name="ssn", columns=MASKED_NUMBERS))
CANARY = "canary"
# Not one law of order, equality, length, NULL or form that holds in one world holds in the other.
EMAILS = {
    "a": (f"{CANARY}@one.example", f"a{CANARY}@two.example", None, f"{CANARY}@one.example", "5", f"x{CANARY}"),
    "b": ("7", None, f"zz{CANARY}zz@three.example", f"b{CANARY}", f"{CANARY}@{CANARY}", f"{CANARY}@{CANARY}"),
}
NUMBERS = {"a": (31, 32, None, 1, 2, 31), "b": (1, 42, 43, 42, None, 2)}
MOST_ROWS = 5000
SHADOW = "CREATE TEMP TABLE {name} (id int, email text, user_id int)"


class Shown(NamedTuple):
    """The outcome of a statement. `columns`: (relation oid, attribute number) of each, as RowDescription has them."""

    columns: tuple[tuple[int, int], ...]
    rows: list[tuple[object, ...]]
    error: str  # SQLSTATE, or ""
    message: str


class World:
    def __init__(self, server: Server, name: str) -> None:
        with server.connect() as admin:
            admin.execute(f"CREATE DATABASE {name}")
        self.connection = server.connect(name)
        self.connection.execute(SCHEMA)
        self.connection.execute("SET jit = off")
        self.connection.execute("SET statement_timeout = '3s'")
        self.fill(EMAILS[name], NUMBERS[name])
        self.catalogue = catalogue_of(self.connection)

    def fill(self, emails: tuple[str | None, ...], numbers: tuple[int | None, ...]) -> None:
        run = self.connection.execute
        for index, (email, number) in enumerate(zip(emails, numbers, strict=True)):
            values = (index + 1, f"name{index % 3}", email, 20 + index, number)
            if index < 4:
                run("INSERT INTO users (id, name, email, age, ssn) VALUES (%s, %s, %s, %s, %s)", values)
            else:
                run("INSERT INTO staff (id, name, email, age, ssn, badge) VALUES (%s, %s, %s, %s, %s, 'b')", values)
            run("INSERT INTO events VALUES (%s, %s, %s)", (index + 1, email, "ab"[index % 2]))
        run("INSERT INTO orders VALUES (1, 1, 'note1', 10), (2, 1, 'k', 20), (3, 4, NULL, 3)")
        run("INSERT INTO tags VALUES (1, 'name1', 'open@tags', ARRAY['k', 'l']), (2, 'k', NULL, NULL)")
        run("INSERT INTO other.users VALUES (1, 'open@other', 5, 'plain'), (3, 'k', NULL, 'plain3')")
        run("REFRESH MATERIALIZED VIEW kept")

    def show(self, text: str, shadow: str = "") -> Shown:
        cursor = self.connection.cursor(row_factory=tuple_row)
        with self.undone():
            if shadow:
                cursor.execute(SHADOW.format(name=shadow))
                cursor.execute(f"INSERT INTO {shadow} VALUES (1, 'open@shadow', 1)")  # noqa: S608
            try:
                cursor.execute(text.encode())
            except psycopg.Error as error:
                return Shown((), [], error.sqlstate or "?", str(error.diag.message_primary))
            result = cursor.pgresult
            if result is None or cursor.description is None:
                return Shown((), [], "", str(cursor.rowcount))
            if result.ntuples > MOST_ROWS:
                return Shown((), [], "57014", "more rows than are worth comparing")
            columns = tuple((result.ftable(i), result.ftablecol(i)) for i in range(result.nfields))
            rows: list[tuple[object, ...]] = [
                tuple(result.get_value(row, column) for column in range(result.nfields))
                for row in range(result.ntuples)
            ]
            return Shown(columns, rows, "", "")

    @contextmanager
    def undone(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")


def catalogue_of(connection: psycopg.Connection[tuple[object, ...]], masks: tuple[Mask, ...] = MASKS) -> Catalogue:
    def rows(query: str) -> list[tuple[Any, ...]]:
        answer = connection.pgconn.exec_(query.encode())
        assert not answer.error_message, answer.error_message
        return [
            tuple(
                None if (value := answer.get_value(row, i)) is None else value.decode() for i in range(answer.nfields)
            )
            for row in range(answer.ntuples)
        ]

    relations = [Column(*row) for row in rows(relations_query(masks))]
    routines = [Routine(*row) for row in rows(ROUTINES)]
    return build(masks, relations, routines, [Made(*row) for row in rows(TYPES)])


def hidden(shown: Shown, catalogue: Catalogue, flow: Flow) -> list[tuple[object, ...]]:
    """The rows as the proxy would let them through, with `expressions: mask`: by RowDescription alone."""
    computed = bool(flow.expressions)
    covers = [bool(catalogue.taint_of(oid, number).all()) or (oid == 0 and computed) for oid, number in shown.columns]
    return [tuple("*" if cover else value for cover, value in zip(covers, row, strict=True)) for row in shown.rows]


def hidden_by_output(shown: Shown, flow: Flow) -> list[tuple[object, ...]] | None:
    """The same for COPY, which has no RowDescription: by the Flow's output."""
    if flow.output is None or len(flow.output) != len(shown.columns):
        return None
    covers = [bool(each.passes or each.expressions) for each in flow.output]
    return [tuple("*" if cover else value for cover, value in zip(covers, row, strict=True)) for row in shown.rows]
