"""Queries, changes of rows, and expressions: what is done with each kind of node. See `appliance.sql.reading`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.model.row_functions import GIVING_ROWS, OF_ANY_ROW
from appliance.sql.dangers import ANY_SETTING, OPERATORS
from appliance.sql.grammar import Node, Value, constant_text, node_of, nodes_of, strings, text_of, unwrap
from appliance.sql.reading import Handler, Reading, Relation, Scope, is_star


def _select(reading: Reading, node: Node, scope: Scope) -> None:
    inner = reading.with_clause(node, scope)
    outside = inner
    scope = Scope(inner)
    reading.from_items(nodes_of(node, "fromClause"), scope, outside)
    into = node_of(node, "intoClause")
    if into is not None:
        reading.marks.add("into")
        reading.push("IntoClause", into, scope)
    for side in ("larg", "rarg"):
        branch = node_of(node, side)
        if branch is not None:
            reading.push("SelectStmt", branch, inner)
    if nodes_of(node, "lockingClause"):
        reading.marks.add("locking")
    results: set[str] = set()
    for item in nodes_of(node, "targetList"):
        _, result = unwrap(item)
        results.add(text_of(result, "name"))
        if is_star(result):
            reading.stars(scope)
        else:
            reading.later(result.get("val"), scope)
    for item in nodes_of(node, "sortClause"):
        _, sort = unwrap(item)
        kind, value = unwrap(node_of(sort, "node"))
        names = strings(nodes_of(value, "fields")) if kind == "ColumnRef" else []
        _operator(reading, strings(nodes_of(sort, "useOp")))
        if len(names) != 1 or names[0] not in results:  # a name of the result comes first
            reading.push("SortBy", sort, scope)
    reading.fields(
        "SelectStmt",
        node,
        scope,
        *("withClause", "fromClause", "intoClause", "larg", "rarg", "lockingClause", "targetList", "sortClause"),
    )


def _insert(reading: Reading, node: Node, scope: Scope) -> None:
    inner = reading.with_clause(node, scope)
    scope = Scope(inner)
    target = reading.target(node, scope)
    columns = nodes_of(node, "cols")
    reading.assigned(target, columns, scope)
    if not columns:
        reading.column(target, "*")
    reading.later(node.get("selectStmt"), inner)
    conflict = node_of(node, "onConflictClause")
    if conflict is not None:
        reading.reads.add(target)
        if text_of(conflict, "action") == "ONCONFLICT_UPDATE":
            reading.marks.add("then-update")
        within = Scope(scope)
        within.tables.append(("excluded", target))
        reading.assigned(target, nodes_of(conflict, "targetList"), within)
        reading.later(conflict.get("whereClause"), within)
        infer = node_of(conflict, "infer")
        if infer is not None:
            reading.push("InferClause", infer, scope)
    reading.returning(node, target, scope)


def _update(reading: Reading, node: Node, scope: Scope) -> None:
    inner = reading.with_clause(node, scope)
    scope = Scope(inner)
    target = reading.target(node, scope)
    reading.from_items(nodes_of(node, "fromClause"), scope, inner)
    reading.assigned(target, nodes_of(node, "targetList"), scope)
    _condition(reading, node, target, scope)
    reading.returning(node, target, scope)
    if mentions_columns(node.get("targetList"), or_with=True):
        reading.reads.add(target)


def _delete(reading: Reading, node: Node, scope: Scope) -> None:
    inner = reading.with_clause(node, scope)
    scope = Scope(inner)
    target = reading.target(node, scope)
    reading.from_items(nodes_of(node, "usingClause"), scope, inner)
    _condition(reading, node, target, scope)
    reading.returning(node, target, scope)


def _condition(reading: Reading, node: Node, target: Relation, scope: Scope) -> None:
    where = node_of(node, "whereClause")
    if where is None:
        reading.unbounded = True
        return
    reading.reads.add(target)
    if not mentions_columns(where):
        reading.marks.add("where-constant")
    reading.later(where, scope)


def mentions_columns(value: Value, *, or_with: bool = False) -> bool:
    """But for those in a WITH (`or_with`: that is enough): they bound nothing by themselves, and DELETEs that are
    nested in each other's WHERE would be gone through again for each."""
    work: list[Value] = [value]
    while work:
        value = work.pop()
        if isinstance(value, dict):
            if "ColumnRef" in value or "CurrentOfExpr" in value or (or_with and "withClause" in value):
                return True
            work += [each for field, each in value.items() if field != "withClause"]
        elif isinstance(value, list):
            work += value
    return False


_THEN: Final = {"CMD_INSERT": "then-insert", "CMD_UPDATE": "then-update", "CMD_DELETE": "then-delete"}


def _merge(reading: Reading, node: Node, scope: Scope) -> None:
    inner = reading.with_clause(node, scope)
    scope = Scope(inner)
    target = reading.target(node, scope)
    reading.reads.add(target)
    source = node_of(node, "sourceRelation")
    reading.from_items([source] if source is not None else [], scope, inner)
    reading.later(node.get("joinCondition"), scope)
    if not mentions_columns(node.get("joinCondition")):
        reading.unbounded = True
    for item in nodes_of(node, "mergeWhenClauses"):
        _, clause = unwrap(item)
        targets = nodes_of(clause, "targetList")
        command = _THEN.get(text_of(clause, "commandType"))
        if command is not None:
            reading.marks.add(command)
            by_source = text_of(clause, "matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"  # then ON bounds nothing
            if by_source and not mentions_columns(clause.get("condition")):
                reading.unbounded = True
        reading.assigned(target, targets, scope)
        if text_of(clause, "commandType") == "CMD_INSERT" and not targets:
            reading.column(target, "*")
        reading.later(clause.get("values"), scope)
        reading.later(clause.get("condition"), scope)
    reading.returning(node, target, scope)


def _sub_link(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("subquery")
    _operator(reading, strings(nodes_of(node, "operName")))
    reading.fields("SubLink", node, scope, "operName")


# Names in expressions


def _column_ref(reading: Reading, node: Node, scope: Scope) -> None:
    names = strings(nodes_of(node, "fields"))
    if not names:
        return
    if len(names) == 1:
        if names[0] == "*":
            reading.stars(scope)
        else:
            _bare_column(reading, names[0], scope)
        return
    if len(names) == 2:
        _field_of_value(reading, names[0], names[1], scope)
    written = Relation(names[-3], names[-2]) if len(names) > 2 else None  # no alias has a schema
    found = False
    certain = True  # that all tables of the scope are seen
    for place in reading.outward(scope):
        if written is not None:
            relations: Sequence[Relation | None] = [written] if written in place.relations() else []
        else:
            relations = reading.tables(place, names[0])  # of several, aliases of joins hide all but one
        for relation in relations:
            found = True
            _column_of(reading, relation, names[-1])
        if relations and certain:
            break
        certain = not place.partly
    if not found:
        _column_of(reading, None, names[-1])


def _column_of(reading: Reading, relation: Relation | None, name: str) -> None:
    reading.column(relation, name)
    if name in OF_ANY_ROW:
        reading.column(relation, "*")
        reading.functions.add(name)


def _field_of_value(reading: Reading, qualifier: str, name: str, scope: Scope) -> None:
    """`f.name`, where f is a function in FROM that may give one value: a call, as in `_indirection`."""
    for place in reading.outward(scope):
        for alias in (qualifier, ""):
            if alias in place.values and name not in place.values[alias]:
                reading.called([name])


def _bare_column(reading: Reading, name: str, scope: Scope) -> None:
    for place in reading.outward(scope):
        for relation in reading.tables(place, name):  # the whole row, unless there is a column of that name
            reading.column(relation, "*")
    reading.column(scope.only(), name)


def _index_element(reading: Reading, node: Node, scope: Scope) -> None:
    name = text_of(node, "name")
    if name:
        _bare_column(reading, name, scope)
    reading.later(node.get("expr"), scope)


def _operator(reading: Reading, names: list[str]) -> None:
    if len(names) > 2:  # the database comes first
        reading.marks.add("catalog")
        names = names[-2:]
    if len(names) > 1 and names[0] != "pg_catalog":
        reading.functions.add("operator(" + ".".join(names) + ")")
    elif names and names[-1] not in OPERATORS:
        reading.functions.add(f"operator({names[-1]})")


def _expression(reading: Reading, node: Node, scope: Scope) -> None:
    if text_of(node, "kind") in ("AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT"):
        _operator(reading, strings(nodes_of(node, "name")))
    reading.later(node.get("lexpr"), scope)
    reading.later(node.get("rexpr"), scope)


def _sort_by(reading: Reading, node: Node, scope: Scope) -> None:
    _operator(reading, strings(nodes_of(node, "useOp")))
    reading.later(node.get("node"), scope)


def _func_call(reading: Reading, node: Node, scope: Scope) -> None:
    names = strings(nodes_of(node, "funcname"))
    name = reading.called(names)
    arguments = nodes_of(node, "args")
    if name == "set_config":
        setting = _constant(arguments)
        if setting is None:
            reading.marks |= ANY_SETTING
        else:
            reading.setting(setting, constant_text(arguments[1]))
    if len(arguments) == 1 and unwrap(arguments[0])[0] == "ColumnRef":
        row = strings(nodes_of(unwrap(arguments[0])[1], "fields"))
        alias = row[-2] if row[-1:] == ["*"] and len(row) > 1 else row[-1]
        for place in reading.outward(scope):
            for relation in reading.tables(place, alias):
                if relation is not None:
                    reading.column(relation, name)  # email(users) is users.email
    reading.fields("FuncCall", node, scope, "funcname")


def _indirection(reading: Reading, node: Node, scope: Scope) -> None:
    """`(value).name` is a call of name(value) wherever value has no such field, and a value of any type will do:
    `('/etc/passwd'::text).pg_read_file`. So it counts as one, but where it is a field for sure."""
    kind, base = unwrap(node_of(node, "arg"))
    is_record = kind == "FuncCall" and strings(nodes_of(base, "funcname"))[-1] in GIVING_ROWS
    for item in nodes_of(node, "indirection"):
        kind, part = unwrap(item)
        if kind == "String":
            if not is_record:
                reading.called([text_of(part, "sval")])
            is_record = False
    reading.fields("A_Indirection", node, scope)


def _constant(arguments: list[Node]) -> str | None:
    """The first argument, where it is a string that stands there as such; None where it cannot be known."""
    if len(arguments) != 3 or any(unwrap(argument)[0] == "NamedArgExpr" for argument in arguments):
        return None
    return constant_text(arguments[0])


def _value_function(reading: Reading, node: Node, scope: Scope) -> None:
    name = text_of(node, "op").removeprefix("SVFOP_").lower()
    reading.functions.add(name.removesuffix("_n"))


# What an older server takes for a function of that name, and what this grammar has a node for.
_CONSTRUCTS: Final[dict[str, str]] = {
    "JsonObjectConstructor": "json_object",
    "JsonArrayConstructor": "json_array",
    "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonArrayAgg": "json_arrayagg",
    "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar",
    "JsonSerializeExpr": "json_serialize",
    "JsonTable": "json_table",
    "MergeSupportFunc": "merge_action",
    "XmlSerialize": "xmlserialize",
    "GroupingFunc": "grouping",
}


def _construct(kind: str) -> Handler:
    name = _CONSTRUCTS[kind]

    def read(reading: Reading, node: Node, scope: Scope) -> None:
        reading.functions.add(name)
        reading.fields(kind, node, scope)

    return read


def _json_function(reading: Reading, node: Node, scope: Scope) -> None:
    name = text_of(node, "op").removesuffix("_OP").lower()
    reading.functions.add("json_table" if name == "json_table" else name)
    reading.fields("JsonFuncExpr", node, scope)


QUERIES: Final[dict[str, Handler]] = {
    "A_Expr": _expression,
    "A_Indirection": _indirection,
    "ColumnRef": _column_ref,
    "DeleteStmt": _delete,
    "FuncCall": _func_call,
    "IndexElem": _index_element,
    "InsertStmt": _insert,
    "JsonFuncExpr": _json_function,
    "MergeStmt": _merge,
    "SQLValueFunction": _value_function,
    "SelectStmt": _select,
    "SortBy": _sort_by,
    "StatsElem": _index_element,
    "SubLink": _sub_link,
    "UpdateStmt": _update,
    **{kind: _construct(kind) for kind in _CONSTRUCTS},
}
