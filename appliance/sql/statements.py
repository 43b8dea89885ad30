"""The statements in a text: what each does, to which relations, columns and functions. See `Statement`.

Marks, beside the command, the relations and the functions:

    cte, subquery          WITH; a query within an expression or FROM
    writes-in-cte          a WITH query that changes something
    then-insert, then-update, then-delete
                           what MERGE does to rows; INSERT … ON CONFLICT DO UPDATE
    returning, into, locking (FOR UPDATE, …), temporary, catalog (a database is written before a schema)
    where-constant         the WHERE of an UPDATE or DELETE names no column
    explain, explain-analyze
    dynamic                text that is not read here is run: DO, function bodies in strings, query_to_xml, dblink, …
    file, program, large-object, remote, server, replication, sleep, notify, sequence, advisory-lock, set-config
                           what functions (and COPY, LOAD) reach: `appliance.sql.dangers`
    search-path, role, standard-conforming-strings, client-encoding, set-other
                           a setting of that kind changes, by SET, RESET, DISCARD ALL, set_config, ALTER … SET or a
                           function's SET; set_config of a name that is computed has them all, and so has a change of
                           pg_settings (its rule calls set_config) and what makes a relation of that name
    reset                  … and it goes back to what it was at the start of the session (RESET, SET … TO DEFAULT)
    set-transaction        SET TRANSACTION, SET SESSION CHARACTERISTICS
    all                    it is about all there are: DEALLOCATE ALL, CLOSE ALL, UNLISTEN *, RESET ALL, DISCARD ALL,
                           VACUUM, ANALYZE, CLUSTER and REINDEX that name no relation, REASSIGN and DROP OWNED, ALTER
                           TABLE ALL IN TABLESPACE, a PUBLICATION FOR ALL TABLES
    cascade                DROP, TRUNCATE, REVOKE … CASCADE, also within ALTER
    all-in-schema          GRANT … ON ALL TABLES IN SCHEMA, or on what will be made; ALTER SCHEMA … RENAME; a
                           PUBLICATION of TABLES IN SCHEMA
    membership             GRANT and REVOKE of roles
    password               CREATE or ALTER ROLE … PASSWORD
    backslash              a backslash in '…': another string when standard_conforming_strings is off
    non-ascii-name         a name that a server whose encoding is not UTF-8 may fold or cut otherwise
    binary                 a cursor whose rows come in binary form
    unknown                the tree holds what is not known here

LIMITS. Views, rules, triggers, inheritance and functions are not followed: that takes a catalogue. `users.f` may be a
call of f(users) and `f(users)` a column f: the first is in `columns`, the second is in both. The grammar is PostgreSQL
18's. What older servers read otherwise: `json_object(…)`, `json_table(…)` and their like were functions (they are in
`functions`); `1x` was `1 AS x` before 15 (a syntax error here), `0x1F` and `1_000` before 16 (`0 AS x1f`; no relation
or function is in such a name); postfix operators before 14 (a syntax error here); \\v is white space since 16 and was
a syntax error. What does not parse here is refused.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from appliance.sql.by_name import spelled_out
from appliance.sql.commands import command_of, is_all, name_of
from appliance.sql.dangers import ANY_SETTING, SETTINGS_VIEW
from appliance.sql.definitions import DEFINITIONS
from appliance.sql.grammar import (
    MAX_BYTES,
    Node,
    Unparsed,
    node_of,
    nodes_of,
    number_of,
    raw_statements,
    text_of,
    unwrap,
)
from appliance.sql.queries import QUERIES, mentions_columns
from appliance.sql.reading import MAX_GUESSES, TOO_MANY_GUESSES, Column, Reading, Relation

__all__ = ["Relation", "Statement", "Unparsed", "statements"]


MAX_NESTED: Final = 16  # statements that stand whole in each other: those of functions in bodies, which no server takes


class Statement(NamedTuple):
    """One statement. What those in `inner` do is in the outer one's fields too, except for `command` and `name`."""

    command: str  # "select", "insert", "copy-out", "create-table", …: `appliance.sql.commands`
    reads: tuple[Relation, ...]  # sorted, no repeats
    writes: tuple[Relation, ...]  # changed, made, dropped, locked
    columns: tuple[Column, ...]  # (None, name) where the relation is not known; "*" for all
    functions: tuple[str, ...]  # "name", "schema.name" (not pg_catalog), "operator(schema.op)"
    where: bool  # its WHERE (of MERGE: its ON) names a column, or it is an INSERT; so with each UPDATE and DELETE in it
    marks: tuple[str, ...]  # sorted
    name: str  # of the prepared statement, cursor, channel, savepoint, setting, …
    inner: tuple[Statement, ...]  # of EXPLAIN, PREPARE, DECLARE, COPY (…), CREATE … AS, rules, bodies in SQL
    start: int  # its slice of the UTF-8 text, in bytes
    end: int


def statements(text: str | bytes, max_bytes: int = MAX_BYTES, *, server_first: bool = False) -> tuple[Statement, ...]:
    """The statements of a text in UTF-8; none for a text of blanks, comments and semicolons. Raises `Unparsed`.

    `server_first`: no schema of the search path comes before pg_catalog.
    """
    if isinstance(text, str):
        try:
            text = text.encode()
        except UnicodeEncodeError as error:
            raise Unparsed("sql-encoding", "a surrogate is in the text", error.start) from None
    found: list[Statement] = []
    for raw in raw_statements(text, max_bytes):
        kind, node = unwrap(node_of(raw, "stmt"))
        if server_first and kind == "SelectStmt":
            node = spelled_out(node)
        start = number_of(raw, "stmt_location")
        end = start + number_of(raw, "stmt_len") if number_of(raw, "stmt_len") else len(text)
        marks = {"backslash"} if b"\\" in text[start:end] else set()
        found.append(_statement(kind, node, marks, (start, end)))
    return tuple(found)


def _statement(kind: str, node: Node, marks: set[str], place: tuple[int, int], depth: int = 0) -> Statement:
    if depth > MAX_NESTED:
        raise Unparsed("sql-depth", "the statement is nested too deeply")
    reading = Reading(_HANDLERS)
    reading.read(kind, node)
    inner = tuple(_statement(k, n, set(), place, depth + 1) for k, n in _inner_statements(kind, node))
    command, name = command_of(kind, node), name_of(kind, node)
    reading.named(name)
    where = kind in ("InsertStmt", "MergeStmt") or mentions_columns(node.get("whereClause"))
    if kind in _TRANSPARENT and len(inner) == 1:
        where = inner[0].where
    reads, writes, columns = reading.reads, reading.writes, reading.columns
    functions, marks = reading.functions, marks | reading.marks
    unbounded = reading.unbounded
    for statement in inner:
        reads.update(statement.reads)
        writes.update(statement.writes)
        columns.update(statement.columns)
        functions.update(statement.functions)
        marks.update(statement.marks)
        unbounded = unbounded or (statement.command in ("update", "delete") and not statement.where)
    if sum(relation is None for relation, _ in columns) * len(reads | writes) > MAX_GUESSES:
        raise Unparsed("sql-size", TOO_MANY_GUESSES)
    if any(relation.name == SETTINGS_VIEW for relation in writes):
        marks |= ANY_SETTING
    if _goes_back(kind, node):
        marks.add("reset")
    if is_all(kind, node):
        marks.add("all")
    if text_of(node, "behavior") == "DROP_CASCADE":
        marks.add("cascade")
    return Statement(
        command,
        tuple(sorted(reads)),
        tuple(sorted(writes)),
        tuple(sorted(columns, key=_column_order)),
        tuple(sorted(functions)),
        where and not unbounded,
        tuple(sorted(marks)),
        name,
        inner,
        *place,
    )


_HANDLERS: Final = {**QUERIES, **DEFINITIONS}
_TRANSPARENT: Final = frozenset(("ExplainStmt", "PrepareStmt", "DeclareCursorStmt", "CreateTableAsStmt", "ViewStmt"))


def _inner_statements(kind: str, node: Node) -> list[tuple[str, Node]]:
    """The statements that stand whole in a statement."""
    match kind:
        case "ExplainStmt" | "PrepareStmt" | "DeclareCursorStmt" | "CopyStmt" | "CreateTableAsStmt" | "ViewStmt":
            query = node_of(node, "query")
            return [unwrap(query)] if query is not None else []
        case "RuleStmt":
            return [unwrap(action) for action in nodes_of(node, "actions")]
        case "CreateSchemaStmt":
            return [unwrap(element) for element in nodes_of(node, "schemaElts")]
        case "CreateFunctionStmt":
            body = node_of(node, "sql_body")
            return _body(unwrap(body)) if body is not None else []
    return []


def _body(body: tuple[str, Node]) -> list[tuple[str, Node]]:
    """RETURN, or the statements of BEGIN ATOMIC … END: lists of lists."""
    kind, node = body
    if kind != "List":
        return [body]
    found: list[tuple[str, Node]] = []
    for item in nodes_of(node, "items"):
        found += _body(unwrap(item))
    return found


def _goes_back(kind: str, node: Node) -> bool:
    if kind == "VariableSetStmt":
        return text_of(node, "kind") in ("VAR_RESET", "VAR_RESET_ALL", "VAR_SET_DEFAULT")
    return kind == "DiscardStmt" and text_of(node, "target") == "DISCARD_ALL"


def _column_order(column: Column) -> tuple[str, str, str]:
    relation, name = column
    return (relation.schema, relation.name, name) if relation is not None else ("", "", name)
