"""The texts of a policy folder judged by `appliance.policy`: read, compiled, tested, held against the configuration."""

from __future__ import annotations

from typing import NamedTuple

from appliance.config.schema import Config
from appliance.control.trial import try_policy
from appliance.ipc.messages import PolicyBundle
from appliance.model.errors import EnvironmentFailed
from appliance.policy.bundle import make_bundle, parse_data
from appliance.policy.crosscheck import cross_check
from appliance.policy.data import Data

_MOST_SAID = 5  # failed tests in one message


class Checked(NamedTuple):
    """A policy that may be put in force. `warnings`: names that policy and configuration do not share; they grant
    nothing (an unknown name never matches), so they hold nothing up, but somebody misspelt something."""

    bundle: PolicyBundle
    data: Data
    warnings: tuple[str, ...] = ()


def check_policy(config: Config, modules: dict[str, str], data_text: str) -> Checked:
    """Takes Rego texts by file name and the text of data.yaml. Not for the loop's thread: a child tries the Rego.

    Raises EnvironmentFailed, in one sentence, if the data is malformed, the Rego does not compile, lacks a rule or uses
    what it may not, does not come to an end, or one of its own `test_*` rules fails.
    """
    data = parse_data(data_text)
    bundle = make_bundle(modules, data)
    failed = [
        f"{result.file}: {result.name}" + (f" ({result.error})" if result.error else "")
        for result in try_policy(bundle)
        if not result.passed
    ]
    if failed:
        more = f", and {len(failed) - _MOST_SAID} more" if len(failed) > _MOST_SAID else ""
        raise EnvironmentFailed("policy", f"the policy fails its own tests: {', '.join(failed[:_MOST_SAID])}{more}")
    return Checked(bundle, data, tuple(cross_check(config, data)))
