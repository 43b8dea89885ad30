"""Which principal a process is, by the workload rules of the configuration.

LIMITS. `cmdline` is what the process itself says of its arguments: it may narrow a rule, it must not be the only
thing a rule names. Its pattern is the operator's and is tried on at most 16 KiB of text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from appliance.config.schema import Workload, WorkloadMatch
from appliance.identity.globs import Glob
from appliance.model.errors import Denied
from appliance.model.facts import ProcessFacts
from appliance.model.identity import Principal
from appliance.model.ids import PrincipalName

_CUT_ARGUMENT = 256  # characters and count at which facts cut the command line (model/facts.py):
_CUT_COUNT = 64  # one that may have been cut is a missing fact
_DELETED = " (deleted)"  # proc(5): what readlink(/proc/PID/exe) adds once the file has gone

Condition = Callable[[ProcessFacts], bool]


class CompiledWorkload(NamedTuple):
    principal: Principal
    conditions: tuple[Condition, ...]


def compile_workloads(workloads: Iterable[Workload]) -> tuple[CompiledWorkload, ...]:
    """The workloads, in order, with their patterns compiled. Raises ValueError that names workload and key."""
    return tuple(
        CompiledWorkload(Principal(PrincipalName(w.name), w.groups), _conditions(w.name, w.match)) for w in workloads
    )


def principal_of(workloads: Sequence[CompiledWorkload], facts: ProcessFacts) -> Principal:
    """The principal of the first workload whose every condition holds. Raises Denied("no-workload")."""
    if facts.job:
        for workload in workloads:
            if all(condition(facts) for condition in workload.conditions):
                return workload.principal
    raise Denied(
        "no-workload",
        f"no workload of the configuration matches this process (uid {facts.uid}, "
        f"executable {facts.exe or 'not known'}, label {facts.job_label or 'none'})",
    )


def _conditions(workload: str, match: WorkloadMatch) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    if match.uid is not None:
        conditions.append(_one_of(lambda facts: facts.uid, match.uid))
    if match.gid is not None:
        conditions.append(_in_groups(frozenset(match.gid)))
    if match.launched_uid is not None:
        conditions.append(_one_of(lambda facts: facts.launched_uid, match.launched_uid))
    if match.exe is not None:
        conditions.append(_glob(workload, "exe", match.exe, lambda facts: _file(facts.exe) if facts.complete else ""))
    if match.exe_sha256 is not None:
        conditions.append(_digest(frozenset(digest.lower() for digest in match.exe_sha256)))
    if match.cgroup is not None:
        conditions.append(_glob(workload, "cgroup", match.cgroup, lambda facts: facts.cgroup))
    if match.unit is not None:
        conditions.append(_glob(workload, "unit", match.unit, lambda facts: facts.unit if facts.complete else ""))
    if match.label is not None:
        conditions.append(_glob(workload, "label", match.label, lambda facts: facts.job_label))
    if match.cmdline is not None:
        conditions.append(_cmdline(workload, match.cmdline))
    if match.ancestor_exe is not None:
        conditions.append(_ancestor(workload, match.ancestor_exe))
    return tuple(conditions)


def _file(path: str) -> str:
    """A path that still names the file that runs, or "": what stands there now may be another program."""
    return "" if path.endswith(_DELETED) else path


def _compile_glob(workload: str, key: str, pattern: str) -> Glob:
    try:
        return Glob(pattern)
    except ValueError as error:
        raise ValueError(f"workload {workload}: match.{key}: {error}") from None


def _glob(workload: str, key: str, pattern: str, read: Callable[[ProcessFacts], str]) -> Condition:
    glob = _compile_glob(workload, key, pattern)

    def holds(facts: ProcessFacts) -> bool:
        text = read(facts)
        return text != "" and glob.matches(text)

    return holds


def _one_of(read: Callable[[ProcessFacts], int], allowed: Iterable[int]) -> Condition:
    ids = frozenset(allowed)

    def holds(facts: ProcessFacts) -> bool:
        value = read(facts)
        return value >= 0 and value in ids  # -1 stands for "not known"

    return holds


def _in_groups(allowed: frozenset[int]) -> Condition:
    def holds(facts: ProcessFacts) -> bool:
        if facts.gid >= 0 and facts.gid in allowed:
            return True
        return facts.complete and not allowed.isdisjoint(facts.groups)

    return holds


def _digest(allowed: frozenset[str]) -> Condition:
    def holds(facts: ProcessFacts) -> bool:
        return facts.complete and facts.exe_sha256 != "" and facts.exe_sha256 in allowed

    return holds


def _cmdline(workload: str, pattern: str) -> Condition:
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"workload {workload}: match.cmdline is not a regular expression: {error}") from None

    def holds(facts: ProcessFacts) -> bool:
        words = facts.cmdline
        if not facts.complete or not words or len(words) >= _CUT_COUNT:
            return False
        if any(len(word) >= _CUT_ARGUMENT for word in words):
            return False
        return compiled.fullmatch(" ".join(words)) is not None

    return holds


def _ancestor(workload: str, pattern: str) -> Condition:
    glob = _compile_glob(workload, "ancestor_exe", pattern)

    def holds(facts: ProcessFacts) -> bool:
        if not facts.complete:
            return False
        return any(exe != "" and glob.matches(exe) for exe in (_file(a.exe) for a in facts.ancestors))

    return holds
