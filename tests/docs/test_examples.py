"""The examples in the documents are taken by the program that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.load import load
from appliance.config.schema import Config
from appliance.policy.bundle import make_bundle, parse_data
from appliance.policy.crosscheck import cross_check
from appliance.policy.engine import Policy
from tests.docs.tree import Block, blocks
from tests.policy.asking import MODULES, claims, destination, operation

YAML = list(blocks("yaml"))
POLICIES = [block for block in YAML if "\ndestinations:" in f"\n{block.text}"]
CONFIGURATIONS = [block for block in YAML if block not in POLICIES]


def read(block: Block, folder: Path) -> Config:
    file = folder / "coatcheck.yaml"
    file.write_text(block.text)
    return load(file)


def readme(of: list[Block]) -> Block:
    found = [block for block in of if block.document == "README.md"]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_each_configuration_loads(block: Block, tmp_path: Path) -> None:
    assert read(block, tmp_path).model_fields_set


@pytest.mark.parametrize("block", POLICIES, ids=str)
def test_each_policy_loads(block: Block) -> None:
    assert parse_data(block.text, str(block)).destinations


@pytest.mark.parametrize("block", list(blocks("rego")), ids=str)
def test_each_rego_example_compiles(block: Block) -> None:
    make_bundle({**MODULES, "example.rego": block.text}, parse_data("destinations: []"))


def test_the_readme_s_configuration_and_policy_belong_together(tmp_path: Path) -> None:
    config = read(readme(CONFIGURATIONS), tmp_path)
    assert cross_check(config, parse_data(readme(POLICIES).text)) == []


def test_the_readme_s_policy_does_what_it_is_said_to() -> None:
    policy = Policy(make_bundle(MODULES, parse_data(readme(POLICIES).text)))
    who, where = claims("deploy", ("ci",)), destination("api.github.com")
    plan = policy.plan(who, where)
    assert (plan.decision, plan.secrets) == ("allow", ("github-token",))
    decider = policy.decider(who, where, plan)
    asked = {
        ("GET", "/repos/acme/site/pulls", ""): "allow",
        ("GET", "/repos/other/site", ""): "deny",
        ("DELETE", "/repos/acme/site", ""): "deny",
        ("POST", "/repos/acme/site/issues/7/comments", "application/json"): "allow",
        ("POST", "/repos/acme/site/issues/7/comments", "text/plain"): "deny",
    }
    for (method, path, kind), decision in asked.items():
        assert decider.verdict(operation(method, path, content_type=kind)).decision == decision, (method, path)
    assert policy.plan(claims("deploy"), where).decision == "deny"
    assert policy.plan(who, destination("api.github.com.example")).decision == "deny"
