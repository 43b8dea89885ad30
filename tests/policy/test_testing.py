"""The runner of `test_*` rules, the shipped policy's own tests, explanations, and the cross-check."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.config.schema import Config
from appliance.model.errors import EnvironmentFailed
from appliance.policy.bundle import make_bundle, parse_data
from appliance.policy.crosscheck import cross_check
from appliance.policy.engine import Policy, subject_of
from appliance.policy.explain import Explanation, explain
from appliance.policy.testing import TestResult, run_tests
from tests.policy.asking import FOLDER, MODULES, claims, destination, operation, spec

TEST = """package mine_test
import rego.v1
import data.coatcheck
test_yes if coatcheck.plan.decision == "deny" with input as {"destination": {"host": "x"}}
test_no if 1 == 2
test_false := false
test_breaks if to_number("x") == 1
# test_comment if true
helper if true
"""


def test_a_slot_must_be_one_that_the_destination_has() -> None:
    def problems(slot: dict[str, str], **destination: object) -> list[str]:
        secret = {"name": "s", "from": {"file": "/x"}, "destinations": ["d"], "hosts": ["d.example"], "slots": [slot]}
        at = {"name": "d", "hosts": ["d.example"], "secrets": ["s"], **destination}
        return cross_check(Config.model_validate({"secrets": [secret]}), parse_data(json.dumps({"destinations": [at]})))

    password, header = {"in": "postgres", "name": "app"}, {"in": "header", "name": "x"}
    certificate = {"in": "upstream-certificate"}
    assert problems(password, protocol="postgres") == []
    assert problems(password, protocol="postgres", users=["app"]) == []
    assert problems(certificate, protocol="postgres") == []
    assert problems(header) == []
    assert "no slot postgres" in problems(password)[0]
    assert "no slot header" in problems(header, protocol="postgres")[0]
    assert "no slot upstream-certificate" in problems(certificate)[0]
    assert "none of the users" in problems(password, protocol="postgres", users=["other"])[0]


def outcomes(text: str) -> dict[str, TestResult]:
    results = run_tests(make_bundle({**MODULES, "mine_test.rego": text}, parse_data("")))
    return {result.name: result for result in results if result.file == "mine_test.rego"}


def test_each_test_has_its_outcome() -> None:
    results = outcomes(TEST)
    assert {name: result.passed for name, result in results.items()} == {
        "test_yes": True,
        "test_no": False,
        "test_false": False,
        "test_breaks": False,
    }
    assert "mine_test.rego:7" in results["test_breaks"].error
    assert not results["test_no"].error


def test_results_are_the_same_every_time() -> None:
    bundle = make_bundle({**MODULES, "mine_test.rego": TEST}, parse_data(""))
    assert run_tests(bundle) == run_tests(bundle)


def test_tests_that_do_not_compile_are_an_error() -> None:
    with pytest.raises(EnvironmentFailed, match=r"mine_test\.rego"):
        outcomes("package mine_test\ntest_x if {\n")


def test_the_shipped_policy_passes_its_own_tests_and_allows_nothing() -> None:
    data = parse_data((FOLDER / "data.yaml").read_text())
    assert data.destinations == ()
    results = run_tests(make_bundle(MODULES, data))
    assert len(results) > 10
    assert [result for result in results if not result.passed] == []


def test_the_example_in_the_data_file_is_valid() -> None:
    lines = (FOLDER / "data.yaml").read_text().splitlines()
    start = lines.index("# destinations:")
    example = parse_data("\n".join(line.removeprefix("# ").removeprefix("#") for line in lines[start:]))
    assert len(example.destinations) > 1


def told(who: str, **changes: Any) -> Explanation:
    text = json.dumps(
        {"destinations": [spec(rules=[{"name": "read", "methods": ["GET"]}]), spec("two", hosts=["two.example"])]}
    )
    data = parse_data(text)
    policy = Policy(make_bundle(MODULES, data))
    return explain(policy, data, subject_of(claims(who)), destination(), operation(**changes))


def test_an_explanation_says_which_rule_decided_and_why_the_others_did_not() -> None:
    allowed = told("deploy")
    assert allowed.verdict is not None
    assert allowed.verdict.rule == "api/read"
    assert [(each.name, bool(each.against)) for each in allowed.destinations] == [("api", False), ("two", True)]
    assert "two.example" in allowed.destinations[1].against[0]
    assert allowed.text.startswith("allow by api/read")


def test_an_explanation_of_a_refusal() -> None:
    refused = told("deploy", method="POST")
    assert refused.verdict is not None
    assert refused.verdict.decision == "deny"
    assert "POST" in refused.rules[0].against[0]
    stranger = told("stranger")
    assert stranger.verdict is None
    assert stranger.plan.decision == "deny"
    assert any("stranger" in reason for reason in stranger.destinations[0].against)


def config(**changes: Any) -> Config:
    secret = {
        "name": "token",
        "from": {"file": "/x"},
        "destinations": ["api"],
        "hosts": ["api.example.com"],
        "slots": [{"in": "header", "name": "authorization"}],
    }
    workload = {"name": "deploy", "match": {"uid": [1]}, "groups": ["ci"]}
    return Config.model_validate({"secrets": [{**secret, **changes}], "workloads": [workload]})


def problems(of: Config, **changes: Any) -> list[str]:
    return cross_check(of, parse_data(json.dumps({"destinations": [spec(secrets=["token"], **changes)]})))


def test_configuration_and_policy_that_agree() -> None:
    assert problems(config(), groups=["ci"]) == []


@pytest.mark.parametrize(
    ("secret", "of_policy", "says"),
    [
        ({"destinations": ["elsewhere"]}, {}, "elsewhere"),
        ({"hosts": ["other.example.com"]}, {}, "host"),
        ({"name": "other"}, {}, "token"),
        ({}, {"principals": ["nobody"]}, "nobody"),
        ({}, {"groups": ["none"]}, "none"),
    ],
)
def test_what_does_not_agree_is_named(secret: dict[str, Any], of_policy: dict[str, Any], says: str) -> None:
    assert any(says in problem for problem in problems(config(**secret), **of_policy))
