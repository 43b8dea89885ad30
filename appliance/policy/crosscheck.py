"""Configuration and policy data held against each other: names that one uses and the other does not have."""

from __future__ import annotations

import re

from appliance.config.schema import Config, SecretSpec
from appliance.policy.data import Data, DestinationSpec
from appliance.policy.globs import host_pattern

_HTTP_SLOTS = {"header", "basic", "query"}
_SQL_SLOTS = {"postgres", "upstream-certificate"}


def cross_check(config: Config, data: Data) -> list[str]:
    """What does not fit, a sentence each; empty if all does."""
    secrets = {secret.name: secret for secret in config.secrets}
    destinations = {each.name: each for each in data.destinations}
    principals = {workload.name for workload in config.workloads}
    groups = {group for workload in config.workloads for group in workload.groups}
    problems: list[str] = []
    for each in data.destinations:
        for name in each.secrets:
            if name not in secrets:
                problems.append(f"destination {each.name} names the secret {name}, which the configuration lacks")
            elif each.name not in secrets[name].destinations:
                problems.append(f"destination {each.name} names the secret {name}, which does not name it back")
        for kind, known, named in (("principal", principals, each.principals), ("group", groups, each.groups)):
            problems += [
                f"destination {each.name} names the {kind} {name}, which no workload has"
                for name in named
                if name not in known
            ]
    for secret in config.secrets:
        for name in secret.destinations:
            if name not in destinations:
                problems.append(f"secret {secret.name} names the destination {name}, which the policy lacks")
                continue
            patterns = [host_pattern(host) for host in destinations[name].hosts]
            if not any(re.match(pattern, host) for pattern in patterns for host in secret.hosts):
                problems.append(f"secret {secret.name} names no host that destination {name} has")
            problems += _slots_that_fit_nothing(secret, destinations[name])
    return problems


def _slots_that_fit_nothing(secret: SecretSpec, at: DestinationSpec) -> list[str]:
    kinds = {slot.in_ for slot in secret.slots}
    if not kinds & (_SQL_SLOTS if at.is_sql else _HTTP_SLOTS):
        return [
            f"secret {secret.name} names the destination {at.name}, whose protocol {at.protocol} has no slot"
            f" {', '.join(sorted(kinds))}"
        ]
    if not at.is_sql or not at.users:
        return []
    return [
        f"secret {secret.name} is the password of {slot.name}, who is none of the users of {at.name}"
        for slot in secret.slots
        if slot.in_ == "postgres" and slot.name and slot.name not in at.users
    ]
