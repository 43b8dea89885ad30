"""Whatever goes wrong denies; a broken bundle leaves the old policy as it was; answers are remembered exactly."""

from __future__ import annotations

import pytest

from appliance.model.errors import EnvironmentFailed
from appliance.model.verdict import AnyOperation, Verdict
from appliance.policy.bundle import make_bundle, parse_data
from appliance.policy.decider import Decider
from appliance.policy.engine import ERROR_RULE, Policy
from tests.policy.asking import MODULES, claims, destination, operation, policy, spec, statement

HEAD = "package coatcheck\nimport rego.v1\n"
DENY = '{"decision": "deny", "rule": "x"}'


def rego(**rules: str) -> Policy:
    """A policy of three rules; those not given deny."""
    text = "".join(f"{name} := {rules.get(name, DENY)}\n" for name in ("plan", "verdict", "name"))
    return policy(modules={"p.rego": HEAD + text})


@pytest.mark.parametrize(
    "text",
    [
        "package coatcheck\nplan := ",
        HEAD + f"plan := {DENY}\nverdict := {DENY}\n",
        "package other\nimport rego.v1\na := 1\n",
        HEAD + "plan := nothing(1)\n",
    ],
)
def test_a_broken_bundle_is_refused_and_the_old_policy_stays(text: str) -> None:
    old = policy(spec())
    before = old.plan(claims(), destination())
    with pytest.raises(EnvironmentFailed) as caught:
        policy(spec(), modules={"broken.rego": text})
    assert caught.value.code in ("policy", "configuration")
    assert "backtrace" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert old.plan(claims(), destination()) == before
    assert old.plan(claims("other"), destination()).decision == "deny"


def test_an_error_names_file_and_line() -> None:
    with pytest.raises(EnvironmentFailed, match=r"broken\.rego:4:"):
        policy(modules={"broken.rego": HEAD + "plan := \n"})


@pytest.mark.parametrize(
    "answer", ['"allow"', "true", "{}", '{"decision": "maybe", "rule": "x"}', '{"decision": "allow"}', "[1]", "null"]
)
def test_a_malformed_answer_is_no_policy(answer: str) -> None:
    with pytest.raises(EnvironmentFailed):
        rego(plan=answer)


@pytest.mark.parametrize(
    "body",
    [
        '{"decision": "allow", "rule": to_number(input.principal.name)} if input.principal.name != ""',
        '{"decision": 1, "rule": "x"} if input.principal.name != ""',
        '{"decision": "allow", "rule": "x", "secrets": "all"} if input.principal.name != ""',
    ],
)
def test_a_rule_that_fails_later_denies(body: str) -> None:
    text = HEAD + f'plan := {DENY} if input.principal.name == ""\nplan := {body}\nverdict := {DENY}\nname := {DENY}\n'
    answer = policy(modules={"p.rego": text}).plan(claims(), destination())
    assert (answer.decision, answer.rule) == ("deny", ERROR_RULE)


def test_an_undefined_answer_denies() -> None:
    text = HEAD + f'plan := {DENY} if input.principal.name == ""\nverdict := {DENY}\nname := {DENY}\n'
    assert policy(modules={"p.rego": text}).plan(claims(), destination()).rule == ERROR_RULE


def test_rules_in_conflict_deny() -> None:
    two = f'plan := {DENY}\nplan := {{"decision": "allow", "rule": "y"}} if input.principal.name == "deploy"\n'
    p = policy(modules={"p.rego": HEAD + two + f"verdict := {DENY}\nname := {DENY}\n"})
    assert p.plan(claims(), destination()).rule == ERROR_RULE


@pytest.mark.parametrize(
    "call", ["time.now_ns()", 'rand.intn("x", 9)', "http.send({})", "opa.runtime()", 'uuid.rfc4122("x")']
)
def test_what_depends_on_more_than_the_input_is_refused(call: str) -> None:
    with pytest.raises(EnvironmentFailed, match=call.split("(")[0]):
        Policy(make_bundle({**MODULES, "mine.rego": f"package mine\nimport rego.v1\nx := {call}\n"}, parse_data("")))


def test_the_version_follows_the_content() -> None:
    bundles = [
        make_bundle(MODULES, parse_data("")),
        make_bundle(MODULES, parse_data("destinations: [] # the same\n")),
        make_bundle({**MODULES, "more.rego": "package more\n"}, parse_data("")),
        make_bundle(MODULES, parse_data("destinations: [{name: a, hosts: [a.example]}]")),
    ]
    versions = [bundle.version for bundle in bundles]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3
    assert all(len(version) == 64 for version in versions)


def test_a_statement_of_many_names_is_not_remembered() -> None:
    """They are as long as an agent likes."""
    asked: list[AnyOperation] = []

    def ask(operation: AnyOperation) -> Verdict:
        asked.append(operation)
        return Verdict("allow", "r")

    decider = Decider(ask)
    for count, times in ((500, 1), (501, 2)):
        del asked[:]
        for _ in range(2):
            decider.verdict(statement(reads=tuple(f"s.t{i}" for i in range(count))))
        assert len(asked) == times


def test_a_remembered_answer_is_for_the_same_question_only() -> None:
    p = policy(
        spec(rules=[{"name": "r", "methods": ["GET"], "paths": ["/a/**"]}]),
        spec("two", hosts=["two.example"], groups=["g"]),
    )
    for _ in range(2):
        plan = p.plan(claims(), destination())
        assert p.decider(claims(), destination(), plan) is p.decider(claims(), destination(), plan)
        assert p.verdict(claims(), destination(), plan, operation()).decision == "allow"
        assert p.verdict(claims(), destination(), plan, operation("POST")).decision == "deny"
        assert p.verdict(claims(), destination(), plan, operation(path="/b")).decision == "deny"
        assert p.plan(claims("other"), destination()).decision == "deny"
        assert p.plan(claims(), destination(port=80)).decision == "deny"
        assert p.plan(claims("other", ("g",)), destination("two.example")).decision == "allow"
        assert p.name_allowed(claims(), "api.example.com").decision == "allow"
        assert p.name_allowed(claims("other"), "api.example.com").decision == "deny"
