"""Statements that define, change and manage: which of them could carry a masked column away or unmask it.

A mask names its columns, so that a column, a table or a schema that is renamed, moved, detached or retyped would lose
it when the catalogue is read anew: whatever changes a masked relation counts as a write of all that is masked in it.
What makes something that runs later, unseen, (functions, triggers, rules, casts, operators, …) is opaque, as is every
statement that is not in these tables. So is ALTER DOMAIN, which holds a new constraint against the values in every
table; what says where the rows of a foreign table come from: from a masked one, maybe; and what changes a composite
type, and the tables of it.
"""

from __future__ import annotations

from typing import Final

from postgast import pg_query_pb2 as pb

from appliance.lineage.builtins import QUIET_FUNCTIONS, names
from appliance.lineage.changes import Changes
from appliance.lineage.expressions import kind_of, text_of
from appliance.lineage.scopes import Item, Scope

# They hold no expression, and carry nothing anywhere.
HARMLESS: Final = names(
    """
    alter_default_privileges_stmt alter_enum_stmt alter_owner_stmt alter_role_stmt alter_seq_stmt check_point_stmt
    close_portal_stmt comment_stmt composite_type_stmt constraints_set_stmt create_enum_stmt create_role_stmt
    create_seq_stmt createdb_stmt deallocate_stmt discard_stmt drop_owned_stmt drop_role_stmt drop_stmt dropdb_stmt
    grant_role_stmt grant_stmt listen_stmt lock_stmt notify_stmt reassign_owned_stmt refresh_mat_view_stmt reindex_stmt
    sec_label_stmt transaction_stmt truncate_stmt unlisten_stmt vacuum_stmt variable_set_stmt variable_show_stmt
    """
)
# They are read through: whatever masked relation they name, they change.
CHANGES: Final = names(
    """
    alter_object_schema_stmt alter_table_move_all_stmt alter_table_stmt cluster_stmt create_domain_stmt
    create_schema_stmt create_stats_stmt create_stmt index_stmt rename_stmt
    """
)
# Of what RENAME and SET SCHEMA can be asked for; of a function or an operator they are opaque.
RELATION_KINDS: Final = frozenset(
    (
        pb.OBJECT_COLUMN, pb.OBJECT_FOREIGN_TABLE, pb.OBJECT_INDEX, pb.OBJECT_MATVIEW, pb.OBJECT_SCHEMA,
        pb.OBJECT_SEQUENCE, pb.OBJECT_TABCONSTRAINT, pb.OBJECT_TABLE, pb.OBJECT_VIEW,
    )
)  # fmt: skip
SOURCES: Final = frozenset((pb.AT_GenericOptions, pb.AT_AlterColumnGenericOptions))  # of a foreign table's rows
READ: Final = frozenset(("a_expr", "column_ref", "func_call", "select_stmt", "sub_link", "type_cast", "a_indirection"))


def words(kind: str) -> str:
    """create_function_stmt -> CREATE FUNCTION"""
    return kind.removesuffix("_stmt").replace("_", " ").upper()


class Definitions(Changes):
    """Adds what has no result."""

    __slots__ = ()

    def define(self, kind: str, node: pb.Node) -> None:
        if kind in ("create_domain_stmt", "create_enum_stmt"):
            name = text_of(node.domainname if kind == "create_domain_stmt" else node.type_name)
            if name and name[-1] in QUIET_FUNCTIONS:  # lower(email) may be a cast to it then
                self.unseen(words(kind))
        if kind in HARMLESS:
            return
        if kind not in CHANGES:
            self.unseen(words(kind))
            return
        if kind in ("rename_stmt", "alter_object_schema_stmt"):
            what = node.rename_type if kind == "rename_stmt" else node.object_type
            if what not in RELATION_KINDS:
                self.unseen(words(kind))
            if what == pb.OBJECT_SCHEMA:
                self.keep(self.catalogue.masks_of_schema(node.subname))
        if kind == "create_schema_stmt":
            for each in node.schema_elts:
                inner, statement = kind_of(each)
                if inner == "view_stmt":
                    self.keep(self.query(statement.query, Scope([], {}, None)).masks())
                else:
                    self.define(inner, statement)
            return
        if kind == "alter_table_stmt" and (
            node.objtype == pb.OBJECT_TYPE or any(each.alter_table_cmd.subtype in SOURCES for each in node.cmds)
        ):
            self.unseen(words(kind))
        scope = Scope([], {}, None)
        if kind in ("alter_table_stmt", "index_stmt"):
            scope.items.append(Item(node.relation.relname, self.table(node.relation), qualified=True))
        if kind == "create_stats_stmt":
            for each in node.relations:
                scope.items.append(Item(each.range_var.relname, self.table(each.range_var), qualified=True))
        self.through(node, scope, new=kind in ("create_stmt", "index_stmt"))

    def through(self, node: pb.Node, scope: Scope, *, new: bool = False) -> None:
        """Every message in a definition: relations are changed, expressions are kept and so written.

        `new`: the field `relation` is what is made, or what an index is made on, and not changed."""
        self.step()
        for field, value in node.ListFields():
            if field.message_type is None or (new and field.name == "relation"):
                continue
            for each in value if field.is_repeated else (value,):
                kind, inner = kind_of(each)
                if kind == "constraint" and inner.HasField("pktable"):
                    self.reference(inner)
                if kind == "range_var":
                    if field.name != "pktable":
                        self.keep(self.table(inner).masks())
                elif kind == "table_like_clause":
                    continue  # its columns, not its rows
                elif kind == "index_elem" and inner.name:
                    self.compare(self.index_element(inner, scope))
                elif kind in READ:
                    self.keep(self.masks(each, scope))
                else:
                    self.through(inner, scope, new=new and kind == "create_stmt")

    def reference(self, node: pb.Constraint) -> None:
        """A foreign key tells whether a value is there; ON UPDATE CASCADE brings the next one that takes its place.
        Without names it is one to the primary key, which we do not know."""
        columns = self.table(node.pktable)
        given = text_of(node.pk_attrs)
        for masks in [columns.find(name)[0].all() for name in given] or [columns.masks()]:
            self.compare(masks)
            if node.fk_upd_action == "c":
                self.keep(masks)
