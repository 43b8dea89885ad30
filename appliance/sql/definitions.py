"""Statements that are no queries: what is done with each kind of node. See `appliance.sql.reading`."""

from __future__ import annotations

from typing import Final

from appliance.sql.dangers import ALL_OF_SETTINGS, ANY_SETTING, SETTINGS_VIEW
from appliance.sql.grammar import Node, constant_text, node_of, nodes_of, strings, text_of, unwrap
from appliance.sql.reading import Handler, Reading, Relation, Scope


def _range_var(reading: Reading, node: Node, scope: Scope) -> None:
    """In a place that nothing here knows."""
    relation = reading.relation(node)
    reading.reads.add(relation)
    reading.writes.add(relation)


def _written(reading: Reading, node: Node | None) -> Relation | None:
    if node is None:
        return None
    relation = reading.relation(node)
    reading.writes.add(relation)
    return relation


def _writes_field(kind: str, field: str) -> Handler:
    """A statement about the one relation in a field, which its expressions are about too."""

    def read(reading: Reading, node: Node, scope: Scope) -> None:
        relation = _written(reading, node_of(node, field))
        scope = Scope(scope)
        if relation is not None:
            scope.tables.append((relation.name, relation))
        reading.fields(kind, node, scope, field)

    return read


def _writes_list(kind: str, field: str) -> Handler:
    def read(reading: Reading, node: Node, scope: Scope) -> None:
        for item in nodes_of(node, field):
            _written(reading, unwrap(item)[1])
        reading.fields(kind, node, scope, field)

    return read


def _create_table(reading: Reading, node: Node, scope: Scope) -> None:
    relation = _written(reading, node_of(node, "relation"))
    scope = Scope(scope)
    if relation is not None:
        scope.tables.append((relation.name, relation))
    for item in nodes_of(node, "inhRelations"):
        _written(reading, unwrap(item)[1])
    reading.fields("CreateStmt", node, scope, "relation", "inhRelations")


def _like(reading: Reading, node: Node, scope: Scope) -> None:
    source = node_of(node, "relation")
    if source is not None:
        reading.reads.add(reading.relation(source))


def _constraint(reading: Reading, node: Node, scope: Scope) -> None:
    for name in strings([*nodes_of(node, "keys"), *nodes_of(node, "fk_attrs")]):
        reading.column(scope.only(), name)
    referenced = node_of(node, "pktable")
    if referenced is not None:
        relation = reading.relation(referenced)
        reading.reads.add(relation)
        for name in strings(nodes_of(node, "pk_attrs")):  # none: the primary key's
            reading.column(relation, name)
    reading.fields("Constraint", node, scope, "pktable", "keys", "fk_attrs", "pk_attrs")


def _into(reading: Reading, node: Node, scope: Scope) -> None:
    _written(reading, node_of(node, "rel"))


def _copy(reading: Reading, node: Node, scope: Scope) -> None:
    if "filename" in node:
        reading.marks.add("program" if node.get("is_program") else "file")
    scope = Scope(scope)
    source = node_of(node, "relation")
    if source is not None:
        relation = reading.relation(source)
        scope.tables.append((relation.name, relation))
        (reading.writes if node.get("is_from") else reading.reads).add(relation)
        for name in strings(nodes_of(node, "attlist")) or ["*"]:
            reading.column(relation, name)
    reading.fields("CopyStmt", node, scope, "relation", "query")


_TABLE_LIKE: Final = frozenset(
    ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE", "OBJECT_SEQUENCE", "OBJECT_INDEX")
)
_ON_TABLE: Final = frozenset(
    ("OBJECT_COLUMN", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY", "OBJECT_TABCONSTRAINT")
)


def _objects(reading: Reading, kind: str, wrapped: list[Node]) -> None:
    """Names of objects: those of relations, or of what belongs to one, are written."""
    for item in wrapped:
        item_kind, node = unwrap(item)
        if item_kind == "RangeVar":
            _written(reading, node)
            continue
        names = strings(nodes_of(node, "items"))
        if kind in _TABLE_LIKE and names:
            reading.writes.add(reading.relation_named(names))
        elif kind in _ON_TABLE and len(names) > 1:
            relation = reading.relation_named(names[:-1])
            reading.writes.add(relation)
            if kind == "OBJECT_COLUMN":
                reading.column(relation, names[-1])


def _drop(reading: Reading, node: Node, scope: Scope) -> None:
    _objects(reading, text_of(node, "removeType"), nodes_of(node, "objects"))


def _comment(reading: Reading, node: Node, scope: Scope) -> None:
    thing = node_of(node, "object")
    _objects(reading, text_of(node, "objtype"), [thing] if thing is not None else [])


def _altered(kind: str, field: str) -> Handler:
    """OWNER TO, DEPENDS ON; RENAME and SET SCHEMA, by which a relation and its columns have other names."""

    def read(reading: Reading, node: Node, scope: Scope) -> None:
        relation = _written(reading, node_of(node, "relation"))
        what = text_of(node, field)
        name, schema = text_of(node, "newname"), text_of(node, "newschema")
        if name == SETTINGS_VIEW:
            reading.marks |= ANY_SETTING
        if name and what == "OBJECT_SCHEMA":
            reading.marks.add("all-in-schema")  # each relation in it has another name then
        if relation is not None and what == "OBJECT_COLUMN":
            reading.column(relation, text_of(node, "subname"))
        elif relation is not None and what in _TABLE_LIKE and (name or schema):
            reading.column(relation, "*")
            reading.named(name, schema)
            reading.writes.add(Relation(schema or relation.schema, name or relation.name))
        thing = node_of(node, "object")
        _objects(reading, what, [thing] if thing is not None else [])

    return read


def _behaves(reading: Reading, node: Node) -> None:
    """CASCADE, in a part of a statement."""
    if text_of(node, "behavior") == "DROP_CASCADE":
        reading.marks.add("cascade")


def _grant(reading: Reading, node: Node, scope: Scope) -> None:
    kind = text_of(node, "objtype")
    _behaves(reading, node)  # within ALTER DEFAULT PRIVILEGES
    if text_of(node, "targtype") != "ACL_TARGET_OBJECT":
        reading.marks.add("all-in-schema")
        return
    named = [unwrap(item) for item in nodes_of(node, "objects")]
    relations = [reading.relation(thing) for item, thing in named if item == "RangeVar"]
    if kind in ("OBJECT_TABLE", "OBJECT_SEQUENCE"):
        reading.writes.update(relations)
    for item in nodes_of(node, "privileges"):
        for name in strings(nodes_of(unwrap(item)[1], "cols")):
            for relation in relations:
                reading.column(relation, name)


def _grant_role(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("membership")


_OF_COLUMNS: Final = """AT_ColumnDefault AT_DropNotNull AT_SetNotNull AT_SetExpression AT_DropExpression
    AT_SetStatistics AT_SetOptions AT_ResetOptions AT_SetStorage AT_SetCompression AT_DropColumn AT_AlterColumnType
    AT_AlterColumnGenericOptions AT_AddIdentity AT_SetIdentity AT_DropIdentity"""
_OF_A_COLUMN: Final = frozenset(_OF_COLUMNS.split())


def _alter_table_cmd(reading: Reading, node: Node, scope: Scope) -> None:
    command, altered = text_of(node, "subtype"), scope.only()
    _behaves(reading, node)
    if command in _OF_A_COLUMN and "name" in node:  # without: a column of an index, by its number
        reading.column(altered, text_of(node, "name"))
    if command in ("AT_GenericOptions", "AT_AlterColumnGenericOptions"):
        reading.marks.add("remote")  # which table, of another server, it stands for
    if command in ("AT_AddInherit", "AT_DropInherit"):
        reading.column(altered, "*")  # the other table shows them
        _written(reading, unwrap(node_of(node, "def"))[1])
        return
    reading.fields("AlterTableCmd", node, scope)


def _partition_cmd(reading: Reading, node: Node, scope: Scope) -> None:
    partition = _written(reading, node_of(node, "name"))
    reading.column(partition, "*")  # the table that it is a part of shows them
    reading.fields("PartitionCmd", node, scope, "name")


def _trigger(reading: Reading, node: Node, scope: Scope) -> None:
    relation = _written(reading, node_of(node, "relation"))
    scope = Scope(scope)
    scope.tables += [("old", relation), ("new", relation)]
    for name in strings(nodes_of(node, "columns")):
        reading.column(relation, name)
    reading.called(strings(nodes_of(node, "funcname")))
    referenced = node_of(node, "constrrel")
    if referenced is not None:
        reading.reads.add(reading.relation(referenced))
    reading.later(node.get("whenClause"), scope)


def _event_trigger(reading: Reading, node: Node, scope: Scope) -> None:
    reading.called(strings(nodes_of(node, "funcname")))


def _rule(reading: Reading, node: Node, scope: Scope) -> None:
    relation = _written(reading, node_of(node, "relation"))
    scope = Scope(scope)
    scope.tables += [("old", relation), ("new", relation)]
    reading.later(node.get("whereClause"), scope)


def _publication_table(reading: Reading, node: Node, scope: Scope) -> None:
    published = node_of(node, "relation")
    scope = Scope(scope)
    if published is not None:
        relation = reading.relation(published)
        reading.reads.add(relation)
        scope.tables.append((relation.name, relation))
        for name in strings(nodes_of(node, "columns")) or ["*"]:
            reading.column(relation, name)
    reading.later(node.get("whereClause"), scope)


def _published(reading: Reading, node: Node, scope: Scope) -> None:
    if text_of(node, "pubobjtype") != "PUBLICATIONOBJ_TABLE":
        reading.marks.add("all-in-schema")
    reading.fields("PublicationObjSpec", node, scope)


def _vacuum_relation(reading: Reading, node: Node, scope: Scope) -> None:
    relation = _written(reading, node_of(node, "relation"))
    for name in strings(nodes_of(node, "va_cols")):
        reading.column(relation, name)


def _statistics(reading: Reading, node: Node, scope: Scope) -> None:
    scope = Scope(scope)
    for item in nodes_of(node, "relations"):
        relation = _written(reading, unwrap(item)[1])
        if relation is not None:
            scope.tables.append((relation.name, relation))
    reading.later(node.get("exprs"), scope)


def _view(reading: Reading, node: Node, scope: Scope) -> None:
    _written(reading, node_of(node, "view"))


def _create_function(reading: Reading, node: Node, scope: Scope) -> None:
    for item in nodes_of(node, "options"):
        _, option = unwrap(item)
        kind, value = unwrap(node_of(option, "arg"))
        match text_of(option, "defname"):
            case "as":
                reading.marks.add("dynamic")  # a body that is read when it runs
            case "language" if text_of(value, "sval").lower() in ("c", "internal"):
                reading.marks.add("file")
            case "set":
                reading.push(kind, value, scope)
    for item in nodes_of(node, "parameters"):
        reading.later(item, scope)


def _do(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("dynamic")


# Options of CREATE OPERATOR, AGGREGATE, TYPE, … that name a function, which is then called where no statement says so
_OPTIONS: Final = """function procedure restrict join sfunc sfunc1 finalfunc combinefunc serialfunc deserialfunc msfunc
    minvfunc mfinalfunc input output receive send typmod_in typmod_out analyze subscript canonical subtype_diff start
    gettoken end headline lextypes init lexize handler validator support"""
_FUNCTION_OPTIONS: Final = frozenset(_OPTIONS.split())
_OPCLASS_FUNCTION: Final = 2  # OPCLASS_ITEM_FUNCTION


def _defined_by(kind: str, field: str) -> Handler:
    """Options, some of which name functions."""

    def read(reading: Reading, node: Node, scope: Scope) -> None:
        for item in nodes_of(node, field):
            _, option = unwrap(item)
            if text_of(option, "defname").lower() in _FUNCTION_OPTIONS:
                reading.called(_dotted(*unwrap(node_of(option, "arg"))))
        reading.fields(kind, node, scope)

    return read


def _calls(kind: str, *fields: str) -> Handler:
    """A statement with names of functions in these fields."""

    def read(reading: Reading, node: Node, scope: Scope) -> None:
        for field in fields:
            named = node_of(node, field)
            reading.called(_dotted("ObjectWithArgs", named) if named else strings(nodes_of(node, field)))
        reading.fields(kind, node, scope)

    return read


def _op_class_item(reading: Reading, node: Node, scope: Scope) -> None:
    if node.get("itemtype") == _OPCLASS_FUNCTION:
        reading.called(_dotted("ObjectWithArgs", node_of(node, "name") or {}))
    reading.fields("CreateOpClassItem", node, scope)


def _dotted(kind: str, node: Node) -> list[str]:
    """A name, in whichever form the grammar has it."""
    if kind == "String":
        return [text_of(node, "sval")]
    field = {"TypeName": "names", "List": "items", "ObjectWithArgs": "objname"}.get(kind, "")
    return strings(nodes_of(node, field))


def _set(reading: Reading, node: Node, scope: Scope) -> None:
    name = text_of(node, "name")
    match text_of(node, "kind"):
        case "VAR_RESET_ALL":  # role and session_authorization stay (GUC_NO_RESET_ALL)
            reading.marks |= ALL_OF_SETTINGS - {"role"}
        case "VAR_SET_MULTI":
            reading.marks.add("set-transaction")
        case "VAR_SET_VALUE":
            arguments = nodes_of(node, "args")
            reading.setting(name, constant_text(arguments[0]) if len(arguments) == 1 else None)
        case _:
            reading.setting(name)


def _role(reading: Reading, node: Node, scope: Scope) -> None:
    for option in nodes_of(node, "options"):
        name = text_of(unwrap(option)[1], "defname")
        if name == "password":
            reading.marks.add("password")
        elif name in ("addroleto", "rolemembers", "adminmembers"):  # IN ROLE, ROLE, ADMIN; ALTER GROUP … ADD USER
            reading.marks.add("membership")


def _discard(reading: Reading, node: Node, scope: Scope) -> None:
    if text_of(node, "target") == "DISCARD_ALL":
        reading.marks |= ALL_OF_SETTINGS


def _create_schema(reading: Reading, node: Node, scope: Scope) -> None:
    if nodes_of(node, "schemaElts"):
        reading.marks.add("search-path")  # what stands in it is made with the new schema before the path


def _contents(reading: Reading, node: Node, scope: Scope) -> None:
    thing = node_of(node, "object")
    _objects(reading, text_of(node, "objtype"), [thing] if thing is not None else [])


def _import(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("remote")
    if text_of(node, "list_type") != "FDW_IMPORT_SCHEMA_LIMIT_TO":
        reading.marks.add("all-in-schema")
        return
    for item in nodes_of(node, "table_list"):
        _, table = unwrap(item)
        reading.writes.add(reading.relation_named([text_of(node, "local_schema"), text_of(table, "relname")]))


def _remote(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("remote")


def _foreign_table(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("remote")
    reading.fields("CreateForeignTableStmt", node, scope)


def _load(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("file")


def _notify(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("notify")


def _declare(reading: Reading, node: Node, scope: Scope) -> None:
    options = node.get("options")
    if isinstance(options, int) and options & 1:  # CURSOR_OPT_BINARY
        reading.marks.add("binary")


def _explain(reading: Reading, node: Node, scope: Scope) -> None:
    reading.marks.add("explain")
    analyzes = False  # the last of several counts
    for item in nodes_of(node, "options"):
        _, option = unwrap(item)
        if text_of(option, "defname") == "analyze":
            analyzes = _is_true(unwrap(node_of(option, "arg")))
    if analyzes:
        reading.marks.add("explain-analyze")


def _is_true(argument: tuple[str, Node]) -> bool:
    """An option's value as defGetBoolean reads it; what it does not read is an error there, and true here."""
    kind, node = argument
    if kind == "Integer":
        return node.get("ival", 0) != 0
    if kind == "Boolean":
        return bool(node.get("boolval"))
    return text_of(node, "sval").lower() not in ("false", "off")


def _actions(reading: Reading, node: Node, scope: Scope) -> None:
    reading.later(node.get("actions"), scope)


def _nothing(reading: Reading, node: Node, scope: Scope) -> None:
    """Its statement is read by itself."""


def _create_table_as(reading: Reading, node: Node, scope: Scope) -> None:
    reading.fields("CreateTableAsStmt", node, scope, "query")


DEFINITIONS: Final[dict[str, Handler]] = {
    "AlterObjectDependsStmt": _altered("AlterObjectDependsStmt", "objectType"),
    "AlterObjectSchemaStmt": _altered("AlterObjectSchemaStmt", "objectType"),
    "AlterOwnerStmt": _altered("AlterOwnerStmt", "objectType"),
    "AlterPolicyStmt": _writes_field("AlterPolicyStmt", "table"),
    "AlterSeqStmt": _writes_field("AlterSeqStmt", "sequence"),
    "AlterTableCmd": _alter_table_cmd,
    "AlterTableStmt": _writes_field("AlterTableStmt", "relation"),
    "ClusterStmt": _writes_field("ClusterStmt", "relation"),
    "CommentStmt": _comment,
    "CompositeTypeStmt": _writes_field("CompositeTypeStmt", "typevar"),
    "Constraint": _constraint,
    "CopyStmt": _copy,
    "CreateEventTrigStmt": _event_trigger,
    "CreateFunctionStmt": _create_function,
    "CreatePolicyStmt": _writes_field("CreatePolicyStmt", "table"),
    "CreateSchemaStmt": _create_schema,
    "CreateSeqStmt": _writes_field("CreateSeqStmt", "sequence"),
    "CreateStatsStmt": _statistics,
    "CreateStmt": _create_table,
    "CreateTrigStmt": _trigger,
    "DeclareCursorStmt": _declare,
    "DiscardStmt": _discard,
    "DoStmt": _do,
    "DropStmt": _drop,
    "ExplainStmt": _explain,
    "GrantRoleStmt": _grant_role,
    "GrantStmt": _grant,
    "IndexStmt": _writes_field("IndexStmt", "relation"),
    "IntoClause": _into,
    "LoadStmt": _load,
    "LockStmt": _writes_list("LockStmt", "relations"),
    "NotifyStmt": _notify,
    "PartitionCmd": _partition_cmd,
    "PublicationObjSpec": _published,
    "PublicationTable": _publication_table,
    "RangeVar": _range_var,
    "RefreshMatViewStmt": _writes_field("RefreshMatViewStmt", "relation"),
    "ReindexStmt": _writes_field("ReindexStmt", "relation"),
    "RenameStmt": _altered("RenameStmt", "renameType"),
    "RuleStmt": _rule,
    "SecLabelStmt": _comment,
    "TableLikeClause": _like,
    "TruncateStmt": _writes_list("TruncateStmt", "relations"),
    "VacuumRelation": _vacuum_relation,
    "VariableSetStmt": _set,
    "ViewStmt": _view,
    "AlterExtensionContentsStmt": _contents,
    "AlterForeignServerStmt": _remote,
    "AlterFunctionStmt": _actions,
    "AlterRoleStmt": _role,
    "CreateRoleStmt": _role,
    "AlterSubscriptionStmt": _remote,
    "AlterUserMappingStmt": _remote,
    "CreateForeignServerStmt": _remote,
    "CreateForeignTableStmt": _foreign_table,
    "CreateSubscriptionStmt": _remote,
    "CreateUserMappingStmt": _remote,
    "ImportForeignSchemaStmt": _import,
    "AlterOperatorStmt": _defined_by("AlterOperatorStmt", "options"),
    "AlterTypeStmt": _defined_by("AlterTypeStmt", "options"),
    "CreateAmStmt": _calls("CreateAmStmt", "handler_name"),
    "CreateCastStmt": _calls("CreateCastStmt", "func"),
    "CreateConversionStmt": _calls("CreateConversionStmt", "func_name"),
    "CreateFdwStmt": _defined_by("CreateFdwStmt", "func_options"),
    "CreateOpClassItem": _op_class_item,
    "CreatePLangStmt": _calls("CreatePLangStmt", "plhandler", "plinline", "plvalidator"),
    "CreateRangeStmt": _defined_by("CreateRangeStmt", "params"),
    "CreateTransformStmt": _calls("CreateTransformStmt", "fromsql", "tosql"),
    "DefineStmt": _defined_by("DefineStmt", "definition"),
    "CreateTableAsStmt": _create_table_as,
    "PrepareStmt": _nothing,
}
