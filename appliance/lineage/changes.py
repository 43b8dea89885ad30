"""INSERT, UPDATE, DELETE and MERGE: where the columns of their sources go (documentation, chapter 6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from postgast import pg_query_pb2 as pb

from appliance.lineage.expressions import kind_of, text_of
from appliance.lineage.queries import Queries, clean_like
from appliance.lineage.scopes import Columns, Item, Scope


class Changes(Queries):
    """Adds what changes rows: with it, all that WITH, a subquery or COPY can hold."""

    __slots__ = ()

    def query(self, node: pb.Node, outer: Scope) -> Columns:
        """The columns of the result of any of the statements that WITH, a subquery or COPY can hold."""
        kind, statement = kind_of(node)
        self.step()
        if kind == "select_stmt":
            return self.select(statement, outer)
        if kind == "insert_stmt":
            return self.insert(statement, outer)
        if kind == "update_stmt":
            return self.update(statement, outer)
        if kind == "delete_stmt":
            return self.delete(statement, outer)
        if kind == "merge_stmt":
            return self.merge(statement, outer)
        taint = self.not_understood(kind)
        return Columns((), (), rest=taint, complete=False)

    def target(self, node: pb.RangeVar, scope: Scope) -> Columns:
        """The relation that is changed. No CTE can be it."""
        columns = self.table(node)
        if node.HasField("alias"):
            columns = columns.renamed(text_of(node.alias.colnames))
        scope.items.append(Item(node.alias.aliasname or node.relname, columns, qualified=not node.HasField("alias")))
        return columns

    def returning(self, node: pb.ReturningClause, scope: Scope, target: Columns, sources: Sequence[Columns]) -> Columns:
        """RETURNING; `old` and `new` are the target's row before and after (PostgreSQL 18)."""
        given = {each.returning_option.option: each.returning_option.value for each in node.options}
        for option, name in ((pb.RETURNING_OPTION_OLD, "old"), (pb.RETURNING_OPTION_NEW, "new")):
            # beside a table of that name: that comes first, but where the alias of a join hides it
            scope.items.append(Item(given.get(option, name), target))
        return self.targets(node.exprs, scope, sources)

    def assign(self, nodes: Iterable[pb.Node], scope: Scope) -> None:
        """SET: what goes into a column leaves the mask, into one that the same mask is over, too: RETURNING would show
        where it became NULL, the part of it that its author chose, or what has moved in a JSON value to where no path
        leads."""
        self.keep(self.all_of(nodes, scope))

    def insert(self, node: pb.InsertStmt, outer: Scope) -> Columns:
        scope = Scope([], {}, outer)
        if node.HasField("with_clause"):
            self.with_clause(node.with_clause, scope)
        if node.HasField("select_stmt"):
            self.keep(self.query(node.select_stmt, scope.beside([])).masks())
        target = self.target(node.relation, scope)
        self.probe_all(node.cols, scope)
        if node.on_conflict_clause.infer.conname:  # of which columns we do not know: of those that are given, maybe
            given = [target.find(each.res_target.name)[0].all() for each in node.cols]
            for masks in given or [target.masks()]:
                self.compare(masks)
        if node.HasField("on_conflict_clause"):
            self.on_conflict(node.on_conflict_clause, scope, target)
        return self.returning(node.returning_clause, scope, target, [target])

    def on_conflict(self, node: pb.OnConflictClause, scope: Scope, target: Columns) -> None:
        """`excluded` is the row that was to be inserted: what a masked column gave it is among `writes` already."""
        if node.HasField("infer"):
            for each in node.infer.index_elems:
                self.compare(self.index_element(each.index_elem, scope))
            self.probe(node.infer.where_clause, scope)
        inner = scope.beside([*scope.items, Item("excluded", clean_like(target))])
        self.assign(node.target_list, inner)
        self.probe(node.where_clause, inner)

    def index_element(self, node: pb.IndexElem, scope: Scope) -> int:
        masks = scope.column(node.name)[0].all() if node.name else 0
        return masks | self.masks(node.expr, scope)

    def update(self, node: pb.UpdateStmt, outer: Scope) -> Columns:
        scope = Scope([], {}, outer)
        if node.HasField("with_clause"):
            self.with_clause(node.with_clause, scope)
        target = self.target(node.relation, scope)
        own = scope.items[:]
        del scope.items[:]  # FROM does not see the target
        sources = [self.source(each, scope) for each in node.from_clause]
        scope.items[:0] = own
        self.assign(node.target_list, scope)
        self.probe(node.where_clause, scope)
        return self.returning(node.returning_clause, scope, target, [target, *sources])

    def delete(self, node: pb.DeleteStmt, outer: Scope) -> Columns:
        scope = Scope([], {}, outer)
        if node.HasField("with_clause"):
            self.with_clause(node.with_clause, scope)
        sources = [self.source(each, scope) for each in node.using_clause]
        target = self.target(node.relation, scope)
        self.probe(node.where_clause, scope)
        return self.returning(node.returning_clause, scope, target, [target, *sources])

    def merge(self, node: pb.MergeStmt, outer: Scope) -> Columns:
        scope = Scope([], {}, outer)
        if node.HasField("with_clause"):
            self.with_clause(node.with_clause, scope)
        sources = [self.source(node.source_relation, scope)]
        target = self.target(node.relation, scope)
        self.probe(node.join_condition, scope)
        for each in node.merge_when_clauses:
            clause = each.merge_when_clause
            self.probe(clause.condition, scope)
            if clause.command_type == pb.CMD_INSERT:
                self.keep(self.all_of(clause.values, scope))
                self.keep(self.all_of(clause.target_list, scope))
            else:
                self.assign(clause.target_list, scope)
        return self.returning(node.returning_clause, scope, target, [*sources, target])
