"""What a parse tree reads, writes and calls: one walk over it, without recursion, whatever is nested in whatever.

Names are resolved as the server does it, as far as that is possible without a catalogue:

* A name in FROM is a common table expression where one of that name is visible and no schema is written: in the
  statement that its WITH belongs to and in what is nested there; without RECURSIVE, not in itself and not in those
  before it. The target of INSERT, UPDATE, DELETE and MERGE is never one.
* A column is of the relation that its qualifier names, or of the only relation that it can be of. An alias that stands
  for a whole row counts as "*".

Relations are taken from every place where the grammar has one: a place that is not known here counts as read and
written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from appliance.model.row_functions import GIVING_ROWS
from appliance.sql.dangers import function_marks, setting_mark
from appliance.sql.grammar import FIELD_KINDS, Node, Unparsed, Value, node_of, nodes_of, strings, text_of, unwrap

MAX_GUESSES: Final = 10_000  # columns without a table, times tables: each counts for each; so with those of one alias
MAX_LOOKUPS: Final = 1 << 20  # of names, in each of the queries around them: half a second
TOO_MANY_GUESSES: Final = "too many columns may be of too many tables; write t.column"


class Relation(NamedTuple):
    """A table, view, sequence, …, as written: `schema` is "" where none is. Folded, and cut at 63 bytes."""

    schema: str
    name: str


_SAMPLES: Final = (["bernoulli"], ["system"])  # the server's own; as functions of users, they are no samples
_NONE: Final[Mapping[str, int]] = {}
Column = tuple[Relation | None, str]
Handler = Callable[["Reading", Node, "Scope"], None]  # what is done with one kind of node


class Scope:
    """What names mean at one place: the tables of one FROM, the WITH queries, and the scope around it.

    A statement may have tens of thousands of tables, and as many columns: no name is looked for by going through all of
    them. Nor is a chain of scopes longer than queries are deep."""

    __slots__ = ("_by_name", "_indexed", "_relations", "ctes", "outer", "partly", "tables", "values", "visible")

    def __init__(
        self, outer: Scope | None, ctes: Mapping[str, int] = _NONE, visible: int = 0, *, partly: bool = False
    ) -> None:
        """`ctes`: the queries of a WITH, by name and numbered; those before `visible` are seen. `partly`: of the tables
        of the scope around it some may not be seen."""
        self.outer = outer
        self.ctes = ctes
        self.visible = visible
        self.partly = partly
        self.tables: list[tuple[str, Relation | None]] = []  # alias; None: not a relation
        self.values: dict[str, frozenset[str]] = {}  # functions that may give no row: alias, columns
        self._indexed = 0  # tables that are in what follows
        self._by_name: dict[str, list[Relation | None]] = {}
        self._relations: dict[Relation | None, None] = {}

    def is_cte(self, name: str) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if scope.ctes.get(name, scope.visible) < scope.visible:
                return True
            scope = scope.outer
        return False

    def called(self, alias: str) -> Sequence[Relation | None]:
        """The tables of this scope alone that have this alias."""
        self._index()
        return self._by_name.get(alias, ())

    def relations(self) -> Mapping[Relation | None, None]:
        """Those of this scope alone, each once."""
        self._index()
        return self._relations

    def only(self) -> Relation | None:
        """The one relation that there is, in this scope and those around it."""
        found: Relation | None = None
        scope: Scope | None = self
        while scope is not None:
            relations = scope.relations()
            if relations:
                first = next(iter(relations))
                if first is None or len(relations) > 1 or (found is not None and found != first):
                    return None
                found = first
            scope = scope.outer
        return found

    def _index(self) -> None:
        for alias, relation in self.tables[self._indexed :]:
            self._by_name.setdefault(alias, []).append(relation)
            self._relations[relation] = None
        self._indexed = len(self.tables)


class Reading:
    """The findings in one statement; `read` fills them."""

    __slots__ = (
        *("_guesses", "_handlers", "_lookups", "_starred", "_work"),
        *("columns", "functions", "marks", "reads", "unbounded", "writes"),
    )

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._guesses = 0
        self._lookups = 0
        self._starred: set[Scope] = set()  # all of whose columns are in `columns`
        self.reads: set[Relation] = set()
        self.writes: set[Relation] = set()
        self.columns: set[Column] = set()
        self.functions: set[str] = set()
        self.marks: set[str] = set()
        self.unbounded = False  # an UPDATE or DELETE without WHERE is in it
        self._work: list[tuple[str, Node, Scope]] = []

    def read(self, kind: str, node: Node) -> None:
        """Read a statement and everything in it but the statements that stand in it whole (`inner_statements`)."""
        self._work.append((kind, node, Scope(None)))
        while self._work:
            self._one(*self._work.pop())

    def _one(self, kind: str, node: Node, scope: Scope) -> None:
        handler = self._handlers.get(kind)
        if handler is None:
            self.fields(kind, node, scope)
        else:
            handler(self, node, scope)

    # what handlers use

    def push(self, kind: str, node: Node, scope: Scope) -> None:
        """A node of this kind is to be read."""
        self._work.append((kind, node, scope))

    def later(self, wrapped: Value, scope: Scope) -> None:
        """A node in its wrapper, or a list of such, is to be read."""
        if isinstance(wrapped, dict):
            for kind, node in wrapped.items():
                if isinstance(node, dict):
                    self._work.append((kind, node, scope))
        elif isinstance(wrapped, list):
            for item in wrapped:
                if isinstance(item, dict):
                    self.later(item, scope)

    def fields(self, kind: str, node: Node, scope: Scope, *but: str) -> None:
        """All fields of a node are to be read, but for those that are named."""
        kinds = FIELD_KINDS.get(kind)
        if kinds is None:  # nothing of the kind is in the grammar's description
            self.marks.add("unknown")
            return
        for field, value in node.items():
            if isinstance(value, (dict, list)) and field not in but:
                fixed = kinds.get(field, "Node")
                if fixed == "Node":
                    self.later(value, scope)
                elif isinstance(value, dict):
                    self._work.append((fixed, value, scope))

    def relation(self, node: Node) -> Relation:
        """The relation of a RangeVar node."""
        schema, name = text_of(node, "schemaname"), text_of(node, "relname")
        if "catalogname" in node:
            self.marks.add("catalog")
        if text_of(node, "relpersistence") == "t" or schema.startswith("pg_temp"):
            self.marks.add("temporary")
        self.named(schema, name)
        return Relation(schema, name)

    def relation_named(self, names: list[str]) -> Relation:
        """The relation of a dotted name."""
        if len(names) > 2:
            self.marks.add("catalog")
        self.named(*names)
        return Relation(names[-2] if len(names) > 1 else "", names[-1])

    def named(self, *names: str) -> None:
        """Names that are not ASCII are folded and cut in another way by a server whose encoding is not UTF-8."""
        for name in names:
            if not name.isascii():
                self.marks.add("non-ascii-name")

    def called(self, names: list[str]) -> str:
        """A function is called; returns its last name."""
        if not names:
            return ""
        self.named(*names)
        if len(names) > 2:  # the database comes first: it is this one, or the server refuses
            self.marks.add("catalog")
            names = names[-2:]
        self.functions.add(".".join(names[1:] if names[0] == "pg_catalog" and len(names) > 1 else names))
        self.marks.update(function_marks(names[-1]))
        return names[-1]

    def outward(self, scope: Scope) -> Iterator[Scope]:
        """A scope and those around it, in each of which a name is looked for."""
        place: Scope | None = scope
        while place is not None:
            self._lookups += 1
            if self._lookups > MAX_LOOKUPS:
                raise Unparsed("sql-size", "too many names are nested too deeply")
            yield place
            place = place.outer

    def tables(self, place: Scope, alias: str) -> Sequence[Relation | None]:
        """The tables of one scope that an alias may mean. Of several the server takes one or refuses them: which is not
        known here."""
        found = place.called(alias)
        if len(found) > 1:
            self._guesses += len(found)
            if self._guesses > MAX_GUESSES:
                raise Unparsed("sql-size", TOO_MANY_GUESSES)
        return found

    def setting(self, name: str, value: str | None = None) -> None:
        """`value`: where it is a constant."""
        self.marks.add(setting_mark(name, value))

    def column(self, relation: Relation | None, name: str) -> None:
        self.named(name)
        self.columns.add((relation, name))

    def assigned(self, target: Relation, targets: list[Node], scope: Scope) -> None:
        """The columns of an INSERT's list or of SET, and the expressions there."""
        for item in targets:
            _, result = unwrap(item)
            self.column(target, text_of(result, "name"))
            self.later(result.get("indirection"), scope)
            self.later(result.get("val"), scope)

    def with_clause(self, node: Node, scope: Scope) -> Scope:
        """The scope within a statement that may have a WITH."""
        clause = node_of(node, "withClause")
        if clause is None:
            return scope
        self.marks.add("cte")
        ctes = [unwrap(item)[1] for item in nodes_of(clause, "ctes")]
        numbers: dict[str, int] = {}
        for number, cte in enumerate(ctes):
            numbers.setdefault(text_of(cte, "ctename"), number)
        inner = Scope(scope, numbers, len(ctes))
        for number, cte in enumerate(ctes):
            kind, query = unwrap(node_of(cte, "ctequery"))
            if kind != "SelectStmt":
                self.marks.add("writes-in-cte")
            within = inner if clause.get("recursive") else Scope(scope, numbers, number)
            self._work.append((kind, query, within))
        return inner

    def from_items(self, items: list[Node], scope: Scope, outside: Scope) -> None:
        """Put the tables of a FROM into `scope`; what is not LATERAL sees no more than `outside`."""
        work = list(items)
        beside = Scope(scope, partly=True)
        while work:
            kind, node = unwrap(work.pop())
            alias = text_of(node_of(node, "alias") or {}, "aliasname")
            match kind:
                case "RangeVar":
                    self.range_var(node, scope, outside)
                case "JoinExpr":
                    work += [side for side in (node_of(node, "larg"), node_of(node, "rarg")) if side is not None]
                    for name in strings(nodes_of(node, "usingClause")):
                        self.column(None, name)
                    if node.get("isNatural"):
                        self.column(None, "*")
                    using = text_of(node_of(node, "join_using_alias") or {}, "aliasname")
                    if alias or using:
                        scope.tables += [(name, None) for name in (alias, using) if name]
                    if _renames(node):
                        self.column(None, "*")
                    self.later(node.get("quals"), beside)
                case "RangeTableSample":
                    method = strings(nodes_of(node, "method"))
                    if method not in _SAMPLES:
                        self.called(method)
                    self.later(node.get("args"), beside)
                    self.later(node.get("repeatable"), beside)
                    sampled = node_of(node, "relation")
                    if sampled is not None:
                        work.append(sampled)
                case "RangeSubselect":
                    self.marks.add("subquery")
                    scope.tables.append((alias, None))
                    self.later(node.get("subquery"), beside if node.get("lateral") else outside)
                case "RangeFunction" if _may_be_a_value(node):
                    columns = frozenset(("*", alias, *strings(nodes_of(node_of(node, "alias") or {}, "colnames"))))
                    scope.values[alias] = columns & scope.values.get(alias, columns)
                    scope.tables.append((alias, None))
                    self._work.append((kind, node, beside))
                case _:  # functions see what stands before them with or without LATERAL
                    scope.tables.append((alias, None))
                    self._work.append((kind, node, beside))

    def range_var(self, node: Node, scope: Scope, outside: Scope) -> None:
        name = text_of(node, "relname")
        alias = text_of(node_of(node, "alias") or {}, "aliasname") or name
        self.named(name)  # of WITH, too: where names are folded otherwise, it may be a table's
        if "schemaname" not in node and outside.is_cte(name):
            scope.tables.append((alias, None))
        else:
            relation = self.relation(node)
            self.reads.add(relation)
            scope.tables.append((alias, relation))
            if _renames(node):
                self.column(relation, "*")

    def target(self, node: Node, scope: Scope) -> Relation:
        """The target of a change: written, and a table that columns can be of."""
        range_var = node_of(node, "relation") or {}
        relation = self.relation(range_var)
        self.writes.add(relation)
        alias = text_of(node_of(range_var, "alias") or {}, "aliasname")
        scope.tables.append((alias or relation.name, relation))
        return relation

    def returning(self, node: Node, target: Relation, scope: Scope) -> None:
        clause = node_of(node, "returningClause")
        if clause is None:
            return
        self.marks.add("returning")
        self.reads.add(target)
        inner = Scope(scope)
        for name in ("old", "new"):  # a table's alias comes first, if no join's hides it
            inner.tables += [(name, relation) for relation in (target, *scope.called(name))]
        for item in nodes_of(clause, "options"):
            inner.tables.append((text_of(unwrap(item)[1], "value"), target))
        for item in nodes_of(clause, "exprs"):
            _, result = unwrap(item)
            if not is_star(result):
                self.later(item, inner)
            else:
                self.stars(scope)

    def stars(self, scope: Scope) -> None:
        if scope in self._starred:
            return
        self._starred.add(scope)
        relations = scope.relations()
        for relation in relations or (None,):
            self.column(relation, "*")


def _renames(node: Node) -> bool:
    """Whether the alias of a table or join has names of its own for columns: which is which is not known here."""
    return bool(nodes_of(node_of(node, "alias") or {}, "colnames"))


def _may_be_a_value(node: Node) -> bool:
    """Whether a function in FROM may give values of one type, and so its alias stand for such a value."""
    functions = nodes_of(node, "functions")
    if len(functions) != 1 or node.get("ordinality") or nodes_of(node, "coldeflist"):
        return False
    items = nodes_of(unwrap(functions[0])[1], "items")
    if len(items) != 1:  # the definitions of its columns come second
        return False
    kind, call = unwrap(items[0])
    return kind != "FuncCall" or strings(nodes_of(call, "funcname"))[-1] not in GIVING_ROWS


def is_star(result: Node) -> bool:
    kind, value = unwrap(node_of(result, "val"))
    return kind == "ColumnRef" and strings(nodes_of(value, "fields")) == ["*"]
