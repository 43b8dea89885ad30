"""What is known by name: functions that do more than compute, settings that change how texts are read, operators.

A function is known by its last name in whatever schema it stands: who defines `public.dblink` is taken at their word.
"""

from __future__ import annotations

from typing import Final

# Functions, by name; PostgreSQL documentation, "Functions and Operators", and the contrib modules of the same names.
_FUNCTIONS: Final[dict[str, str]] = {
    # run a text as SQL, or read relations that are named by a string
    "dynamic": """query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema
        table_to_xml table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema
        schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema database_to_xml_and_xmlschema ts_stat
        ts_rewrite crosstab crosstab2 crosstab3 crosstab4 crosstabn connectby xpath_table plpgsql_inline_handler
        plperl_inline_handler plpython3_inline_handler heap_page_items tuple_data_split get_raw_page
        heap_page_item_attrs bt_page_items currtid currtid2 pg_get_publication_tables""",
    # the server's files
    "file": """pg_read_file pg_read_binary_file pg_read_file_old pg_stat_file lo_import lo_export be_lo_import
        be_lo_export pg_logdir_ls pg_rotate_logfile_old pg_current_logfile pg_hba_file_rules pg_ident_file_mappings
        pg_show_all_file_settings pg_config""",
    "large-object": """lo_close lo_creat lo_create lo_from_bytea lo_get lo_lseek lo_lseek64 lo_open lo_put lo_tell
        lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite lo_import lo_export lo_manage lo_oid""",
    # other sessions and the server itself
    "server": """pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_switch_wal pg_promote
        pg_create_restore_point pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup pg_wal_replay_pause
        pg_wal_replay_resume pg_log_backend_memory_contexts pg_log_standby_snapshot pg_import_system_collations
        pg_extension_config_dump pg_stop_making_pinned_objects pg_nextoid pg_prewarm autoprewarm_start_worker
        autoprewarm_dump_now pg_export_snapshot pg_sync_replication_slots pg_surgery heap_force_kill heap_force_freeze
        pg_truncate_visibility_map""",
    "sleep": "pg_sleep pg_sleep_for pg_sleep_until",
    "notify": "pg_notify",
    "sequence": "setval nextval",
    "remote": "postgres_fdw_disconnect postgres_fdw_disconnect_all postgres_fdw_get_connections",
    "set-config": "set_config",
}
_PREFIXES: Final[tuple[tuple[str, str], ...]] = (
    ("dblink", "dynamic"),
    ("dblink", "remote"),
    ("pg_ls_", "file"),
    ("pg_file_", "file"),
    ("pg_logical_", "replication"),
    ("pg_replication_", "replication"),
    ("pg_create_logical_", "replication"),
    ("pg_create_physical_", "replication"),
    ("pg_copy_logical_", "replication"),
    ("pg_copy_physical_", "replication"),
    ("pg_drop_replication_", "replication"),
    ("pg_stat_reset", "server"),
    ("pg_stat_statements_reset", "server"),
    ("pg_clear_", "server"),
    ("pg_restore_", "server"),
    ("pg_advisory_", "advisory-lock"),
    ("pg_try_advisory_", "advisory-lock"),
    ("binary_upgrade_", "server"),
)


def _by_function() -> dict[str, frozenset[str]]:
    marks: dict[str, frozenset[str]] = {}
    for mark, names in _FUNCTIONS.items():
        for name in names.split():
            marks[name] = marks.get(name, frozenset()) | {mark}
    return marks


FUNCTION_MARKS: Final = _by_function()
ALL_OF_SETTINGS: Final = frozenset(
    ("search-path", "role", "standard-conforming-strings", "client-encoding", "set-other")
)
ANY_SETTING: Final = ALL_OF_SETTINGS | {"dynamic"}  # which one is not known
SETTINGS_VIEW: Final = "pg_settings"  # an UPDATE of it sets; set_config may take a name from it: `by_name`

# Settings that change what a text means, or who asks. Everything else is "set-other".
SETTING_MARKS: Final[dict[str, str]] = {
    "search_path": "search-path",
    "role": "role",
    "session_authorization": "role",
    "standard_conforming_strings": "standard-conforming-strings",
    "backslash_quote": "standard-conforming-strings",
    "client_encoding": "client-encoding",
}

# The operators that PostgreSQL 15 to 18 bring with them (pg_operator.oprname).
_OPERATORS: Final = """!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- / < <->
    << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~
    ~<~ ~= ~>=~ ~>~ ~~ ~~*"""
OPERATORS: Final = frozenset(_OPERATORS.split())


def function_marks(name: str) -> frozenset[str]:
    """The marks of a call, by the function's last name."""
    marks = FUNCTION_MARKS.get(name)
    if name.startswith(("pg_", "dblink", "binary_")):
        more = frozenset(mark for prefix, mark in _PREFIXES if name.startswith(prefix))
        return more | marks if marks else more
    return marks or frozenset()


# Values by which a text means what it meant, or less: with an empty search path only the server's own names need no
# schema. pg_dump, pg_restore and others begin with these.
_SAFE_VALUES: Final = {
    "search_path": frozenset(("", "pg_catalog")),
    "standard_conforming_strings": frozenset(("on", "true", "1")),
    "client_encoding": frozenset(("utf8", "utf-8", "unicode")),
}


def setting_mark(name: str, value: str | None = None) -> str:
    """The mark of changing a setting; names of settings are compared without case (guc_name_compare). `value`: where it
    is a constant."""
    name = name.lower()
    if value is not None and name != "search_path":  # "PG_CATALOG" is another schema than pg_catalog
        value = value.lower()
    if value in _SAFE_VALUES.get(name, ()):
        return "set-other"
    return SETTING_MARKS.get(name, "set-other")
