"""A statement and what is masked -> where masked columns go: to the result, into an expression, elsewhere.

    lineage(text, catalogue) -> a Flow for each statement

A column of a result is masked by its origin in RowDescription (`Catalogue.taint_of`), which the server traces through
subqueries, CTEs, joins and views, but not through expressions and set operations. What it does not trace is here:

    passes        as it is, in the result: its RowDescription says so (COPY has none: see `output`)
    expressions   in the result, as part of what an expression gives. Also: where an error could repeat the value, such
                  as a cast anywhere in the statement ("invalid input syntax for type integer: …")
    probes        compared, grouped, ordered or counted by, so that the other columns or the number of rows tell of it
    writes        on its way into another relation, object, setting or session
    opaque        called or done, and what it reads cannot be seen

It holds that a statement without `expressions`, `probes`, `writes` and `opaque` gives, with its masked columns hidden,
the same result whatever is in the masked columns; and that with `probes` alone no value of a masked column is in it.
Where it cannot be certain what a name means, it means all that it may mean.

LIMITS. These have to be closed elsewhere, or are the author's of the database:
* Errors. DETAIL repeats rows and keys ("Failing row contains (…)", "Key (email)=(…) already exists") of statements
  without any flow, such as an UPDATE of another column: DETAIL, and the message itself where there are `expressions`,
  must not pass while masks are in force. A unique column that is written to tells that a value exists.
* What the database does by itself: triggers, rules, row security, defaults, functions behind casts, types and domains.
  A view over a masked column in its WHERE probes; its author did that.
* Settings that change what a text means must be held: search_path (or given as empty: then a name means a relation of
  any schema), standard_conforming_strings.
* EXPLAIN shows estimates from statistics: what it compares is among `probes`, what it would only give is not shown.
* How long a statement takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from postgast import PgQueryError, parse
from postgast import pg_query_pb2 as pb

from appliance.lineage.ddl import Definitions
from appliance.lineage.expressions import kind_of, text_of
from appliance.lineage.queries import NOTHING, UNKNOWN, clean_like
from appliance.lineage.relations import Catalogue
from appliance.lineage.scopes import Columns, Item, Scope, Taint
from appliance.model.errors import PeerError


class Output(NamedTuple):
    """A column of the result: the masks whose columns it is, and those that it was made from. Clean: both empty."""

    passes: frozenset[int]
    expressions: frozenset[int]


class Flow(NamedTuple):
    passes: frozenset[int]
    expressions: frozenset[int]
    probes: frozenset[int]
    writes: frozenset[int]
    opaque: tuple[str, ...]  # sorted; functions without pg_catalog, statements in capitals
    output: tuple[Output, ...] | None  # the columns of the result, where number and order are certain


NO_NAMES: Final[Mapping[str, Flow]] = {}
QUERIES: Final = frozenset(("select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"))


def lineage(
    text: str | pb.ParseResult,
    catalogue: Catalogue,
    search_path: tuple[str, ...] = ("public",),
    prepared: Mapping[str, Flow] = NO_NAMES,
    cursors: Mapping[str, Flow] = NO_NAMES,
    *,
    may_differ: bool = True,
) -> tuple[Flow, ...]:
    """Where masked columns go in each statement of `text`.

    `search_path`: the schemas that a name without one is looked up in, as they are ("$user" resolved); empty: any.
    `prepared`, `cursors`: the Flow of each statement that EXECUTE, and each cursor that FETCH can name: of PREPARE and
    DECLARE, or of Parse and Bind, that took place. Those within `text` are added. PREPARE and DECLARE have the Flow of
    what they name, so that a refusal comes at once. `may_differ`: in the place of one of the catalogue's relations may
    stand a temporary one, or one that was made anew.

    PeerError: "sql-syntax", "sql-too-deep", "sql-too-complex". Nothing may be let through then.
    """
    tree = read(text) if isinstance(text, str) else text
    prepared, cursors = dict(prepared), dict(cursors)
    flows = []
    steps = 0
    for raw in tree.stmts:
        statement = Statements(catalogue, search_path, prepared, cursors, may_differ=may_differ)
        statement.steps = steps
        flow = statement.flow(raw.stmt)
        flows.append(flow)
        steps = statement.steps
        kind, node = kind_of(raw.stmt)
        if kind == "prepare_stmt":
            prepared[node.name] = flow
        elif kind == "declare_cursor_stmt":
            cursors[node.portalname] = flow
    return tuple(flows)


def read(text: str) -> pb.ParseResult:
    """The parse tree, or PeerError."""
    if "\0" in text:
        raise PeerError("sql-syntax", "a statement has a NUL in it")
    try:
        return parse(text)
    except PgQueryError as error:
        raise PeerError("sql-syntax", f"the statement cannot be read: {error}") from None
    except UnicodeEncodeError:
        raise PeerError("sql-syntax", "the statement is not text") from None
    except DecodeError:
        raise PeerError("sql-too-deep", "the statement is nested too deeply") from None


class Statements(Definitions):
    """Adds what is a statement of its own only: how it gives a result, and names of other statements."""

    __slots__ = ("cursors", "prepared")

    def __init__(
        self,
        catalogue: Catalogue,
        search_path: tuple[str, ...],
        prepared: Mapping[str, Flow],
        cursors: Mapping[str, Flow],
        *,
        may_differ: bool,
    ) -> None:
        super().__init__(catalogue, search_path, may_differ=may_differ)
        self.prepared = prepared
        self.cursors = cursors

    def flow(self, node: pb.Node) -> Flow:
        columns = self.result(node)
        whole = columns.whole()
        outputs = tuple(Output(indexes(taint.passed), indexes(taint.made)) for taint in columns.taints)
        return Flow(
            passes=indexes(whole.passed),
            expressions=indexes(whole.made | self.expressions),
            probes=indexes(self.probes),
            writes=indexes(self.writes),
            opaque=tuple(sorted(self.opaque)),
            output=outputs if columns.complete else None,
        )

    def result(self, node: pb.Node) -> Columns:
        """The columns that a statement gives to the client (PREPARE and DECLARE: will give)."""
        self.step()
        kind, statement = kind_of(node)
        if kind in QUERIES:
            columns = self.query(node, Scope([], {}, None))
            return NOTHING if kind == "select_stmt" and statement.HasField("into_clause") else columns
        if kind == "copy_stmt":
            return self.copy(statement)
        if kind == "explain_stmt":
            masks = self.result(statement.query).whole().made  # what would be passed is not shown
            self.show(masks)
            return NOTHING
        if kind in ("prepare_stmt", "declare_cursor_stmt"):
            return self.result(statement.query)
        if kind == "execute_stmt":
            masks = self.all_of(statement.params, Scope([], {}, None))
            self.show(masks)
            self.keep(masks)
            return self.known("EXECUTE", self.prepared.get(statement.name))
        if kind == "fetch_stmt":
            columns = self.known("FETCH", self.cursors.get(statement.portalname))
            return NOTHING if statement.ismove else columns
        if kind in ("create_table_as_stmt", "view_stmt"):
            self.keep(self.result(statement.query).masks())
            return NOTHING
        if kind == "call_stmt":
            self.masks(pb.Node(func_call=statement.funccall), Scope([], {}, None))
            return NOTHING
        self.define(kind, statement)
        return NOTHING

    def known(self, what: str, flow: Flow | None) -> Columns:
        """The columns of a statement that was read before."""
        if flow is None:
            self.unseen(what)
            return UNKNOWN
        self.show(bits(flow.expressions))
        self.compare(bits(flow.probes))
        self.keep(bits(flow.writes))
        for name in flow.opaque:
            self.unseen(name)
        if flow.output is not None:
            taints = [Taint(bits(each.passes), bits(each.expressions)) for each in flow.output]
            return Columns([None] * len(taints), taints)
        rest = Taint(bits(flow.passes), bits(flow.expressions))
        return Columns((), (), rest=rest, complete=False)

    def copy(self, node: pb.CopyStmt) -> Columns:
        """COPY: TO a file or a program is a write; FROM reads nothing but what the client sends."""
        scope = Scope([], {}, None)
        if node.is_from:
            clean = clean_like(self.table(node.relation))
            self.probe(node.where_clause, scope.beside([Item(node.relation.relname, clean, qualified=True)]))
            if node.filename or node.is_program:
                self.unseen("COPY FROM PROGRAM" if node.is_program else "COPY FROM file")
            return NOTHING
        if node.HasField("relation"):
            columns = self.copied(node, self.table(node.relation))
        else:
            columns = self.query(node.query, scope)
        if node.filename or node.is_program:
            self.keep(columns.masks())
            self.unseen("COPY TO PROGRAM" if node.is_program else "COPY TO file")
            return NOTHING
        return columns

    def copied(self, node: pb.CopyStmt, columns: Columns) -> Columns:
        """The columns of a table that COPY gives: those that are named, or all that are stored."""
        names = text_of(node.attlist)
        if names:
            return Columns(names, [columns.find(name)[0] for name in names])
        found = self.catalogue.find(node.relation.schemaname, node.relation.relname, self.search_path)
        if len(found) != 1 or not columns.complete:
            return columns
        kept = [index for index, stored in enumerate(found[0].stored) if stored]
        return Columns(
            [columns.names[index] for index in kept], [columns.taints[index] for index in kept], certain=columns.certain
        )


def indexes(masks: int) -> frozenset[int]:
    return frozenset(index for index in range(masks.bit_length()) if masks >> index & 1)


def bits(masks: frozenset[int]) -> int:
    return sum(1 << index for index in masks)
