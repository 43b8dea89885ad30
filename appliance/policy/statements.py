"""The words that a rule about SQL may use: commands and groups of them, patterns of relations, columns and functions.

A relation is "schema.relation", a column "schema.relation.column", a function "schema.function". In a pattern, `*` is
anything within one of these parts, and `*` alone is everything. A dot, percent sign, asterisk or question mark that is
part of a name is written %2E, %25, %2A, %3F, here and in the operation (`appliance.session.sql_operation`).

Two things in an operation stand for what is not known: the schema (or relation) `?`, for the agent chose its search
path itself, and the column `*`, which is all of a relation. A pattern that refuses fits them, whatever it says there;
one that allows fits them only by a `*` of its own.
"""

from __future__ import annotations

import difflib
import re
from typing import Final


def _of(verbs: str, objects: str) -> tuple[str, ...]:
    return tuple(f"{verb}-{each}" for verb in verbs.split() for each in objects.split())


_ANY: Final = "create alter drop"

# What only turns to the session itself: allowed without a rule, unless the destination says `session: deny`. What
# EXECUTE executes and FETCH fetches is judged for itself
SESSION: Final = (
    "begin", "close", "commit", "deallocate", "discard", "execute", "fetch", "move", "release", "reset", "rollback",
    "rollback-to", "savepoint", "set", "set-constraints", "show", "unlisten",
)  # fmt: skip

# What a rule may call by one word; the words are those of `appliance.sql.commands`
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "read": ("select", "copy-out", "declare", "explain", "prepare"),
    "write": ("insert", "update", "delete", "merge", "truncate", "copy-in", "lock"),
    "schema": (
        *_of(_ANY, "domain index materialized-view schema sequence statistics table type view"),
        *("create-table-as", "select-into", "comment", "refresh-materialized-view"),
        *("reindex", "cluster", "vacuum", "analyze"),
    ),
    "code": _of(_ANY, "aggregate cast function operator operator-class operator-family procedure routine rule trigger"),
    "rights": (
        *("grant", "revoke", "reassign-owned", "drop-owned", "security-label", "alter-default-privileges"),
        *_of(_ANY, "policy role user-mapping"),
    ),
    "session": SESSION,
    "notify": ("listen", "unlisten", "notify"),
}

COMMANDS: Final = frozenset(
    {
        *(word for words in GROUPS.values() for word in words),
        *_of(_ANY, "access-method collation conversion database event-trigger extension foreign-data-wrapper"),
        *_of(_ANY, "foreign-table language large-object publication server subscription tablespace transform"),
        *_of(_ANY, "text-search-configuration text-search-dictionary text-search-parser text-search-template"),
        "alter-system", "call", "checkpoint", "commit-prepared", "copy-file", "copy-program", "do",
        "fastpath", "import-foreign-schema", "load", "other", "prepare-transaction", "return", "rollback-prepared",
        "unparsed",
    }
)  # fmt: skip

# These do nothing of their own: an allowing rule must know what is within them
WRAPPERS: Final = ("declare", "explain", "prepare")

# What an allowing rule need not name (functions and inner commands are looked at beside them) ...
HARMLESS_MARKS: Final = frozenset(
    {
        "advisory-lock", "backslash", "binary", "catalog", "cte", "explain", "explain-analyze", "into",
        "locking", "reset", "returning", "sequence", "set-config", "set-other", "set-transaction", "sleep", "subquery",
        "temporary", "then-delete", "then-insert", "then-update", "where-constant", "writes-in-cte",
    }
)  # fmt: skip
# ... and what it must
OTHER_MARKS: Final = frozenset(
    {
        "all", "all-in-schema", "cascade", "client-encoding", "dynamic", "file", "large-object", "membership",
        "non-ascii-name", "notify", "password", "program", "remote", "replication", "role", "search-path", "server",
        "standard-conforming-strings", "unknown",
    }
)  # fmt: skip

# What of the server's catalogue anybody may read without a rule, unless the destination says `catalogue: deny`: names
# and types, as drivers and psql ask for them; no values of tables (pg_stats, pg_largeobject), no other sessions
# (pg_stat_activity), no passwords (pg_authid, pg_user_mapping, pg_subscription)
CATALOGUE: Final = frozenset(
    {
        "pg_aggregate", "pg_am", "pg_amop", "pg_amproc", "pg_attrdef", "pg_attribute", "pg_auth_members",
        "pg_available_extensions", "pg_cast", "pg_class", "pg_collation", "pg_constraint", "pg_conversion",
        "pg_database", "pg_depend", "pg_description", "pg_enum", "pg_event_trigger", "pg_extension",
        "pg_foreign_data_wrapper", "pg_foreign_table", "pg_index", "pg_indexes", "pg_inherits", "pg_init_privs",
        "pg_language", "pg_matviews", "pg_namespace", "pg_opclass", "pg_operator", "pg_opfamily",
        "pg_partitioned_table", "pg_policies", "pg_policy", "pg_proc", "pg_publication", "pg_publication_namespace",
        "pg_publication_rel", "pg_publication_tables", "pg_range", "pg_rewrite", "pg_roles", "pg_rules",
        "pg_seclabel", "pg_sequence", "pg_sequences", "pg_settings", "pg_shdepend", "pg_shdescription",
        "pg_statistic_ext", "pg_tables", "pg_tablespace", "pg_timezone_abbrevs", "pg_timezone_names",
        "pg_transform", "pg_trigger", "pg_ts_config", "pg_ts_config_map", "pg_ts_dict", "pg_ts_parser",
        "pg_ts_template", "pg_type", "pg_user", "pg_views",
    }
)  # fmt: skip

_SOME_COMMANDS = re.compile(r"(?:[a-z]+-)*\*")
_OID = re.compile(r"oid:(?:\d{1,10}|\*)")
_PART = re.compile(r"(?:[^.%?\x00-\x1f\x7f]|%(?:2E|25|2A|3F))+")
_SPECIAL = re.compile(r"[.%*?]")
_ANYTHING: Final = r"^(?s:.*)$"
_WITHIN: Final = r"[^.]*"


def part_of(name: str) -> str:
    """A name as it stands in an operation and in a pattern: with the characters that mean something there escaped."""
    return _SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", name)


def command_pattern(word: str) -> str:
    """The regular expression of a command, of a `create-*` or of `*`. Raises ValueError for what no command is like."""
    pattern = "^" + word.replace("*", ".*") + "$"
    is_one = word in COMMANDS if "*" not in word else _SOME_COMMANDS.fullmatch(word) and _some(pattern)
    if not is_one:
        near = difflib.get_close_matches(word, [*COMMANDS, *GROUPS], 1)
        raise ValueError(
            f"{word!r} is not a command: "
            + (f"did you mean {near[0]}?" if near else "write for example select, create-table, create-* or *,")
            + f" Groups are {', '.join(GROUPS)}"
        )
    return pattern


def mark_of(word: str) -> str:
    """The mark, or `*` for all. Raises ValueError for what is none."""
    if word != "*" and word not in HARMLESS_MARKS | OTHER_MARKS:
        raise ValueError(f"{word!r} is not a mark: there are * and {', '.join(sorted(HARMLESS_MARKS | OTHER_MARKS))}")
    return word


def _some(pattern: str) -> bool:
    return any(re.match(pattern, command) for command in COMMANDS)


def commands_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words with the groups' own in place of the groups."""
    return tuple(each for word in words for each in GROUPS.get(word, (word,)))


def relation_pattern(glob: str, refuses: bool = False) -> str:
    """The regular expression of "schema.relation". Raises ValueError."""
    return _pattern(glob, 2, refuses, "table", "public.orders, public.*")


def column_pattern(glob: str, refuses: bool = False) -> str:
    """The regular expression of "schema.relation.column". Raises ValueError."""
    return _pattern(glob, 3, refuses, "column", "public.orders.email, public.*.email")


def function_pattern(glob: str, refuses: bool = False) -> str:
    """The regular expression of "schema.function" or "oid:number" (of the fast path). Raises ValueError."""
    if _OID.fullmatch(glob):
        return "^" + glob.replace("*", r"\d+") + "$"
    return _pattern(glob, 2, refuses, "function", "public.total, pg_catalog.pg_sleep")


def _pattern(glob: str, count: int, refuses: bool, what: str, examples: str) -> str:
    if glob == "*":
        return _ANYTHING
    parts = glob.split(".")
    if len(parts) != count or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{glob!r} is not a pattern of a {what}: write for example {examples}, or * for everything")
    expressions = [re.escape(part).replace(r"\*", _WITHIN) for part in parts]
    if refuses:
        expressions[0] = rf"(?:\?|{expressions[0]})"
        if count == 3:
            expressions[1] = rf"(?:\?|{expressions[1]})"
            expressions[2] = rf"(?:\*|{expressions[2]})"
    return "^" + r"\.".join(expressions) + "$"
