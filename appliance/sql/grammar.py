"""PostgreSQL's own grammar: a text goes in, its raw parse tree comes out, or `Unparsed` is raised. Nothing crashes.

The grammar is that of PostgreSQL 18 (libpg_query, by way of `postgast`). The tree is libpg_query's JSON, not its
protobuf form: Python's protobuf refuses trees deeper than a hundred messages (a sum of fifty terms), and takes four
times as long.

A node is a dictionary of its fields, with libpg_query's names; where the grammar leaves the kind of a node open, it
stands in a dictionary of its own under the name of its kind: {"ColumnRef": {...}}. Numbers that are 0, booleans that
are false and lists that are empty are left out. Places are offsets in bytes of the UTF-8 text.

What hostile texts would do to the library, and what is done against it before it sees them:

* NUL ends a C string: refused. Bytes that are not UTF-8: refused.
* Chains (`1+1+1+…`, `… UNION …`, `a JOIN b JOIN …`) make a tree as deep as they are long, and the library writes it by
  recursion: 64,000 levels are 8 MiB of stack. `MAX_CHAIN` is the bound. (Nesting to the right ends at bison's own
  10,000.)
* The lexer reads a run of operators again from each of its characters (`++++…`, `/*/*/*…`): the square of its length.
  `MAX_STEPS` is the bound.
* `SET (a, b, …) = (SELECT …)` is written once for each of its columns, again within itself: `MAX_TOKENS` is the bound.
* Reading the JSON ends at Python's bound of recursion, about 480 operators deep.
"""

from __future__ import annotations

import ctypes
import re
from typing import Final, TypeAlias, Union, cast

import msgspec
from postgast.native import lib
from postgast.pg_query_pb2 import DESCRIPTOR, ScanResult, ScanToken, Token

from appliance.model.errors import PeerError

Value: TypeAlias = Union[str, int, bool, "Node", "list[Value]", None]
Node: TypeAlias = dict[str, Value]

MAX_BYTES: Final = 1 << 18  # of one text, where the caller sets no bound of its own
MAX_CHAIN: Final = 20_000  # tokens in one chain: 2.6 MB of stack; a thread's stack is 8 MiB
MAX_STATEMENTS: Final = 5_000  # in one text; each is judged by itself
MAX_TOKENS: Final = 1 << 17  # in the tree, with repetitions: about 10 MB of JSON, and half a second
MAX_STEPS: Final = 1 << 24  # of the lexer within runs of operators: 0.1 s
SHORT: Final = 2 * MAX_CHAIN  # bytes: a level of a chain takes two at least

_NO_RUN: Final = 1 << 12  # bytes, of which the square is MAX_STEPS
_RUNS: Final = re.compile(rb"[-+*/<>=~!@#%^&|`?]{64,}")
_SET: Final = re.compile(rb"\bset\b", re.IGNORECASE)
_decode: Final = msgspec.json.Decoder(dict[str, object]).decode


class Unparsed(PeerError):
    """A text that cannot be read. `code`: "sql-syntax", "sql-encoding", "sql-size" or "sql-depth".

    `position` is where reading ended, in characters from the start of the text; -1 where it is not known."""

    def __init__(self, code: str, message: str, position: int = -1) -> None:
        super().__init__(code, message)
        self.position = position


def raw_statements(text: bytes, max_bytes: int = MAX_BYTES) -> list[Node]:
    """Parse a text: libpg_query's RawStmt nodes ({"stmt", "stmt_location", "stmt_len"}), one a statement.

    Raises `Unparsed`.
    """
    if len(text) > max_bytes:
        raise Unparsed("sql-size", f"a statement text of {len(text)} bytes is longer than {max_bytes}")
    check_bytes(text)
    if len(text) > SHORT or (b"=" in text and b"(" in text and _SET.search(text) is not None):
        _check_depth(text)
    result = lib.pg_query_parse(text)
    try:
        if result.error:
            error = result.error.contents
            words: bytes = error.message or b"it does not parse"
            raise Unparsed("sql-syntax", words.decode("utf-8", "replace"), max(int(error.cursorpos) - 1, -1))
        json: bytes = result.parse_tree
    finally:
        lib.pg_query_free_parse_result(result)
    try:
        tree = _decode(json)
    except (RecursionError, msgspec.DecodeError, UnicodeDecodeError):
        raise Unparsed("sql-depth", "the statement is nested too deeply") from None
    found = cast("list[Node]", tree.get("stmts", []))
    if len(found) > MAX_STATEMENTS:
        raise Unparsed("sql-size", f"the text has over {MAX_STATEMENTS} statements")
    return found


def check_bytes(text: bytes) -> None:
    """Raise `Unparsed` for bytes that are no SQL text in UTF-8, and for those that the lexer would not be done with."""
    if len(text) > _NO_RUN and sum(len(run) ** 2 for run in _RUNS.findall(text)) > MAX_STEPS:
        raise Unparsed("sql-size", "a run of operators is too long")
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            before = len(text[: error.start].decode())
            raise Unparsed("sql-encoding", "the text is not UTF-8", before) from None
    if b"\0" in text:
        raise Unparsed("sql-encoding", "a NUL is in the text", len(text[: text.index(b"\0")].decode()))


def tokens(text: bytes) -> list[ScanToken]:
    """The text's tokens, comments among them, as the server's lexer finds them. Raises `Unparsed`."""
    check_bytes(text)
    result = lib.pg_query_scan(text)
    try:
        if result.error:
            error = result.error.contents
            words: bytes = error.message or b"it has no tokens"
            raise Unparsed("sql-syntax", words.decode("utf-8", "replace"), max(int(error.cursorpos) - 1, -1))
        data = ctypes.string_at(result.pbuf.data, result.pbuf.len)
    finally:
        lib.pg_query_free_scan_result(result)
    return list(ScanResult.FromString(data).tokens)


_OPEN: Final = frozenset((Token.ASCII_40, Token.ASCII_91))
_CLOSE: Final = frozenset((Token.ASCII_41, Token.ASCII_93))
_GOES_ON: Final = frozenset((Token.UNION, Token.INTERSECT, Token.EXCEPT, Token.JOIN))
_ENDS: Final = frozenset((Token.ASCII_44, Token.AND, Token.OR))
_LISTS: Final = frozenset((Token.ASCII_44, Token.SET))
_COMMA: Final = Token.ASCII_44  # (to look one up among Token's names takes longer than the rest of a turn)
_SEMICOLON: Final = Token.ASCII_59
_EQUALS: Final = Token.ASCII_61


class _Level:
    """What is known of one level of brackets."""

    __slots__ = ("assigned", "base", "chain", "factor", "items", "peak", "unions")

    def __init__(self, base: int, factor: int, assigned: bool) -> None:
        self.base = base  # how deep the tree is around it
        self.chain = 0  # tokens since the last comma
        self.unions = 0  # set operations and joins
        self.peak = 0  # the most that chain and unions were together
        self.items = 1
        self.factor = factor  # how often the tree holds what stands here
        self.assigned = assigned  # it may be a list of columns that are assigned to


def _check_depth(text: bytes) -> None:
    """Raise `Unparsed` for a text whose tree would be deeper than `MAX_CHAIN` or larger than `MAX_TOKENS`.

    A chain goes on at one level of brackets until a comma, AND or OR ends it (those make lists, not chains); joins and
    set operations go on beyond them. What is in brackets adds to the chain around it. A list `(a, b, …) =` behind SET
    or a comma multiplies what follows it, up to the next comma.
    """
    level = _Level(0, 1, False)
    outer: list[_Level] = []
    total = 0
    closed = 0  # columns in the list that has just been closed
    listed = False  # SET or a comma stands before this token
    for token in tokens(text):
        kind = token.token
        total += level.factor
        if kind == _EQUALS and closed > 1:
            level.factor *= closed
        closed = 0
        if kind in _OPEN:
            outer.append(level)
            level = _Level(level.base + level.chain + level.unions + 1, level.factor, listed)
        elif kind in _CLOSE and outer:
            peak = max(level.peak, level.chain + level.unions) + 1
            closed = level.items if level.assigned else 0
            level = outer.pop()
            level.chain += peak
        elif kind in _ENDS:
            level.peak = max(level.peak, level.chain + level.unions + 1)
            level.chain = 0
            if kind == _COMMA:
                level.factor = outer[-1].factor if outer else 1
                level.items += 1
        elif kind == _SEMICOLON and not outer:
            level = _Level(0, 1, False)
        elif kind in _GOES_ON:
            level.unions += 1
        else:
            level.chain += 1
        listed = kind in _LISTS
        if level.base + level.chain + level.unions > MAX_CHAIN:
            raise Unparsed("sql-depth", "the statement is nested too deeply")
        if total > MAX_TOKENS:
            raise Unparsed("sql-size", "the statement has too many parts")


def _field_kinds() -> dict[str, dict[str, str]]:
    """The kind of each field that holds nodes, by the kind of the node that it is in. "Node": left open."""
    kinds: dict[str, dict[str, str]] = {}
    for name, message in DESCRIPTOR.message_types_by_name.items():
        kinds[name] = {f.json_name: f.message_type.name for f in message.fields if f.message_type is not None}
    return kinds


FIELD_KINDS: Final = _field_kinds()


def text_of(node: Node, field: str) -> str:
    value = node.get(field)
    return value if isinstance(value, str) else ""


def number_of(node: Node, field: str) -> int:
    value = node.get(field)
    return value if isinstance(value, int) else 0


def node_of(node: Node, field: str) -> Node | None:
    """The node in a field whose kind is fixed; with its wrapper where the kind is left open."""
    value = node.get(field)
    return value if isinstance(value, dict) and value else None


def nodes_of(node: Node, field: str) -> list[Node]:
    """The nodes in a list, each in its wrapper; what is absent in the list is left out."""
    value = node.get(field)
    return [item for item in value if isinstance(item, dict) and item] if isinstance(value, list) else []


def unwrap(wrapped: Node | None) -> tuple[str, Node]:
    """The kind of a node and the node; ("", {}) where there is none."""
    if wrapped:
        for kind, node in wrapped.items():
            if isinstance(node, dict):
                return kind, node
    return "", {}


def strings(wrapped: list[Node]) -> list[str]:
    """The names in a list of String nodes; "*" for a star."""
    found: list[str] = []
    for item in wrapped:
        kind, node = unwrap(item)
        if kind == "String":
            found.append(text_of(node, "sval"))
        elif kind == "A_Star":
            found.append("*")
    return found


def constant_text(argument: Node) -> str | None:
    """The text of a string that stands there as such, or of a word; None where it is anything else."""
    kind, node = unwrap(argument)
    while kind == "TypeCast":
        type_names = strings(nodes_of(node_of(node, "typeName") or {}, "names"))
        if type_names[-1:] not in (["text"], ["varchar"]) or type_names[:-1] not in ([], ["pg_catalog"]):
            return None
        if nodes_of(node_of(node, "typeName") or {}, "typmods"):
            return None
        kind, node = unwrap(node_of(node, "arg"))
    value = node_of(node, "sval") if kind == "A_Const" else None
    return text_of(value, "sval") if value is not None else None
