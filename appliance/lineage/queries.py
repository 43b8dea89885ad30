"""SELECT, VALUES, TABLE and WITH: where the columns of FROM go (PostgreSQL documentation, chapter 7, Queries)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from postgast import pg_query_pb2 as pb

from appliance.lineage import builtins
from appliance.lineage.expressions import SERVER_SCHEMA, SYSTEM_USER, Expressions, gives_record, kind_of, text_of
from appliance.lineage.scopes import CLEAN, Columns, Item, Scope, Taint, joined, one_above_the_other, union
from appliance.model.errors import PeerError

NOTHING: Final = Columns((), ())
UNKNOWN: Final = Columns((), (), complete=False, certain=False)
MAX_ROUNDS: Final = 8  # over the queries of WITH RECURSIVE
MAX_COLUMNS: Final = 1664  # of one result; the server refuses more (its source: MaxTupleAttributeNumber)


class Queries(Expressions):
    """Adds what reads only."""

    __slots__ = ()

    # SELECT

    def select(self, node: pb.SelectStmt, outer: Scope) -> Columns:
        self.step()
        scope = Scope([], {}, outer)
        if node.HasField("with_clause"):
            self.with_clause(node.with_clause, scope)
        if node.op != pb.SETOP_NONE:
            columns = self.set_operation(node, scope)
        elif node.values_lists:
            columns = self.rows(node.values_lists, scope)
        else:
            columns = self.simple_select(node, scope)
        for key in node.sort_clause:
            self.compare(self.key(key.sort_by.node, scope, columns))
        self.probe(node.limit_count, scope)
        self.probe(node.limit_offset, scope)
        if node.HasField("into_clause"):
            self.keep(columns.masks())
        return columns

    def set_operation(self, node: pb.SelectStmt, scope: Scope) -> Columns:
        if not node.HasField("larg") or not node.HasField("rarg"):
            return Columns((), (), rest=self.not_understood("select_stmt.op"), complete=False)
        columns = one_above_the_other(self.select(node.larg, scope), self.select(node.rarg, scope))
        self.charge(len(columns.names))
        if not (node.op == pb.SETOP_UNION and node.all):
            self.compare(columns.masks())  # rows are compared with each other
        return columns

    def rows(self, lists: Iterable[pb.Node], scope: Scope) -> Columns:
        result: Columns | None = None
        for row in lists:
            taints = [Taint(0, self.masks(value, scope)) for value in row.list.items]
            columns = Columns([f"column{index + 1}" for index in range(len(taints))], taints)
            self.charge(len(taints))
            result = columns if result is None else one_above_the_other(result, columns)
        return result or NOTHING

    def simple_select(self, node: pb.SelectStmt, scope: Scope) -> Columns:
        sources = [self.source(each, scope) for each in node.from_clause]
        self.probe(node.where_clause, scope)
        for window in node.window_clause:
            masks = self.window(window.window_def, scope)
            self.compare(masks)
            scope.windows[window.window_def.name] = masks
        columns = self.targets(node.target_list, scope, sources)
        for key in node.group_clause:
            self.compare(self.key(key, scope, columns))
        if node.group_distinct:
            self.compare(columns.masks())
        self.probe(node.having_clause, scope)
        for key in node.distinct_clause:
            if key.WhichOneof("node") is None:  # DISTINCT, without ON: all columns are compared
                self.compare(columns.masks())
            else:
                self.compare(self.key(key, scope, columns))
        return columns

    def key(self, node: pb.Node, scope: Scope, columns: Columns) -> int:
        """What ORDER BY, GROUP BY or DISTINCT ON compare: a column of the result by name or by number, or an
        expression. Texts that differ in constants share an analysis, so that a number means any column."""
        kind, key = kind_of(node)
        if kind == "grouping_set":
            masks = 0
            for each in key.content:
                masks |= self.key(each, scope, columns)
            return masks
        if kind == "row_expr":
            masks = 0
            for each in key.args:
                masks |= self.key(each, scope, columns)
            return masks
        masks = self.masks(node, scope)
        if kind in ("a_const", "param_ref"):
            masks |= columns.masks()
        elif kind == "column_ref" and len(key.fields) == 1:
            masks |= columns.find(key.fields[0].string.sval)[0].all()
        elif kind == "func_call" and text_of(key.funcname) == SYSTEM_USER:
            masks |= columns.find(SYSTEM_USER[-1])[0].all()
        return masks

    def targets(self, nodes: Iterable[pb.Node], scope: Scope, sources: Sequence[Columns]) -> Columns:
        """The columns of a target list. `sources`: what `*` stands for."""
        names: list[str | None] = []
        taints: list[Taint] = []
        rest, complete = CLEAN, True
        count = 0
        shifting = False  # a star over a relation in whose place another one may stand, with other columns
        for node in nodes:
            count += 1
            target = node.res_target
            columns = self.expanded(target.val, scope, sources)
            if columns is None:
                names.append(target.name or name_of(target.val))
                taints.append(self.value(target.val, scope))
                continue
            names += columns.names
            taints += columns.taints
            rest = union(rest, columns.rest)
            complete = complete and columns.complete
            shifting = shifting or not columns.certain
            self.charge(len(names))
            if len(names) > MAX_COLUMNS:
                raise PeerError("sql-too-complex", f"a result can have at most {MAX_COLUMNS} columns")
        if shifting and count > 1:
            complete = False
        return Columns(names, taints, rest=rest, complete=complete, certain=not shifting)

    def expanded(self, node: pb.Node, scope: Scope, sources: Sequence[Columns]) -> Columns | None:
        """The columns of `*`, `relation.*` or `(row).*`; None for what is one column."""
        kind = node.WhichOneof("node")
        if kind == "column_ref" and node.column_ref.fields[-1].WhichOneof("node") == "a_star":
            self.step()
            if len(node.column_ref.fields) == 1:
                self.charge(len(sources))
                return joined(sources) if sources else NOTHING
            self.charge(scope.width())
            return self.star(node.column_ref, scope)
        if kind == "a_indirection" and node.a_indirection.indirection[-1].WhichOneof("node") == "a_star":
            return Columns((), (), rest=self.value(node, scope), complete=False)
        return None

    # FROM

    def source(self, node: pb.Node, scope: Scope) -> Columns:
        """One item of FROM: its names are added to `scope.items`, what `*` gives of it is returned."""
        self.step()
        kind, item = kind_of(node)
        self.depth += 1
        try:
            if kind == "range_var":
                return self.relation(item, scope)
            if kind == "range_subselect":
                inner = scope.beside(list(scope.items) if item.lateral else [])
                columns = self.query(item.subquery, inner)
                return self.named(item.alias, columns, scope)
            if kind == "join_expr":
                return self.join(item, scope)
            if kind == "range_function":
                return self.from_function(item, scope)
            if kind in ("range_table_func", "json_table"):
                masks = self.value(node, scope.beside(list(scope.items))).all()
                self.compare(masks)  # how many rows there are
                names = table_function_columns(item)
                columns = Columns(names, [Taint(0, masks)] * len(names), rest=Taint(0, masks), complete=False)
                columns = self.named(item.alias, columns, scope)
                if not item.HasField("alias"):
                    scope.items[-1].name = "xmltable" if kind == "range_table_func" else "json_table"
                return columns
            if kind == "range_table_sample":
                inner = scope.beside([])  # it sees nothing of its own FROM
                self.probe_all(item.args, inner)
                self.probe(item.repeatable, inner)
                method = text_of(item.method)
                if not method or method[-1] not in builtins.TABLE_SAMPLES:
                    self.unseen(".".join(method))
                return self.source(item.relation, scope)
        finally:
            self.depth -= 1
        columns = Columns((), (), rest=self.not_understood(kind), complete=False)
        scope.items.append(Item("", columns))
        return columns

    def named(self, alias: pb.Alias, columns: Columns, scope: Scope) -> Columns:
        if alias.colnames:
            self.charge(len(columns.names))
        columns = columns.renamed(text_of(alias.colnames))
        scope.items.append(Item(alias.aliasname, columns))
        return columns

    def relation(self, node: pb.RangeVar, scope: Scope) -> Columns:
        columns = scope.cte(node.relname) if not node.schemaname else None
        if columns is None:
            columns = self.table(node)
        if node.HasField("alias"):
            return self.named(node.alias, columns, scope)
        scope.items.append(Item(node.relname, columns, qualified=True))
        return columns

    def table(self, node: pb.RangeVar) -> Columns:
        """The columns of a table or view by its name: those that masks touch, of every relation that it may be."""
        if node.schemaname in builtins.EXPOSING_SCHEMAS or (
            node.relname in builtins.EXPOSING and node.schemaname in ("", SERVER_SCHEMA)
        ) or node.relname == "pg_stat_statements":  # fmt: skip
            self.unseen(".".join((node.schemaname or SERVER_SCHEMA, node.relname)))
            return Columns((), (), rest=Taint(0, self.catalogue.all_masks), complete=False)
        found = self.catalogue.find(node.schemaname, node.relname, self.search_path)
        if not found:
            return Columns((), (), complete=False, certain=False)
        self.charge(sum(len(relation.names) for relation in found))
        if len(found) == 1:
            return found[0].columns(certain=not self.may_differ)
        names: list[str | None] = []
        taints: list[Taint] = []
        for relation in found:
            names += relation.names
            taints += relation.taints
        return Columns(names, taints, rest=Columns(names, taints).whole(), complete=False, certain=False)

    def join(self, node: pb.JoinExpr, scope: Scope) -> Columns:
        first = len(scope.items)
        left = self.source(node.larg, scope)
        right = self.source(node.rarg, scope)
        self.charge(len(left.names) + len(right.names))
        columns = joined((left, right))
        shared: list[str] | None = list(text_of(node.using_clause))
        if node.is_natural:
            shared = names_of_both(left, right)
        if shared is None:  # every column may be compared with, and stand for, one of the other side
            masks = columns.masks()
            self.compare(masks)
            columns = Columns(
                columns.names, columns.taints, rest=Taint(0, masks), complete=False, certain=columns.certain
            )
            scope.items.append(Item("", columns))
        elif shared:
            columns = self.merged(shared, left, right, node, scope)
        if node.HasField("quals"):
            self.probe(node.quals, scope.beside(scope.items[first:]))
        if node.HasField("alias"):
            del scope.items[first:]
            if node.HasField("join_using_alias"):
                scope.items.append(Item(node.join_using_alias.aliasname, columns))
            return self.named(node.alias, columns, scope)
        return columns

    def merged(self, shared: list[str], left: Columns, right: Columns, node: pb.JoinExpr, scope: Scope) -> Columns:
        """USING: the columns of that name on both sides are compared, and become one."""
        self.charge(4 * (len(left.names) + len(right.names)))
        taints = [Taint(0, left.find(name)[0].all() | right.find(name)[0].all()) for name in shared]
        using = Columns(shared, taints)
        self.compare(using.masks())
        scope.items.append(Item(node.join_using_alias.aliasname, using))
        parts = [using]
        merged = frozenset(shared)
        for side in (left, right):
            kept = [index for index, name in enumerate(side.names) if name not in merged]
            parts.append(
                Columns(
                    [side.names[index] for index in kept],
                    [side.taints[index] for index in kept],
                    rest=side.rest,
                    complete=side.complete and None not in side.names,
                    certain=side.certain,
                )
            )
        return joined(parts)

    def from_function(self, node: pb.RangeFunction, scope: Scope) -> Columns:
        self.charge(len(scope.items))
        masks = 0
        names: list[str | None] = []
        for each in node.functions:  # a pair: the call, and the definitions of its columns
            items = each.list.items
            masks |= self.all_of(items[:1], scope.beside(list(scope.items)))
            for definitions in items[1:]:
                names += [column.column_def.colname for column in definitions.list.items]
        names += [column.column_def.colname for column in node.coldeflist]
        self.compare(masks)  # how many rows there are
        taint = Taint(0, masks)
        names = list(text_of(node.alias.colnames)) or names  # an alias names those of the definitions anew
        if node.ordinality and not node.alias.colnames:
            names.append("ordinality")
        columns = Columns(names, [taint] * len(names), rest=taint, complete=False)
        name = node.alias.aliasname or name_of(node.functions[0].list.items[0])
        scope.items.append(Item(name, columns, is_value=may_be_value(node)))
        return columns

    # WITH

    def with_clause(self, node: pb.WithClause, scope: Scope) -> None:
        if node.recursive:
            self.with_recursive(node, scope)
            return
        for each in node.ctes:
            scope.ctes[each.common_table_expr.ctename] = self.cte(each.common_table_expr, scope)

    def cte(self, node: pb.CommonTableExpr, scope: Scope) -> Columns:
        return self.searched(node, self.query(node.ctequery, scope).renamed(text_of(node.aliascolnames)))

    def with_recursive(self, node: pb.WithClause, scope: Scope) -> None:
        """WITH RECURSIVE: each query may read itself and those that come after it. What the rows carry grows until it
        grows no more."""
        for each in node.ctes:
            scope.ctes[each.common_table_expr.ctename] = UNKNOWN
        for _ in range(MAX_ROUNDS):
            self.charge(sum(1 + len(columns.names) for columns in scope.ctes.values()))
            before = dict(scope.ctes)
            for each in node.ctes:
                scope.ctes[each.common_table_expr.ctename] = self.cte(each.common_table_expr, scope)
            if all(scope.ctes[name].same_as(columns) for name, columns in before.items()):
                return
        for name, columns in scope.ctes.items():
            whole = Taint(0, self.catalogue.all_masks)
            scope.ctes[name] = Columns(columns.names, [whole] * len(columns.names), rest=whole, complete=False)

    def searched(self, node: pb.CommonTableExpr, columns: Columns) -> Columns:
        """SEARCH and CYCLE add columns made from the others; the one orders by them, the other compares them."""
        names: list[str | None] = []
        if node.HasField("search_clause"):
            names.append(node.search_clause.search_seq_column)
        if node.HasField("cycle_clause"):
            names += [node.cycle_clause.cycle_mark_column, node.cycle_clause.cycle_path_column]
        if not names:
            return columns
        masks = columns.masks()
        self.compare(masks)
        return Columns(
            [*columns.names, *names],
            [*columns.taints, *[Taint(0, masks)] * len(names)],
            rest=columns.rest,
            complete=columns.complete,
        )


def clean_like(columns: Columns) -> Columns:
    clean = [CLEAN] * len(columns.names)
    return Columns(columns.names, clean, complete=columns.complete, certain=columns.certain)


def names_of_both(left: Columns, right: Columns) -> list[str] | None:
    """What NATURAL compares: the names that both sides have; None if that cannot be certain."""
    for side in (left, right):
        if not side.complete or not side.certain or None in side.names:
            return None
    of_right = frozenset(right.names)
    return [name for name in left.names if name is not None and name in of_right]


def name_of(node: pb.Node) -> str | None:
    """The name that a column of a result has without AS, where it is plain; None where it is not."""
    kind = node.WhichOneof("node")
    if kind == "column_ref":
        name = text_of(node.column_ref.fields)
        return name[-1] if name else None
    if kind == "func_call":
        name = text_of(node.func_call.funcname)
        return name[-1] if name else None
    return None


def may_be_value(node: pb.RangeFunction) -> bool:
    """Whether a function in FROM may give values of one type, not rows."""
    if len(node.functions) != 1 or node.ordinality or node.coldeflist:
        return False
    call, *definitions = node.functions[0].list.items
    if any(each.WhichOneof("node") for each in definitions):
        return False
    return call.WhichOneof("node") != "func_call" or not gives_record(call.func_call)


def table_function_columns(node: pb.RangeTableFunc | pb.JsonTable) -> list[str | None]:
    names: list[str | None] = []
    for each in node.columns:
        kind, column = kind_of(each)
        if kind == "range_table_func_col":
            names.append(column.colname)
        elif kind == "json_table_column":
            if column.columns:
                names += table_function_columns(column)
            else:
                names.append(column.name)
    return names
