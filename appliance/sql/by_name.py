"""A setting that is named by a condition: pg_dump's way, since August 2024, to set one that older servers do not have.

    SELECT set_config(name, 'value', false) FROM pg_settings WHERE name = 'setting'

There is one row of that name or none, and its name is text that is equal to the constant: so it says
`set_config('setting', 'value', false)`, or nothing at all. That holds of the server's own view, function and operator
alone: `appliance.sql.statements` asks only where a name without a schema means those, and marks whatever could put
another pg_settings in front of it (a temporary relation comes before pg_catalog, with a column whose `=` is of another
mind).
"""

from __future__ import annotations

from typing import Final

from appliance.sql.dangers import SETTINGS_VIEW
from appliance.sql.grammar import Node, Value, constant_text, node_of, nodes_of, strings, text_of, unwrap

_FUNCTIONS: Final = (["set_config"], ["pg_catalog", "set_config"])


def spelled_out(node: Node) -> Node:
    """A SelectStmt of exactly that form, with the constant as the name; every other as it is."""
    _, relation = unwrap(next(iter(nodes_of(node, "fromClause")), None))
    if text_of(relation, "relname") != SETTINGS_VIEW:
        return node
    _, target = unwrap(next(iter(nodes_of(node, "targetList")), None))
    _, call = unwrap(node_of(target, "val"))
    _, condition = unwrap(node_of(node, "whereClause"))
    function, arguments = strings(nodes_of(call, "funcname")), nodes_of(call, "args")
    compared = node_of(condition, "rexpr")
    if function not in _FUNCTIONS or len(arguments) != 3 or compared is None:
        return node
    value, setting = constant_text(arguments[1]), constant_text(compared)
    schema = text_of(relation, "schemaname")
    name, by = _column(arguments[0], schema), _column(node_of(condition, "lexpr"), schema)
    if value is None or setting is None or name is None or by is None:
        return node
    for is_local in (False, True):
        local: Node = {"boolval": True} if is_local else {}
        rest: list[Node] = [_string(value), {"A_Const": {"boolval": local}}]
        if _is(node, _select(function, [name, *rest], schema, by, setting)):
            return _select(function, [_string(setting), *rest], schema, by, setting)
    return node


def _column(written: Node | None, schema: str) -> Node | None:
    """The column `name`, bare or qualified as its relation is written."""
    kind, node = unwrap(written)
    names = strings(nodes_of(node, "fields"))
    if kind != "ColumnRef" or names not in (["name"], [SETTINGS_VIEW, "name"], [schema, SETTINGS_VIEW, "name"]):
        return None
    return {"ColumnRef": {"fields": [_name(each) for each in names]}}


def _select(function: list[str], arguments: list[Node], schema: str, by: Node, setting: str) -> Node:
    """The whole tree, but for the places in the text."""
    call: Node = {
        "funcname": [_name(each) for each in function],
        "args": [*arguments],
        "funcformat": "COERCE_EXPLICIT_CALL",
    }
    relation: Node = {"relname": SETTINGS_VIEW, "inh": True, "relpersistence": "p"}
    if schema:
        relation["schemaname"] = "pg_catalog"
    condition: Node = {"kind": "AEXPR_OP", "name": [_name("=")], "lexpr": by, "rexpr": _string(setting)}
    return {
        "targetList": [{"ResTarget": {"val": {"FuncCall": call}}}],
        "fromClause": [{"RangeVar": relation}],
        "whereClause": {"A_Expr": condition},
        "limitOption": "LIMIT_OPTION_DEFAULT",
        "op": "SETOP_NONE",
    }


def _name(text: str) -> Node:
    return {"String": {"sval": text}}


def _string(text: str) -> Node:
    return {"A_Const": {"sval": {"sval": text}}}


def _is(value: Value, expected: Value) -> bool:
    """Whether a tree is the expected one and has nothing beside it. No deeper than that one is."""
    if isinstance(value, dict) and isinstance(expected, dict):
        if value.keys() - {"location"} != expected.keys():
            return False
        return all(_is(value[field], each) for field, each in expected.items())
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_is, value, expected))
    return value == expected
