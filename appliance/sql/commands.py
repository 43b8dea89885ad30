"""The command of each kind of statement, by the grammar's name of it."""

from __future__ import annotations

from typing import Final

from appliance.sql.grammar import Node, node_of, nodes_of, strings, text_of

OTHER: Final = "other"

# Statements whose command is always the same.
COMMANDS: Final[dict[str, str]] = {
    "AlterCollationStmt": "alter-collation",
    "AlterDatabaseRefreshCollStmt": "alter-database",
    "AlterDatabaseSetStmt": "alter-database",
    "AlterDatabaseStmt": "alter-database",
    "AlterDefaultPrivilegesStmt": "alter-default-privileges",
    "AlterDomainStmt": "alter-domain",
    "AlterEnumStmt": "alter-type",
    "AlterEventTrigStmt": "alter-event-trigger",
    "AlterExtensionContentsStmt": "alter-extension",
    "AlterExtensionStmt": "alter-extension",
    "AlterFdwStmt": "alter-foreign-data-wrapper",
    "AlterForeignServerStmt": "alter-server",
    "AlterOpFamilyStmt": "alter-operator-family",
    "AlterOperatorStmt": "alter-operator",
    "AlterPolicyStmt": "alter-policy",
    "AlterPublicationStmt": "alter-publication",
    "AlterRoleSetStmt": "alter-role",
    "AlterRoleStmt": "alter-role",
    "AlterSeqStmt": "alter-sequence",
    "AlterStatsStmt": "alter-statistics",
    "AlterSubscriptionStmt": "alter-subscription",
    "AlterSystemStmt": "alter-system",
    "AlterTSConfigurationStmt": "alter-text-search-configuration",
    "AlterTSDictionaryStmt": "alter-text-search-dictionary",
    "AlterTableMoveAllStmt": "alter-tablespace",
    "AlterTableSpaceOptionsStmt": "alter-tablespace",
    "AlterTypeStmt": "alter-type",
    "AlterUserMappingStmt": "alter-user-mapping",
    "CallStmt": "call",
    "CheckPointStmt": "checkpoint",
    "ClosePortalStmt": "close",
    "ClusterStmt": "cluster",
    "CommentStmt": "comment",
    "CompositeTypeStmt": "create-type",
    "ConstraintsSetStmt": "set-constraints",
    "CreateAmStmt": "create-access-method",
    "CreateCastStmt": "create-cast",
    "CreateConversionStmt": "create-conversion",
    "CreateDomainStmt": "create-domain",
    "CreateEnumStmt": "create-type",
    "CreateEventTrigStmt": "create-event-trigger",
    "CreateExtensionStmt": "create-extension",
    "CreateFdwStmt": "create-foreign-data-wrapper",
    "CreateForeignServerStmt": "create-server",
    "CreateForeignTableStmt": "create-foreign-table",
    "CreateOpClassStmt": "create-operator-class",
    "CreateOpFamilyStmt": "create-operator-family",
    "CreatePLangStmt": "create-language",
    "CreatePolicyStmt": "create-policy",
    "CreatePublicationStmt": "create-publication",
    "CreateRangeStmt": "create-type",
    "CreateRoleStmt": "create-role",
    "CreateSchemaStmt": "create-schema",
    "CreateSeqStmt": "create-sequence",
    "CreateStatsStmt": "create-statistics",
    "CreateStmt": "create-table",
    "CreateSubscriptionStmt": "create-subscription",
    "CreateTableSpaceStmt": "create-tablespace",
    "CreateTransformStmt": "create-transform",
    "CreateTrigStmt": "create-trigger",
    "CreateUserMappingStmt": "create-user-mapping",
    "CreatedbStmt": "create-database",
    "DeallocateStmt": "deallocate",
    "DeclareCursorStmt": "declare",
    "DeleteStmt": "delete",
    "DiscardStmt": "discard",
    "DoStmt": "do",
    "DropOwnedStmt": "drop-owned",
    "DropRoleStmt": "drop-role",
    "DropSubscriptionStmt": "drop-subscription",
    "DropTableSpaceStmt": "drop-tablespace",
    "DropUserMappingStmt": "drop-user-mapping",
    "DropdbStmt": "drop-database",
    "ExecuteStmt": "execute",
    "ExplainStmt": "explain",
    "ImportForeignSchemaStmt": "import-foreign-schema",
    "IndexStmt": "create-index",
    "InsertStmt": "insert",
    "ListenStmt": "listen",
    "LoadStmt": "load",
    "LockStmt": "lock",
    "MergeStmt": "merge",
    "NotifyStmt": "notify",
    "PrepareStmt": "prepare",
    "ReassignOwnedStmt": "reassign-owned",
    "RefreshMatViewStmt": "refresh-materialized-view",
    "ReindexStmt": "reindex",
    "ReturnStmt": "return",
    "RuleStmt": "create-rule",
    "SecLabelStmt": "security-label",
    "TruncateStmt": "truncate",
    "UnlistenStmt": "unlisten",
    "UpdateStmt": "update",
    "VariableShowStmt": "show",
    "ViewStmt": "create-view",
}

# ALTER, DROP and CREATE of a kind of object that a field names.
BY_OBJECT: Final[dict[str, tuple[str, str]]] = {
    "AlterFunctionStmt": ("alter", "objtype"),
    "AlterObjectDependsStmt": ("alter", "objectType"),
    "AlterObjectSchemaStmt": ("alter", "objectType"),
    "AlterOwnerStmt": ("alter", "objectType"),
    "AlterTableStmt": ("alter", "objtype"),
    "DefineStmt": ("create", "kind"),
    "DropStmt": ("drop", "removeType"),
    "RenameStmt": ("alter", "renameType"),
}

_OBJECTS: Final[dict[str, str]] = {
    "OBJECT_AMOP": "operator-family",
    "OBJECT_AMPROC": "operator-family",
    "OBJECT_ATTRIBUTE": "type",
    "OBJECT_COLUMN": "table",
    "OBJECT_DOMCONSTRAINT": "domain",
    "OBJECT_FDW": "foreign-data-wrapper",
    "OBJECT_FOREIGN_SERVER": "server",
    "OBJECT_LARGEOBJECT": "large-object",
    "OBJECT_MATVIEW": "materialized-view",
    "OBJECT_OPCLASS": "operator-class",
    "OBJECT_OPFAMILY": "operator-family",
    "OBJECT_STATISTIC_EXT": "statistics",
    "OBJECT_TABCONSTRAINT": "table",
    "OBJECT_TSCONFIGURATION": "text-search-configuration",
    "OBJECT_TSDICTIONARY": "text-search-dictionary",
    "OBJECT_TSPARSER": "text-search-parser",
    "OBJECT_TSTEMPLATE": "text-search-template",
}

_TRANSACTIONS: Final[dict[str, str]] = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
    "TRANS_STMT_SAVEPOINT": "savepoint",
    "TRANS_STMT_RELEASE": "release",
    "TRANS_STMT_ROLLBACK_TO": "rollback-to",
    "TRANS_STMT_PREPARE": "prepare-transaction",
    "TRANS_STMT_COMMIT_PREPARED": "commit-prepared",
    "TRANS_STMT_ROLLBACK_PREPARED": "rollback-prepared",
}

# Where the name of what a statement is about stands, for those that name one thing that is no relation.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "AlterDatabaseRefreshCollStmt": ("dbname",),
    "AlterDatabaseSetStmt": ("dbname",),
    "AlterDatabaseStmt": ("dbname",),
    "AlterExtensionContentsStmt": ("extname",),
    "AlterExtensionStmt": ("extname",),
    "AlterForeignServerStmt": ("servername",),
    "AlterPublicationStmt": ("pubname",),
    "AlterSubscriptionStmt": ("subname",),
    "ClosePortalStmt": ("portalname",),
    "CreateExtensionStmt": ("extname",),
    "CreateForeignServerStmt": ("servername",),
    "CreatePublicationStmt": ("pubname",),
    "CreateRoleStmt": ("role",),
    "CreateSchemaStmt": ("schemaname",),
    "CreateSubscriptionStmt": ("subname",),
    "CreateTableSpaceStmt": ("tablespacename",),
    "CreatedbStmt": ("dbname",),
    "DeallocateStmt": ("name",),
    "DeclareCursorStmt": ("portalname",),
    "DropSubscriptionStmt": ("subname",),
    "DropTableSpaceStmt": ("tablespacename",),
    "DropdbStmt": ("dbname",),
    "ExecuteStmt": ("name",),
    "FetchStmt": ("portalname",),
    "ImportForeignSchemaStmt": ("server_name",),
    "ListenStmt": ("conditionname",),
    "LoadStmt": ("filename",),
    "NotifyStmt": ("conditionname",),
    "PrepareStmt": ("name",),
    "TransactionStmt": ("savepoint_name", "gid"),
    "UnlistenStmt": ("conditionname",),
    "VariableSetStmt": ("name",),
    "VariableShowStmt": ("name",),
}


def object_word(kind: str) -> str:
    """OBJECT_ACCESS_METHOD: "access-method"."""
    return _OBJECTS.get(kind) or kind.removeprefix("OBJECT_").lower().replace("_", "-")


def command_of(kind: str, node: Node) -> str:
    """The command of a statement; "other" for what the table does not know."""
    command = COMMANDS.get(kind)
    if command is not None:
        return command
    by_object = BY_OBJECT.get(kind)
    if by_object is not None:
        return f"{by_object[0]}-{object_word(text_of(node, by_object[1]))}"
    match kind:
        case "SelectStmt":
            return "select-into" if _selects_into(node) else "select"
        case "VariableSetStmt":
            return "reset" if text_of(node, "kind") in ("VAR_RESET", "VAR_RESET_ALL") else "set"
        case "TransactionStmt":
            return _TRANSACTIONS.get(text_of(node, "kind"), OTHER)
        case "CopyStmt":
            return _copy(node)
        case "FetchStmt":
            return "move" if node.get("ismove") else "fetch"
        case "GrantStmt" | "GrantRoleStmt":
            return "grant" if node.get("is_grant") else "revoke"
        case "VacuumStmt":
            return "vacuum" if node.get("is_vacuumcmd") else "analyze"
        case "CreateFunctionStmt":
            return "create-procedure" if node.get("is_procedure") else "create-function"
        case "CreateTableAsStmt":
            view = text_of(node, "objtype") == "OBJECT_MATVIEW"
            return "create-materialized-view" if view else "create-table-as"
    return OTHER


def name_of(kind: str, node: Node) -> str:
    """The name of what the statement is about; "" where it has none."""
    for field in _NAMES.get(kind, ()):
        name = text_of(node, field)
        if name:
            return name.lower() if kind in ("VariableSetStmt", "VariableShowStmt") else name
    if kind == "CreateFunctionStmt":
        return ".".join(strings(nodes_of(node, "funcname")))
    role = node_of(node, "role")
    return text_of(role, "rolename") if role is not None else ""


def is_all(kind: str, node: Node) -> bool:
    """Whether the statement is about all that there is: RESET ALL, UNLISTEN *, VACUUM of no table, …"""
    match kind:
        case "DeallocateStmt":
            return bool(node.get("isall"))
        case "ClosePortalStmt":
            return "portalname" not in node
        case "UnlistenStmt":
            return "conditionname" not in node
        case "VariableSetStmt":
            return text_of(node, "kind") == "VAR_RESET_ALL"
        case "VariableShowStmt":
            return text_of(node, "name").lower() == "all"
        case "VacuumStmt":
            return not nodes_of(node, "rels")
        case "ClusterStmt" | "ReindexStmt":
            return node_of(node, "relation") is None
        case "DiscardStmt":
            return text_of(node, "target") == "DISCARD_ALL"
        case "CreatePublicationStmt" | "AlterPublicationStmt":
            return bool(node.get("for_all_tables"))
    return kind in ("AlterTableMoveAllStmt", "DropOwnedStmt", "ReassignOwnedStmt")


def _selects_into(node: Node) -> bool:
    left: Node | None = node  # of set operations, the first SELECT may have the INTO
    while left is not None:
        if node_of(left, "intoClause") is not None:
            return True
        left = node_of(left, "larg")
    return False


def _copy(node: Node) -> str:
    if node.get("is_program"):
        return "copy-program"
    if "filename" in node:  # '' is a file too
        return "copy-file"
    return "copy-in" if node.get("is_from") else "copy-out"
