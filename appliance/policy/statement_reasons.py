"""What kept a rule from deciding on an SQL statement, in words: `explain`'s part for PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable

from appliance.model.verdict import SqlOperation
from appliance.policy.data import STATEMENT_KEYS, Rule
from appliance.policy.server_functions import is_harmless
from appliance.policy.statements import (
    HARMLESS_MARKS,
    WRAPPERS,
    column_pattern,
    command_pattern,
    commands_of,
    function_pattern,
    relation_pattern,
)

Pattern = Callable[[str, bool], str]


def against_statement(rule: Rule, operation: SqlOperation, statement_rules: bool) -> tuple[str, ...]:
    """Takes whether the destination has a rule about statements at all; empty for a rule that fits."""
    against = _against_session(rule, operation)
    if operation.command == "unparsed":
        if rule.decision == "allow" and statement_rules:
            against.append("the statement cannot be read, and the destination has rules about statements")
        elif rule.written(tuple(key for key in STATEMENT_KEYS if key != "commands")) or not _has_command(
            rule, operation
        ):
            against.append("the statement cannot be read")
        return tuple(against)
    if not _has_command(rule, operation):
        commands = " with ".join((operation.command, *operation.inner))
        against.append(f"command {commands} is not among {', '.join(rule.commands or ())}")
    tables = tuple(sorted({*operation.reads, *operation.writes}))
    for key, globs, there, pattern in (
        ("tables", rule.tables, tables, relation_pattern),
        ("reads", rule.reads, operation.reads, relation_pattern),
        ("writes", rule.writes, operation.writes, relation_pattern),
        ("columns", rule.columns, operation.columns, column_pattern),
    ):
        against += _against_list(rule, key, globs, there, pattern)
    if rule.decision == "allow":
        if statement_rules or rule.functions is not None:
            foreign = tuple(each for each in operation.functions if not is_harmless(each))
            against += _unknown("functions", rule.functions or (), foreign, function_pattern)
        if statement_rules or rule.marks is not None:
            unusual = [mark for mark in operation.marks if mark not in HARMLESS_MARKS]
            unnamed = [mark for mark in unusual if "*" not in (rule.marks or ()) and mark not in (rule.marks or ())]
            if unnamed:
                against.append(f"marks: {', '.join(unnamed)} must be named by a rule that allows")
    else:
        against += _against_list(rule, "functions", rule.functions, operation.functions, function_pattern)
        if rule.marks is not None and not listed(rule.decision, rule.marks, operation.marks, 0):
            against.append(f"marks: none of {', '.join(rule.marks)} is there")
    with_where = {"select", "update", "delete"} & {operation.command, *operation.inner}
    if rule.where is not None and not with_where:
        against.append(f"where is about select, update and delete, not {operation.command}")
    elif rule.where is not None and rule.where is not operation.where:
        against.append(f"there is {'a' if operation.where else 'no'} WHERE")
    return tuple(against)


def listed(decision: str, names: tuple[str, ...], there: tuple[str, ...], least: int) -> bool:
    """What allows must know all that is there, what refuses takes one as enough; an empty list: none is there."""
    if not names:
        return not there
    if decision != "allow":
        return any(name in names for name in there) or ("*" in names and bool(there))
    return len(there) >= least and all(name in names for name in there)


def _against_session(rule: Rule, operation: SqlOperation) -> list[str]:
    against: list[str] = []
    for key, names, name in (
        ("database", rule.databases, operation.database),
        ("user", rule.users, operation.user),
    ):
        if names is not None and name not in names:
            against.append(f"{key} {name} is not among {', '.join(names)}")
    if rule.credentials is not None and not listed(rule.decision, rule.credentials, operation.credentials, 1):
        used = ", ".join(operation.credentials) or "none"
        against.append(f"the credentials in use ({used}) are not those that it is about")
    return against


def _has_command(rule: Rule, operation: SqlOperation) -> bool:
    if rule.commands is None:
        return True
    patterns = tuple(command_pattern(word) for word in commands_of(rule.commands))
    if rule.decision != "allow":
        return any(_fits(patterns, command) for command in (operation.command, *operation.inner))
    needed = operation.inner
    if operation.command not in WRAPPERS or not needed:
        needed = (operation.command, *(command for command in needed if command != "select"))
    return all(_fits(patterns, command) for command in needed)


def _against_list(
    rule: Rule, key: str, globs: tuple[str, ...] | None, there: tuple[str, ...], pattern: Pattern
) -> list[str]:
    if globs is None:
        return []
    if not globs:
        return [f"{key}: {', '.join(there)} is there, and none may be"] if there else []
    if rule.decision == "allow":
        return _unknown(key, globs, there, pattern)
    if any(_fits(tuple(pattern(glob, True) for glob in globs), each) for each in there):
        return []
    return [f"{key}: none of {', '.join(there) or 'nothing'} is among {', '.join(globs)}"]


def _unknown(key: str, globs: tuple[str, ...], there: tuple[str, ...], pattern: Pattern) -> list[str]:
    patterns = tuple(pattern(glob, False) for glob in globs)
    return [
        f"{key}: {each} is not among {', '.join(globs) or 'those that are named: none is'}"
        for each in there
        if not _fits(patterns, each)
    ]


def _fits(patterns: tuple[str, ...], text: str) -> bool:
    return any(re.match(pattern, text) for pattern in patterns)
