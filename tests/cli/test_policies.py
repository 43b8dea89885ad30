"""A policy folder, checked and tested where no appliance is: what is wrong is said by file, line and key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run, sentence
from tests.world.world import REPOSITORY

Alone = Callable[..., Run]
GOOD = """destinations:
- name: service
  hosts: [service.test]
  principals: [agent]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    shutil.copytree(REPOSITORY / "policies", made)
    (made / "data.yaml").write_text(GOOD)
    return made


def configured(tmp_path: Path, text: str = "") -> str:
    file = tmp_path / "coatcheck.yaml"
    file.write_text(f"policy_dir: {tmp_path / 'mine'}\n{text}")
    return str(file)


def test_the_checkouts_own_policy_needs_no_configuration(alone: Alone) -> None:
    done = alone("policy", "test", str(REPOSITORY / "policies"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 10
    assert all(line.startswith("ok   coatcheck_test.rego: test_") for line in lines[:-1])
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} tests pass"


def test_a_test_that_fails_is_named(alone: Alone, folder: Path) -> None:
    (folder / "mine_test.rego").write_text(
        "package mine_test\nimport rego.v1\ntest_no if { 1 == 2 }\ntest_yes if { true }\n"
    )
    done = alone("policy", "test", str(folder))
    assert done.returncode == 1
    assert "FAIL mine_test.rego: test_no" in done.stdout
    assert "ok   mine_test.rego: test_yes" in done.stdout
    done = alone("policy", "test", str(folder), "--json")
    assert done.returncode == 1
    failed = [result for result in json.loads(done.stdout) if not result["passed"]]
    assert failed == [{"file": "mine_test.rego", "name": "test_no", "passed": False, "error": ""}]
    done = alone("policy", "check", str(folder))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{folder}/mine_test.rego: test_no" in done.stderr


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        (
            "data.yaml",
            GOOD.replace("hosts", "host"),
            "data.yaml:3: destinations[0].host: there is no such key; did you mean hosts",
        ),
        ("data.yaml", GOOD.replace("service.test", "'*'"), "data.yaml:3: destinations[0].hosts"),
        ("data.yaml", GOOD + "  principals: [x]\n", "data.yaml:5: found duplicate key"),
        ("data.yaml", "destinations: [\n", "data.yaml:"),
        ("data.yaml", "- a\n", "data.yaml:1: the file must be a mapping"),
        ("coatcheck.rego", "package coatcheck\nplan := {", "coatcheck.rego:2:"),
        ("coatcheck.rego", "package coatcheck\n", "the policy gives no data.coatcheck."),
        ("more.rego", "package m\nimport rego.v1\na if { http.send({}) }\n", "more.rego:3: http.send is not allowed"),
    ],
)
def test_what_is_wrong_is_said_in_place(alone: Alone, folder: Path, file: str, text: str, what: str) -> None:
    (folder / file).write_text(text)
    for command in ("check", "test"):
        assert what in sentence(alone("policy", command, str(folder)), 1)


def test_a_folder_that_cannot_be_read(alone: Alone, tmp_path: Path) -> None:
    assert "No such file" in sentence(alone("policy", "check", str(tmp_path / "none")), 1)
    assert "no .rego file" in sentence(alone("policy", "test", str(tmp_path)), 1)


def test_check_holds_it_against_the_configuration(alone: Alone, folder: Path, tmp_path: Path) -> None:
    done = alone("policy", "check", "--config", configured(tmp_path))
    assert done.returncode == 0
    assert done.stdout.startswith(f"{folder}: whole; 1 destinations")
    assert done.stderr == "coatcheck: warning: destination service names the principal agent, which no workload has\n"
    done = alone("policy", "check", "--config", configured(tmp_path, "workloads: [{name: agent, match: {uid: [1]}}]\n"))
    assert (done.returncode, done.stderr) == (0, "")


def test_check_without_a_configuration_says_so(alone: Alone, folder: Path) -> None:
    done = alone("policy", "check", str(folder))
    assert done.returncode == 0
    assert "no configuration" in done.stderr


@pytest.mark.parametrize("command", ["check", "test"])
def test_a_bad_configuration_is_another_matter(alone: Alone, tmp_path: Path, command: str) -> None:
    assert ":2: issure" in sentence(alone("policy", command, "--config", configured(tmp_path, "issure: x\n")), 78)
    sentence(alone("policy", command, "--config", str(tmp_path / "none")), 78)
