"""Runs the `test_*` rules of a policy folder: a test passes if its rule is true."""

from __future__ import annotations

import re

from msgspec import Struct

from appliance.ipc.messages import PolicyBundle
from appliance.policy.engine import engine_of, words_of

_PACKAGE = re.compile(r"^\s*package\s+([A-Za-z_][\w.]*)", re.MULTILINE)
_TEST = re.compile(r"^(test_\w+)\b", re.MULTILINE)


class TestResult(Struct, frozen=True):
    """`error` is empty unless the rule could not be evaluated."""

    __test__ = False  # not a pytest class

    file: str
    name: str
    passed: bool
    error: str = ""


def run_tests(bundle: PolicyBundle) -> list[TestResult]:
    """Every `test_*` rule of every module, in order of file and place. Raises EnvironmentFailed if the bundle does not
    load."""
    engine = engine_of(bundle)
    results: list[TestResult] = []
    for file, text in sorted(bundle.modules.items()):
        package = _PACKAGE.search(text)
        names = dict.fromkeys(_TEST.findall(text))
        for name in names if package is not None else ():
            engine.set_input_json("{}")
            try:
                value = engine.eval_rule(f"data.{package[1]}.{name}" if package else "")
            except Exception as error:
                results.append(TestResult(file, name, False, words_of(error)))
            else:
                results.append(TestResult(file, name, value is True))
    return results
