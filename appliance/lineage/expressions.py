"""What an expression is made from: the value expressions of PostgreSQL (documentation, chapter 4.2), by the parse tree.

A table says which fields of each kind of node are expressions. A kind, or a field, that is not in it is not understood:
then every masked column may be in the result, have been compared, and have gone through something unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from postgast import pg_query_pb2 as pb

from appliance.lineage import builtins
from appliance.lineage.relations import Catalogue
from appliance.lineage.scopes import CLEAN, Columns, Item, Scope, Taint, joined, union
from appliance.model.errors import PeerError
from appliance.model.row_functions import GIVING_ROWS, OF_ANY_ROW

MAX_STEPS: Final = 10_000  # nodes visited, repeats counted, in one text
MAX_DEPTH: Final = 200  # nodes within nodes; protobuf's own limit (100 messages) comes first

# A node's kind -> the fields that hold what its value is made from, and those that hold none (names, types, options).
# In LOUD nodes an error may repeat a value.
Fields = tuple[tuple[str, ...], tuple[str, ...]]
PLAIN: Final[Mapping[str, Fields]] = {
    "a_array_expr": (("elements",), ()),
    "a_const": ((), ("ival", "fval", "boolval", "sval", "bsval")),
    "a_indices": (("lidx", "uidx"), ()),
    "bool_expr": (("args",), ("xpr",)),
    "boolean_test": (("arg",), ("xpr",)),
    "case_expr": (("arg", "args", "defresult"), ("xpr",)),
    "case_when": (("expr", "result"), ("xpr",)),
    "coalesce_expr": (("args",), ("xpr",)),
    "collate_clause": (("arg",), ("collname",)),
    "current_of_expr": ((), ("xpr",)),
    "grouping_func": (("args", "refs"), ("xpr",)),
    "list": (("items",), ()),
    "merge_support_func": ((), ("xpr",)),
    "min_max_expr": (("args",), ("xpr",)),
    "multi_assign_ref": (("source",), ()),
    "named_arg_expr": (("arg",), ("xpr",)),
    "null_test": (("arg",), ("xpr",)),
    "param_ref": ((), ()),
    "res_target": (("indirection", "val"), ()),
    "row_expr": (("args",), ("xpr", "colnames")),
    "set_to_default": ((), ("xpr",)),
    "sort_by": (("node",), ("use_op",)),
    "sqlvalue_function": ((), ("xpr",)),
    "string": ((), ()),
    "integer": ((), ()),
    "float": ((), ()),
    "boolean": ((), ()),
    "bit_string": ((), ()),
}
LOUD: Final[Mapping[str, Fields]] = {
    "json_agg_constructor": (("agg_filter", "agg_order", "over"), ("output",)),
    "json_argument": (("val",), ()),
    "json_array_agg": (("constructor", "arg"), ()),
    "json_array_constructor": (("exprs",), ("output",)),
    "json_array_query_constructor": (("query",), ("output", "format")),
    "json_behavior": (("expr",), ()),
    "json_func_expr": (("context_item", "pathspec", "passing", "on_empty", "on_error"), ("output",)),
    "json_is_predicate": (("expr",), ("format",)),
    "json_key_value": (("key", "value"), ()),
    "json_object_agg": (("constructor", "arg"), ()),
    "json_object_constructor": (("exprs",), ("output",)),
    "json_parse_expr": (("expr",), ("output",)),
    "json_scalar_expr": (("expr",), ("output",)),
    "json_serialize_expr": (("expr",), ("output",)),
    "json_table": (("context_item", "pathspec", "passing", "columns", "on_error"), ("alias",)),
    "json_table_column": (("pathspec", "columns", "on_empty", "on_error"), ("type_name", "format")),
    "json_table_path_spec": (("string",), ()),
    "json_value_expr": (("raw_expr", "formatted_expr"), ("format",)),
    "range_table_func": (("docexpr", "rowexpr", "namespaces", "columns"), ("alias",)),
    "range_table_func_col": (("colexpr", "coldefexpr"), ("type_name",)),
    "window_def": (("partition_clause", "order_clause", "start_offset", "end_offset"), ()),
    "xml_expr": (("named_args", "args"), ("xpr", "arg_names")),
    "xml_serialize": (("expr",), ("type_name",)),
}
KIND_OF: Final[Mapping[str, str]] = {
    field.message_type.name: field.name for field in pb.Node.DESCRIPTOR.fields if field.message_type is not None
}
SERVER_SCHEMA: Final = "pg_catalog"
SYSTEM_USER: Final = (SERVER_SCHEMA, "system_user")  # the word, which before PostgreSQL 16 is any column's name


def text_of(nodes: Iterable[pb.Node]) -> tuple[str, ...]:
    """The words of a name; `*` is left out."""
    return tuple(node.string.sval for node in nodes if node.WhichOneof("node") == "string")


def kind_of(node: pb.Node) -> tuple[str, pb.Node]:
    """The kind of a node, and the message itself without its wrapper."""
    name = node.DESCRIPTOR.name
    if name != "Node":
        return KIND_OF.get(name, name), node
    kind = node.WhichOneof("node") or ""
    return kind, getattr(node, kind) if kind else node


def gives_record(node: pb.FuncCall) -> bool:
    """Whether a call gives a row for sure, so that a name behind it is a field's."""
    name = text_of(node.funcname)
    return bool(name) and name[-1] in GIVING_ROWS


class Expressions:
    """One analysis: what it is made for, and what it has found so far. All sets of masks are ints: `scopes`."""

    __slots__ = (
        "catalogue", "charged", "depth", "expressions", "may_differ", "opaque", "probes", "search_path", "steps",
        "writes",
    )  # fmt: skip

    def __init__(self, catalogue: Catalogue, search_path: tuple[str, ...], *, may_differ: bool = True) -> None:
        self.catalogue = catalogue
        self.search_path = search_path
        self.may_differ = may_differ  # a relation may have other columns than the catalogue says
        self.expressions = 0
        self.probes = 0
        self.writes = 0
        self.opaque: dict[str, None] = {}
        self.steps = 0
        self.charged = 0  # of the next step
        self.depth = 0

    def query(self, node: pb.Node, outer: Scope) -> Columns:
        """The columns of a query that is part of an expression."""
        raise NotImplementedError

    # What is found

    def unseen(self, what: str) -> None:
        self.opaque[what] = None

    # (Methods, for what they are given is found first: in `self.probes |= f()` the left side is read before the call.)

    def compare(self, masks: int) -> None:
        self.probes |= masks

    def keep(self, masks: int) -> None:
        self.writes |= masks

    def show(self, masks: int) -> None:
        self.expressions |= masks

    def not_understood(self, kind: str) -> Taint:
        masks = self.catalogue.all_masks
        self.unseen(kind)
        self.show(masks)
        self.compare(masks)
        return Taint(0, masks)

    def call(self, name: Sequence[str]) -> None:
        """A function is called: remember it if it is not known to be harmless."""
        if not name:
            self.unseen("function")
            return
        last = name[-1]
        if len(name) > 1:
            if name[-2] != SERVER_SCHEMA or last not in builtins.HARMLESS:
                self.unseen(last if name[-2] == SERVER_SCHEMA else ".".join(name[-2:]))
        elif last not in builtins.HARMLESS or last in self.catalogue.own_functions:
            self.unseen(last)

    # Expressions

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise PeerError("sql-too-complex", "the statement is too complex to follow masked columns through it")

    def charge(self, columns: int) -> None:
        """Work that goes with a number of columns, or of items in FROM: a hundred of them cost a step."""
        self.charged += columns
        self.steps += self.charged // 100
        self.charged %= 100

    def masks(self, node: pb.Node, scope: Scope) -> int:
        return self.value(node, scope).all()

    def all_of(self, nodes: Iterable[pb.Node], scope: Scope) -> int:
        masks = 0
        for node in nodes:
            masks |= self.value(node, scope).all()
        return masks

    def probe(self, node: pb.Node, scope: Scope) -> None:
        self.compare(self.masks(node, scope))

    def probe_all(self, nodes: Iterable[pb.Node], scope: Scope) -> None:
        self.compare(self.all_of(nodes, scope))

    def value(self, wrapped: pb.Node, scope: Scope) -> Taint:
        """What an expression carries. What it does beside that is added to what was found."""
        self.step()
        kind, node = kind_of(wrapped)
        if not kind:
            return CLEAN  # the wrapper is empty: the grammar's way of saying that nothing is there
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise PeerError("sql-too-complex", "the statement is nested too deeply to follow masked columns through it")
        try:
            if kind == "column_ref":
                return self.column(node, scope)
            return Taint(0, self.made_from(kind, node, scope))
        finally:
            self.depth -= 1

    def made_from(self, kind: str, node: pb.Node, scope: Scope) -> int:
        if kind == "func_call":
            return self.function(node, scope)
        if kind == "a_expr":
            return self.operator(node, scope)
        if kind == "type_cast":
            return self.cast(node, scope)
        if kind == "sub_link":
            return self.sublink(node, scope)
        if kind == "a_indirection":
            return self.indirection(node, scope)
        if kind == "select_stmt":
            return self.query(node, scope.inside()).masks()
        fields = PLAIN.get(kind)
        if fields is not None:
            return self.parts(kind, node, fields, scope)
        fields = LOUD.get(kind)
        if fields is not None:
            return self.loud(self.parts(kind, node, fields, scope))
        return self.not_understood(kind).all()

    def parts(self, kind: str, node: pb.Node, fields: Fields, scope: Scope) -> int:
        """The union over the fields of a node, as a table says. A message in a field that it does not list is not
        understood."""
        read, passed_over = fields
        masks = 0
        for field, value in node.ListFields():
            if field.message_type is None or field.name in passed_over:
                continue
            if field.name not in read:
                masks |= self.not_understood(f"{kind}.{field.name}").all()
            elif field.is_repeated:
                masks |= self.all_of(value, scope)
            else:
                masks |= self.value(value, scope).all()
        return masks

    def loud(self, masks: int) -> int:
        """Errors repeat values here ("invalid input syntax for type integer: …"), wherever the expression stands."""
        self.show(masks)
        return masks

    def column(self, node: pb.ColumnRef, scope: Scope) -> Taint:
        fields = node.fields
        self.charge(scope.width())
        if fields[-1].WhichOneof("node") == "a_star":  # count(t.*), ROW(t.*)
            return Taint(0, self.star(node, scope).masks())
        name = text_of(fields)
        if len(name) != len(fields) or not name:
            return self.not_understood("column_ref")
        if len(name) == 1:
            taint, sure = scope.column(name[0])
            if not sure:  # or a whole row, by the name of its relation
                for item in scope.items_called(name[0], qualified=False):
                    taint = Taint(taint.passed, taint.made | item.columns.masks())
            return taint
        items = scope.items_called(name[-2], qualified=len(name) > 2)
        if not items:  # the server knows no such relation here, or we do not follow where it does
            return Taint(0, self.catalogue.all_masks)
        taint = CLEAN
        for item in items:
            taint = union(taint, self.of_item(item, name[-1]))
        return taint

    def of_item(self, item: Item, name: str) -> Taint:
        """`item.name`: a column, or else a function of one row in the other notation (chapter 4.2.4)."""
        taint, listed = item.columns.find(name)
        of_a_row = name in OF_ANY_ROW or name in self.catalogue.row_functions
        if listed and (item.columns.certain or not of_a_row):
            return taint
        if name in builtins.SYSTEM_COLUMNS and item.columns.complete:  # a table's; a query may give the name to any
            return CLEAN
        if name in self.catalogue.row_functions:
            self.unseen(name)
        elif item.is_value and name != item.name:  # no row: nothing but a function can be meant
            self.call((name,))
            self.given(name, item.columns.masks())
        known = of_a_row or name in builtins.HARMLESS or name in self.catalogue.own_functions
        if item.columns.complete or known:
            taint = Taint(taint.passed, taint.made | item.columns.masks())
        return taint

    def star(self, node: pb.ColumnRef, scope: Scope) -> Columns:
        """The columns that `relation.*` gives."""
        name = text_of(node.fields)
        if not name:
            return joined([item.columns for item in scope.items]) if scope.items else Columns((), ())
        items = scope.items_called(name[-1], qualified=len(name) > 1)
        if not items:
            return Columns((), (), rest=Taint(0, self.catalogue.all_masks), complete=False)
        if len(items) == 1:
            return items[0].columns
        return Columns((), (), rest=joined([item.columns for item in items]).whole(), complete=False)

    def indirection(self, node: pb.A_Indirection, scope: Scope) -> int:
        """`(value).field`, `value[index]`, `(value).*`: of a whole row the field can be told. Of a value that has no
        such field, it is a call: `('select …'::text).dblink`."""
        masks = 0
        items: list[Item] = []
        known = self.catalogue.columns
        called: list[str] = []
        is_record = node.arg.WhichOneof("node") == "func_call" and gives_record(node.arg.func_call)
        for part in node.indirection:
            kind = part.WhichOneof("node")
            if kind == "string":
                last = part.string.sval
                if last in self.catalogue.row_functions:
                    self.unseen(last)
                elif not is_record and (last not in known or last in self.catalogue.own_functions):
                    self.call((last,))
                    called.append(last)
                is_record = False
            elif kind != "a_star":
                masks |= self.masks(part, scope)
        first = node.indirection[0]
        if node.arg.WhichOneof("node") == "column_ref" and first.WhichOneof("node") == "string":
            name = text_of(node.arg.column_ref.fields)
            if len(name) == 1 and not scope.column(name[0])[0].all():
                items = scope.items_called(name[0], qualified=False)
        if items and all(item.columns.complete for item in items):
            for item in items:
                masks |= self.of_item(item, first.string.sval).all()
        else:
            masks |= self.masks(node.arg, scope)
        for last in called:
            self.given(last, masks)
        return masks

    def function(self, node: pb.FuncCall, scope: Scope) -> int:
        name = text_of(node.funcname)
        self.call(name)
        masks = self.all_of(node.args, scope)
        if name == SYSTEM_USER:
            word = pb.ColumnRef(fields=[pb.Node(string=pb.String(sval=name[-1]))])
            masks |= self.column(word, scope).all()
        order = self.all_of(node.agg_order, scope)
        if node.HasField("agg_filter"):
            order |= self.masks(node.agg_filter, scope)
        if node.HasField("over"):
            order |= self.window(node.over, scope)
        if node.agg_distinct:
            order |= masks
        self.compare(order)
        masks |= order
        last = name[-1] if name else ""
        self.given(last, masks)
        if last == "length" and len(node.args) > 1:  # of bytes in an encoding: "invalid encoding name …"
            self.loud(masks)
        return masks

    def given(self, function: str, masks: int) -> None:
        """What a function is given shows in other ways than in its result, too."""
        if function not in builtins.QUIET_FUNCTIONS:
            self.loud(masks)
        if function in builtins.SET_RETURNING:
            self.compare(masks)
        if function in builtins.EFFECTS:
            self.keep(masks)

    def window(self, node: pb.WindowDef, scope: Scope) -> int:
        """What a window is made by: it is compared, and what a function over the window gives is made from it."""
        masks = self.all_of(node.partition_clause, scope) | self.all_of(node.order_clause, scope)
        for bound in ("start_offset", "end_offset"):
            if node.HasField(bound):
                masks |= self.masks(getattr(node, bound), scope)
        for name in (node.name, node.refname):
            if name:
                masks |= scope.windows.get(name, 0)
        return masks

    def operator(self, node: pb.A_Expr, scope: Scope) -> int:
        masks = self.masks(node.lexpr, scope) | self.masks(node.rexpr, scope)
        name = text_of(node.name)
        last = name[-1] if name else ""
        if (len(name) > 1 and name[-2] != SERVER_SCHEMA) or last in self.catalogue.own_operators:
            self.unseen("operator " + ".".join(name))
        words = pb.AEXPR_BETWEEN, pb.AEXPR_NOT_BETWEEN, pb.AEXPR_BETWEEN_SYM, pb.AEXPR_NOT_BETWEEN_SYM
        if last not in builtins.QUIET_OPERATORS and node.kind not in words:
            self.loud(masks)
        return masks

    def cast(self, node: pb.TypeCast, scope: Scope) -> int:
        masks = self.masks(node.arg, scope)
        name = text_of(node.type_name.names)
        # `text` without schema may be a temporary domain, whose check casts; varchar is a word of the grammar
        quiet = len(name) == 2 and name[0] == SERVER_SCHEMA and name[1] in builtins.QUIET_TYPES
        return masks if quiet and not node.type_name.array_bounds else self.loud(masks)

    def sublink(self, node: pb.SubLink, scope: Scope) -> int:
        columns = self.query(node.subselect, scope.inside())
        masks = self.masks(node.testexpr, scope) if node.HasField("testexpr") else 0
        if node.sub_link_type == pb.EXISTS_SUBLINK:
            return masks  # whether there is a row: what the query inside compares is among the probes
        name = text_of(node.oper_name)
        masks |= columns.masks()
        if name and (name[-1] in self.catalogue.own_operators or name[:-1] not in ((), (SERVER_SCHEMA,))):
            self.unseen("operator " + ".".join(name))
        return masks if not name or name[-1] in builtins.QUIET_OPERATORS else self.loud(masks)
