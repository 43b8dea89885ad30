"""Workload rules: each condition alone, all together, and that nothing missing ever matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.schema import Workload, WorkloadMatch
from appliance.identity.workloads import compile_workloads, principal_of
from appliance.model.errors import Denied
from appliance.model.facts import Ancestor, ProcessFacts
from tests.identity.facts import BASE, SHA, facts

HOLDING: dict[str, Any] = {
    "uid": (0, 1000),
    "gid": (27,),
    "exe": "/usr/bin/*",
    "exe_sha256": (SHA.upper(),),
    "cmdline": r"curl .*",
    "cgroup": "/coatcheck.slice/*",
    "unit": "actions.runner.*.service",
    "label": "c*",
    "launched_uid": (1000,),
    "ancestor_exe": "/usr/lib/systemd/**",
}
FAILING: dict[str, Any] = {
    "uid": (0,),
    "gid": (5,),
    "exe": "/usr/bin/cur",
    "exe_sha256": ("cd" * 32,),
    "cmdline": "curl",
    "cgroup": "/coatcheck.slice",
    "unit": "runner",
    "label": "ci-2",
    "launched_uid": (0, -1),
    "ancestor_exe": "/usr/lib",
}
MISSING: dict[str, list[dict[str, Any]]] = {
    "uid": [{"uid": -1}],
    "gid": [{"gid": -1, "groups": ()}, {"complete": False}],
    "exe": [{"exe": ""}, {"complete": False}, {"exe": "/usr/bin/curl (deleted)"}],
    "exe_sha256": [{"exe_sha256": ""}, {"complete": False}],
    "cmdline": [{"cmdline": ()}, {"complete": False}, {"cmdline": ("curl", "a" * 256)}, {"cmdline": ("curl",) * 64}],
    "cgroup": [{"cgroup": ""}],
    "unit": [{"unit": ""}, {"complete": False}],
    "label": [{"job_label": ""}],
    "launched_uid": [{"launched_uid": -1}],
    "ancestor_exe": [{"ancestors": ()}, {"ancestors": (Ancestor(1, "", "x"),)}, {"complete": False}],
}
# Rules as wide as can be written: even these must not match what is missing.
WIDEST: dict[str, Any] = {
    "uid": (-1, 0, 1000),
    "gid": (-1, 27),
    "exe": "**",
    "exe_sha256": ("", SHA),
    "cmdline": ".*",
    "cgroup": "**",
    "unit": "**",
    "label": "**",
    "launched_uid": (-1, 0, 1000),
    "ancestor_exe": "**",
}


def matches(facts_: ProcessFacts, **match: Any) -> bool:
    compiled = compile_workloads([Workload(name="w", match=WorkloadMatch.model_construct(**match), groups=("g",))])
    try:
        principal = principal_of(compiled, facts_)
    except Denied:
        return False
    assert (principal.name, principal.groups) == ("w", ("g",))
    return True


def test_the_tables_name_every_condition() -> None:
    assert set(HOLDING) == set(FAILING) == set(MISSING) == set(WIDEST) == set(WorkloadMatch.model_fields)


@pytest.mark.parametrize("key", HOLDING)
def test_each_condition_alone(key: str) -> None:
    assert matches(BASE, **{key: HOLDING[key]})
    assert matches(BASE, **{key: WIDEST[key]})
    assert not matches(BASE, **{key: FAILING[key]})


@pytest.mark.parametrize("key", MISSING)
def test_a_missing_fact_never_matches(key: str) -> None:
    for change in MISSING[key]:
        assert not matches(facts(**change), **{key: WIDEST[key]}), change


@given(st.sets(st.sampled_from(sorted(HOLDING))), st.sets(st.sampled_from(sorted(FAILING))))
def test_all_that_is_written_must_hold(holding: set[str], failing: set[str]) -> None:
    match = {key: HOLDING[key] for key in holding} | {key: FAILING[key] for key in failing}
    assert matches(BASE, **match) is (not failing)


def test_the_first_that_matches_names_the_principal() -> None:
    compiled = compile_workloads(
        [
            Workload(name="no", match=WorkloadMatch(uid=(5,))),
            Workload(name="first", match=WorkloadMatch(uid=(1000,)), groups=("a", "b")),
            Workload(name="second", match=WorkloadMatch(uid=(1000,))),
        ]
    )
    assert principal_of(compiled, BASE).name == "first"


def test_no_workload_no_principal() -> None:
    with pytest.raises(Denied) as caught:
        principal_of((), BASE)
    assert caught.value.rule == "no-workload"
    assert "/usr/bin/curl" in str(caught.value)


def test_no_job_no_principal() -> None:
    assert not matches(facts(job=""))


def test_a_deleted_ancestor_does_not_match() -> None:
    assert not matches(facts(ancestors=(Ancestor(2, "/opt/x (deleted)", "x"),)), ancestor_exe="/opt/*")


def test_an_incomplete_process_still_has_its_primary_group() -> None:
    assert matches(facts(complete=False, groups=(), exe="", exe_sha256=""), gid=(1000,), uid=(1000,))


@pytest.mark.parametrize(
    ("match", "text"),
    [({"cmdline": "("}, "workload w: match.cmdline"), ({"exe": ""}, "workload w: match.exe"), ({"label": ""}, "label")],
)
def test_a_pattern_that_is_none_is_named(match: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        compile_workloads([Workload(name="w", match=WorkloadMatch.model_construct(**match))])
