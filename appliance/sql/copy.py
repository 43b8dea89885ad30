"""The options of COPY … TO STDOUT, as far as whoever reads its rows must know them (documentation, COPY)."""

from __future__ import annotations

from typing import NamedTuple

from appliance.sql.grammar import Node, Unparsed, node_of, nodes_of, raw_statements, strings, text_of, unwrap

_TRUE = frozenset(("", "true", "on", "1", "match"))


class CopyOptions(NamedTuple):
    """Texts are empty, and `null` is None, where the statement leaves them to the format's default."""

    columns: tuple[str, ...]  # as written; none: all of the relation, or the query's
    format: str  # text, csv, binary
    delimiter: str
    null: str | None
    header: bool
    quote: str
    escape: str
    encoding: str
    force_quote: tuple[str, ...]  # columns; "*" for all


def copy_options(text: bytes) -> CopyOptions:
    """`text`: one COPY statement. Raises `Unparsed`."""
    for raw in raw_statements(text):
        kind, node = unwrap(node_of(raw, "stmt"))
        if kind == "CopyStmt":
            return _options(node)
    raise Unparsed("sql-syntax", "this is no COPY statement")


def _options(node: Node) -> CopyOptions:
    given: dict[str, str] = {}
    force_quote: tuple[str, ...] = ()
    for option in nodes_of(node, "options"):
        _, element = unwrap(option)
        name = text_of(element, "defname")
        kind, argument = unwrap(node_of(element, "arg"))
        if name == "force_quote":
            force_quote = ("*",) if kind == "A_Star" else tuple(strings(nodes_of(argument, "items")))
        else:
            given[name] = _value(kind, argument)
    return CopyOptions(
        columns=tuple(strings(nodes_of(node, "attlist"))),
        format=given.get("format", "text").lower(),
        delimiter=given.get("delimiter", ""),
        null=given.get("null"),
        header="header" in given and given["header"].lower() in _TRUE,
        quote=given.get("quote", ""),
        escape=given.get("escape", ""),
        encoding=given.get("encoding", ""),
        force_quote=force_quote,
    )


def _value(kind: str, node: Node) -> str:
    if kind == "Boolean":
        return "true" if node.get("boolval") else "false"
    if kind == "Integer":
        value = node.get("ival", 0)
        return str(value)
    return text_of(node, "sval")
