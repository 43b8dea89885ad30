"""What is known of a database as far as masks need it, made from the rows of three queries of its catalogue.

    relations_query(masks)  -> SQL; its rows, and those of ROUTINES and TYPES -> build(...) -> Catalogue

The session runs them with the agent's own rights, on its own connection, right after login: there is no temporary
relation yet. All they read (pg_class, pg_attribute, pg_inherits, pg_rewrite, …) may be read by every role.

What is masked: the columns that a mask names; those of the same name in partitions and children, and in their parents
(a parent's rows are its children's, too); the columns of views, materialised views and generated columns, by the
lineage of their definition: one that passes a masked column through is masked likewise, one that is made from masked
columns is, too. (A view that only compares one is not: its author did that.) A definition that cannot be read has every
column masked by all that the relations under it have. `names` of a mask do not reach the server's own schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import Final, NamedTuple

from appliance.lineage.lineage import Flow, lineage
from appliance.lineage.relations import Catalogue, Relation
from appliance.lineage.scopes import Taint, union
from appliance.model.errors import PeerError
from appliance.model.verdict import Mask

__all__ = [
    "ROUTINES", "TYPES", "Catalogue", "Column", "Made", "Relation", "Routine", "build", "relations_query",
]  # fmt: skip

MAX_ROUNDS: Final = 64  # over the views: their depth, at most
MAX_TYPES: Final = 5000  # of those that users made: about 1 MB of a catalogue. Others are not known
_FIRST_MADE: Final = 16384  # transam.h: FirstNormalObjectId
_LAST_OID: Final = (1 << 32) - 1
_FORMS: Final = frozenset("demrta")
_AROUND_ONE: Final = frozenset("da")
_OID: Final = re.compile("[0-9]{1,10}")


class Column(NamedTuple):
    """A row of `relations_query`, all as text; NULL is None. One for each column of each relation that a mask may
    touch, in the order of their numbers."""

    oid: str
    schema: str
    name: str
    kind: str  # r table, p partitioned table, f foreign table, v view, m materialised view
    number: str  # attnum
    column: str
    generated: str | None  # the expression that the column is generated from
    definition: str | None  # of a view
    parents: str  # oids that it inherits from, separated by spaces
    beneath: str  # oids of the relations that its definition reads, separated by spaces
    search_path: str  # of the session that asked, as `definition` is written for it: an array as text, {a,b}


class Routine(NamedTuple):
    """A row of ROUTINES."""

    kind: str  # "f" function, "r" function that one row can be given to, "e" one of an extension, "o" operator
    name: str


class Made(NamedTuple):
    """A row of TYPES."""

    oid: str | None
    form: str | None  # d domain, e enum, r range, m multirange, t what is written as text is, a array
    inner: str | None  # the oid of a domain's base type, or of an array's elements


# Functions and operators that neither the server nor an extension brought: a call of lower(…) may mean theirs. Of an
# extension's those that one row can be given to, as `row.hstore` is no column then.
ROUTINES: Final = """
SELECT f.kind, f.proname
  FROM (SELECT p.proname,
               CASE WHEN p.pronargs - p.pronargdefaults <= 1 AND p.pronargs >= 1 AND t.typtype IN ('c', 'p', 'd')
                    THEN CASE WHEN d.objid IS NULL THEN 'r' ELSE 'e' END
                    WHEN d.objid IS NULL THEN 'f' END AS kind
          FROM pg_catalog.pg_proc p
          LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
          LEFT JOIN pg_catalog.pg_depend d
            ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
         WHERE p.pronamespace NOT IN (SELECT n.oid FROM pg_catalog.pg_namespace n
                                       WHERE n.nspname IN ('pg_catalog', 'information_schema'))) f
 WHERE f.kind IS NOT NULL
UNION
SELECT 'o', o.oprname
  FROM pg_catalog.pg_operator o
 WHERE o.oprnamespace NOT IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pg_catalog')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.objid = o.oid
                      AND d.deptype = 'e')
""".strip()

# Types that users made, of whose values something is known. A base type is as text only if the server's own functions
# write it, in both formats: then nothing else can come from it than characters. Left out are composite types and arrays
# of them: nothing is known of these, and every table brings two, temporary ones, too, which would make a new catalogue
# each time. (Arrays of what has another delimiter than a comma are not read: left out.)
TYPES: Final = """
SELECT t.oid::pg_catalog.text,
       CASE WHEN t.typtype <> 'b' THEN t.typtype::pg_catalog.text
            WHEN t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc THEN 'a' ELSE 't' END,
       CASE WHEN t.typtype = 'd' THEN t.typbasetype
            WHEN t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc THEN t.typelem
            ELSE 0::pg_catalog.oid END::pg_catalog.text
  FROM pg_catalog.pg_type t
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
 WHERE t.oid >= {first}::pg_catalog.oid
   AND (t.typtype IN ('d', 'e', 'r', 'm')
        OR t.typtype = 'b' AND t.typdelim = ',' AND e.typtype <> 'c'
           AND t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc
           AND t.typsend = 'pg_catalog.array_send'::pg_catalog.regproc
        OR t.typtype = 'b' AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc p
                                  JOIN pg_catalog.pg_language l ON l.oid = p.prolang AND l.lanname = 'internal'
                                 WHERE p.oid = t.typoutput AND p.prosrc IN ('textout', 'varcharout', 'bpcharout')
                                    OR p.oid = t.typsend AND p.prosrc IN ('textsend', 'varcharsend', 'bpcharsend')) = 2)
 ORDER BY t.oid
 LIMIT {most}
""".strip().format(first=_FIRST_MADE, most=MAX_TYPES)

_RELATIONS: Final = """
WITH RECURSIVE seed(oid) AS (
  SELECT DISTINCT c.oid
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
     AND (pg_catalog.concat(n.nspname, '.', c.relname, '.', a.attname) = ANY ({columns})
          OR n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_temp_'
             AND a.attname::pg_catalog.text ~ ANY ({names}))
), edge(oid, beneath) AS (
  SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
  UNION SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits
  UNION SELECT w.ev_class, d.refobjid
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
   WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.ev_class <> d.refobjid AND w.ev_type = '1'
), reached(oid) AS (
  SELECT oid FROM seed UNION SELECT e.oid FROM reached r JOIN edge e ON e.beneath = r.oid
)
SELECT c.oid::pg_catalog.text, n.nspname, c.relname, c.relkind::pg_catalog.text, a.attnum::pg_catalog.text, a.attname,
       CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END,
       pg_catalog.array_to_string(ARRAY(SELECT i.inhparent::pg_catalog.text FROM pg_catalog.pg_inherits i
                                         WHERE i.inhrelid = c.oid ORDER BY 1), ' '),
       pg_catalog.array_to_string(ARRAY(SELECT DISTINCT e.beneath::pg_catalog.text FROM edge e
                                         WHERE e.oid = c.oid AND c.relkind IN ('v', 'm') ORDER BY 1), ' '),
       pg_catalog.current_schemas(true)::pg_catalog.text
  FROM reached r
  JOIN pg_catalog.pg_class c ON c.oid = r.oid AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 ORDER BY c.oid, a.attnum
""".strip()


def relations_query(masks: Sequence[Mask]) -> str:
    """The query for the relations that `masks` may touch. "" if no mask names columns (all only detect)."""
    columns = [column for mask in masks for column in mask.columns]
    patterns = [pattern for mask in masks for pattern in mask.names]
    if not columns and not patterns:
        return ""
    return _RELATIONS.replace("{columns}", texts(columns)).replace("{names}", texts([regex(p) for p in patterns]))


def texts(values: Sequence[str]) -> str:
    """An array of texts that reads the same under every setting: in hexadecimal digits."""
    items = (f"pg_catalog.convert_from(pg_catalog.decode('{value.encode().hex()}', 'hex'), 'UTF8')" for value in values)
    return f"ARRAY[{', '.join(items)}]::pg_catalog.text[]"


def regex(pattern: str) -> str:
    """A glob over a column's name (*, ?, […]) as a regular expression of PostgreSQL, in which case does not matter."""
    out = "(?i)^"
    index = 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            out += ".*"
        elif char == "?":
            out += "."
        elif char == "[" and (end := pattern.find("]", index + 1)) > 0:
            inside = pattern[index:end].replace("\\", "\\\\")
            out += "[" + ("^" + inside[1:] if inside.startswith("!") else inside) + "]"
            index = end + 1
        elif char.isalnum() or char == "_":
            out += char
        else:
            out += "\\" + char
    return out + "$"


class _Known:
    """A relation while the catalogue is built."""

    __slots__ = ("beneath", "columns", "definition", "first", "flow", "parents", "taints")

    def __init__(self, first: Column) -> None:
        self.first = first
        self.columns: list[Column] = []
        self.taints: list[Taint] = []
        self.parents = first.parents.split()
        self.beneath = first.beneath.split()

    def add(self, row: Column, taint: Taint) -> None:
        self.columns.append(row)
        self.taints.append(taint)

    def relation(self) -> Relation:
        return Relation(
            self.first.schema,
            self.first.name,
            int(self.first.oid),
            tuple(column.column for column in self.columns),
            tuple(int(column.number) for column in self.columns),
            tuple(self.taints),
            tuple(column.generated is None for column in self.columns),
        )


def build(
    masks: Sequence[Mask], rows: Iterable[Column], routines: Iterable[Routine], types: Iterable[Made] = ()
) -> Catalogue:
    """The Catalogue of a database from the rows of the queries. It needs no connection. Raises ValueError for rows that
    no server sends."""
    known: dict[str, _Known] = {}
    globs = [[re.compile(translate(pattern), re.IGNORECASE) for pattern in mask.names] for mask in masks]
    named: set[str] = set()
    search_path: tuple[str, ...] = ()
    for row in rows:
        search_path = array(row.search_path)
        relation = known.setdefault(row.oid, _Known(row))
        relation.add(row, Taint(masks_of(row, masks, globs, named), 0))
    propagate(known, search_path)
    functions = list(routines)
    missing = [column for mask in masks if mask.absent == "deny" for column in mask.columns if column not in named]
    return Catalogue(
        [each.relation() for each in known.values() if any(taint.all() for taint in each.taints)],
        own_functions=frozenset(each.name for each in functions if each.kind in ("f", "r")),
        row_functions=frozenset(each.name for each in functions if each.kind in ("r", "e")),
        own_operators=frozenset(each.name for each in functions if each.kind == "o"),
        missing=tuple(missing),
        types=made_types(types),
    )


def supposed(masks: Sequence[Mask]) -> Catalogue:
    """As much of a Catalogue as the masks tell by themselves: tables that have the columns which they name."""
    tables: dict[str, str] = {}
    rows = []
    for number, full in enumerate(sorted({column for mask in masks for column in mask.columns}), 1):
        table, _, column = full.rpartition(".")
        schema, _, name = table.partition(".")
        oid = tables.setdefault(table, str(number))
        rows.append(Column(oid, schema, name, "r", str(number), column, None, None, "", "", "{pg_catalog,public}"))
    return build(masks, rows, ())


def made_types(rows: Iterable[Made]) -> dict[int, tuple[str, int]]:
    """Of each type's oid the form, and the oid within it, or 0. Raises ValueError for what no server sends."""
    types: dict[int, tuple[str, int]] = {}
    for row in rows:
        oid, form, inner = oid_of(row.oid), row.form or "", oid_of(row.inner)
        if oid < _FIRST_MADE or oid in types or form not in _FORMS or (form in _AROUND_ONE) != (inner != 0):
            raise ValueError("a type that cannot be")
        types[oid] = (form, inner)
        if len(types) > MAX_TYPES:
            raise ValueError(f"more than the {MAX_TYPES} types that it was asked for")
    return types


def oid_of(text: str | None) -> int:
    if text is None or _OID.fullmatch(text) is None or int(text) > _LAST_OID:
        raise ValueError("an oid that is no number")
    return int(text)


def masks_of(row: Column, masks: Sequence[Mask], globs: list[list[re.Pattern[str]]], named: set[str]) -> int:
    """The masks that name this column."""
    full = f"{row.schema}.{row.name}.{row.column}"
    own = row.schema in ("pg_catalog", "information_schema", "pg_toast") or row.schema.startswith("pg_temp_")
    found = 0
    for index, mask in enumerate(masks):
        if full in mask.columns:
            named.add(full)
            found |= 1 << index
        elif not own and any(glob.match(row.column) for glob in globs[index]):
            found |= 1 << index
    return found


def propagate(known: dict[str, _Known], search_path: tuple[str, ...]) -> None:
    """Masks go on to children, parents, generated columns and views, until nothing changes."""
    for _ in range(MAX_ROUNDS):
        catalogue = Catalogue([each.relation() for each in known.values()])
        before = [list(each.taints) for each in known.values()]
        for each in known.values():
            inherit(each, known)
            generate(each, search_path)
            view(each, known, catalogue, search_path)
        if before == [each.taints for each in known.values()]:
            return
    for each in known.values():  # deeper than that: all of it
        each.taints = [Taint(taint.passed, catalogue.all_masks) for taint in each.taints]


def inherit(each: _Known, known: dict[str, _Known]) -> None:
    for oid in each.parents:
        parent = known.get(oid)
        if parent is None:
            continue
        places = {column.column: index for index, column in enumerate(parent.columns)}
        for index, column in enumerate(each.columns):
            other = places.get(column.column)
            if other is not None:
                both = union(each.taints[index], parent.taints[other])
                each.taints[index] = parent.taints[other] = both


def generate(each: _Known, search_path: tuple[str, ...]) -> None:
    for index, column in enumerate(each.columns):
        if column.generated is None:
            continue
        alone = Catalogue([each.relation()])
        table = f"{quoted(each.first.schema)}.{quoted(each.first.name)}"
        text = f"SELECT {column.generated} FROM {table}"  # noqa: S608 - it is read, and never run
        flow = flow_of(text, alone, search_path)
        masks = alone.all_masks if flow is None else bits(flow.passes | flow.expressions | flow.probes)
        each.taints[index] = union(each.taints[index], Taint(0, masks))


def view(each: _Known, known: dict[str, _Known], catalogue: Catalogue, search_path: tuple[str, ...]) -> None:
    if each.first.definition is None:
        return
    flow = flow_of(each.first.definition, catalogue, search_path)
    if flow is not None and flow.output is not None and len(flow.output) == len(each.columns):
        for index, output in enumerate(flow.output):
            taint = Taint(bits(output.passes), bits(output.expressions))
            each.taints[index] = union(each.taints[index], taint)
        return
    masks = 0
    for oid in each.beneath:
        for taint in known[oid].taints if oid in known else ():
            masks |= taint.all()
    if flow is not None:
        masks |= bits(flow.passes | flow.expressions)
    each.taints = [union(taint, Taint(0, masks)) for taint in each.taints]


def flow_of(text: str, catalogue: Catalogue, search_path: tuple[str, ...]) -> Flow | None:
    try:
        (flow,) = lineage(text, catalogue, search_path, may_differ=False)
    except (PeerError, ValueError):
        return None
    return flow


def bits(masks: frozenset[int]) -> int:
    return sum(1 << index for index in masks)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def array(text: str) -> tuple[str, ...]:
    """An array of names as text: {pg_catalog,public,"odd ""name"}."""
    items: list[str] = []
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"|([^,{}]+)', text):
        items.append(re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else match[2])
    return tuple(items)
