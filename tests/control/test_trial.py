"""Whatever Rego does to the process that loads it, it does to a child; who asked gets a sentence and lives on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.config.schema import Config
from appliance.control.checking import check_policy
from appliance.control.explaining import ExplainAsk, explain_policy
from appliance.control.policy_files import read_folder
from appliance.control.trial import try_policy
from appliance.ipc.messages import PolicyBundle
from appliance.model.errors import EnvironmentFailed
from appliance.policy.bundle import make_bundle, parse_data

SHIPPED = Path(__file__).parents[2] / "policies"
MODULES = read_folder(SHIPPED)[0]
HEAD = "package mine_test\nimport rego.v1\n"


def bundle_with(text: str, data: str = "") -> PolicyBundle:
    return make_bundle({**MODULES, "mine_test.rego": HEAD + text}, parse_data(data))


def refused(bundle: PolicyBundle, within: float = 10.0) -> str:
    with pytest.raises(EnvironmentFailed) as caught:
        try_policy(bundle, within)
    assert caught.value.code == "policy"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def children() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def test_a_whole_policy_passes_and_says_its_tests() -> None:
    results = try_policy(bundle_with("test_one if true\ntest_two if 1 == 2\n"))
    mine = {each.name: each.passed for each in results if each.file == "mine_test.rego"}
    assert mine == {"test_one": True, "test_two": False}


@pytest.mark.parametrize(
    ("text", "seconds", "says"),
    [
        ("f(x) := f(x)\ntest_f if f(1) == 1\n", 60.0, "mine_test.rego:3: the function f calls itself"),
        ("test_f if\n", 60.0, "mine_test.rego is not Rego"),
        # a parser that tries each bracket twice
        ("x := " + "[" * 60 + "1" + "]" * 60 + "\n", 2.0, "does not come to an end: tried for 2 s"),
        (
            "test_x if count([1 | some x in numbers.range(1, 100000); some y in numbers.range(1, 100000)]) == 1\n",
            2.0,
            "does not come to an end: tried for 2 s",
        ),
        ("test_x if count(numbers.range(1, 900000000)) == 1\n", 60.0, "the process that loads it"),
    ],
)
def test_what_crashes_hangs_or_eats_memory_is_refused(text: str, seconds: float, says: str) -> None:
    assert says in refused(bundle_with(text), seconds)


def test_a_rule_that_hangs_only_when_it_is_asked_of_its_own_destination_is_refused() -> None:
    rego = (
        'package coatcheck\nimport rego.v1\ndeny := {"decision": "deny", "rule": "x"}\nplan := deny\nname := deny\n'
        'verdict := deny if input.destination.host != "api.example.com"\n'
        "verdict := deny if { input.destination.host; "
        "count([1 | some x in numbers.range(1, 100000); some y in numbers.range(1, 100000)]) > 0 }\n"
        "default verdict := {}\n"
    ).replace("default verdict := {}\n", "verdict := deny if not input.destination\n")
    data = parse_data("destinations: [{name: api, hosts: [api.example.com]}]")
    assert "come to an end" in refused(make_bundle({"p.rego": rego}, data), 1.0)


def test_a_child_that_is_ended_from_outside_is_a_refusal() -> None:
    slow = bundle_with("test_x if count([1 | some x in numbers.range(1, 100000); some y in numbers.range(1, 9999)])\n")
    before = children()
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(refused, slow)
        while not outcome.done():
            for pid in children() - before:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        assert "ends the process" in outcome.result()


def test_trials_beside_each_other_and_beside_explanations() -> None:
    """As control does it: reloads in threads of the executor, explanations in the loop's."""
    data = "destinations: [{name: api, hosts: [api.example.com], principals: [p], rules: [{name: r}]}]"
    checked = check_policy(Config(), MODULES, data)
    stop = threading.Event()

    def reload(number: int) -> int:
        done = 0
        while not stop.is_set():
            result = check_policy(Config(), MODULES, data.replace("name: r", f"name: r{number}-{done}"))
            assert f"r{number}-{done}" in result.bundle.data
            done += 1
        return done

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(reload, number) for number in range(2)]
        for _ in range(20):
            found = explain_policy(Config(), checked, ExplainAsk("p", "https://api.example.com/x"))
            assert found.verdict is not None
            assert found.verdict.rule == "api/r"
        stop.set()
        assert all(each.result() > 0 for each in running)


def test_an_engine_answers_no_other_thread() -> None:
    """regorus' engines are of one thread. Asked by another, the policy denies: it does not end the asker."""
    from appliance.policy.engine import ERROR_RULE, Policy
    from tests.policy.asking import claims, destination

    policy = Policy(bundle_with("", "destinations: [{name: api, hosts: [api.example.com], principals: [deploy]}]"))
    assert policy.plan(claims(), destination()).decision == "allow"
    with ThreadPoolExecutor(1) as threads:
        there = threads.submit(policy.plan, claims("deploy", ("other",)), destination()).result()
    assert (there.decision, there.rule) == ("deny", ERROR_RULE)
    assert policy.plan(claims("deploy", ("third",)), destination()).decision == "allow"


def test_the_child_holds_no_descriptor_of_ours_and_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    slow = bundle_with("test_x if count([1 | some x in numbers.range(1, 100000); some y in numbers.range(1, 9999)])\n")
    before = children()
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(refused, slow, 3.0)
        while not children() - before:
            time.sleep(0.01)
        os.close(writing)
        assert os.read(reading, 1) == b""  # the end of the pipe: nobody else has it open
        assert not outcome.done()
        outcome.result()
    os.close(reading)
    assert capfd.readouterr() == ("", "")
