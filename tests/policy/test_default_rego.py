"""What the shipped Rego allows, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.verdict import Operation
from tests.policy.asking import claims, destination, operation, policy, spec

RULES = [
    {"name": "never", "paths": ["/a/secret/**"], "decision": "deny", "reason": "not this", "ask": "ask Ann"},
    {"name": "read", "methods": ["GET", "HEAD"], "paths": ["/a/**"]},
    {"name": "wait", "methods": ["POST"], "paths": ["/a/*/b"], "decision": "hold"},
    {"name": "json", "methods": ["PUT"], "content_types": ["application/json"]},
    {"name": "with-a", "methods": ["PATCH"], "credentials": ["a"]},
    {"name": "without", "methods": ["DELETE"], "credentials": []},
]
RULED = policy(spec(rules=RULES, secrets=["a", "b"], upgrade=["websocket"]))
WILD = policy(spec(hosts=["*.example.com"]))


def decided(**changes: Any) -> tuple[str, str]:
    plan = RULED.plan(claims(), destination())
    verdict = RULED.verdict(claims(), destination(), plan, operation(**changes))
    return verdict.decision, verdict.rule


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=5).map(".".join)


@given(hosts)
def test_a_host_that_is_not_listed_is_never_allowed(host: str) -> None:
    if host != "api.example.com":
        assert RULED.plan(claims(), destination(host)).decision == "deny"
        assert RULED.name_allowed(claims(), host).decision == "deny"


@pytest.mark.parametrize(
    "host",
    [
        "evilapi.example.com",
        "api.example.com.evil.net",
        "api.example.com.",
        "API.example.com",
        "api.example.com\0",
        "api.example.com\n",
        "\napi.example.com",
        "evil.net\0.api.example.com",
        "x.api.example.com",
        "example.com",
        "apiXexample.com",
        "",
        " api.example.com",
        "api.example.com:443",
        "user@api.example.com",
        "api。example.com",
    ],
)
def test_a_name_that_only_looks_alike_is_denied(host: str) -> None:
    assert RULED.plan(claims(), destination(host)).decision == "deny"
    assert RULED.name_allowed(claims(), host).decision == "deny"


@given(labels)
def test_a_wildcard_is_exactly_one_label(label: str) -> None:
    assert WILD.plan(claims(), destination(f"{label}.example.com")).decision == "allow"
    for host in (f"{label}.{label}.example.com", f"{label}example.com", f"{label}.example.com.net", "example.com"):
        assert WILD.plan(claims(), destination(host)).decision == "deny"


@pytest.mark.parametrize("host", [".example.com", "a..example.com", "a\n.example.com", "a\0.example.com", "*.example"])
def test_a_wildcard_is_no_odd_label(host: str) -> None:
    assert WILD.plan(claims(), destination(host)).decision == "deny"
    assert WILD.name_allowed(claims(), host).decision == "deny"


def test_nothing_is_allowed_without_data() -> None:
    empty = policy()
    assert empty.plan(claims(), destination()).decision == "deny"
    assert empty.name_allowed(claims(), "api.example.com").decision == "deny"


def test_neither_principals_nor_groups_is_nobody() -> None:
    assert policy(spec(principals=[])).plan(claims(), destination()).decision == "deny"


def test_principal_or_group_and_label() -> None:
    p = policy(spec(groups=["ci"], labels=["nightly"]))
    for who, allowed in (
        (claims("deploy", label="nightly"), True),
        (claims("deploy", label="daily"), False),
        (claims("other", ("ci",), "nightly"), True),
        (claims("other", ("c", "cii"), "nightly"), False),
        (claims("ci", (), "nightly"), False),  # a principal named like a group is not in it
    ):
        assert (p.plan(who, destination()).decision == "allow") is allowed
        assert (p.name_allowed(who, "api.example.com").decision == "allow") is allowed


@pytest.mark.parametrize(
    ("protocol", "seen", "mode", "tls"),
    [
        ("http", {"tls"}, "http", True),
        ("plain-http", {"http"}, "http", False),
        ("tunnel", {"tls", "unknown"}, "tunnel", True),
    ],
)
def test_protocol(protocol: str, seen: set[str], mode: str, tls: bool) -> None:
    p = policy(spec(protocol=protocol))
    for each in ("tls", "http", "unknown", "dns"):
        plan = p.plan(claims(), destination(protocol=each))
        assert (plan.decision == "allow") is (each in seen)
        if each in seen:
            assert (plan.mode, plan.upstream_tls, plan.destination) == (mode, tls, "api")


def test_port() -> None:
    p = policy(spec(ports=[443, 8443]))
    assert [p.plan(claims(), destination(port=n)).decision for n in (443, 8443, 80)] == ["allow", "allow", "deny"]


def test_the_first_destination_that_fits_is_the_plan() -> None:
    p = policy(spec("one", ports=[1]), spec("two", secrets=["s"], addresses=["192.0.2.0/24"]), spec("three"))
    plan = p.plan(claims(), destination())
    assert (plan.destination, plan.secrets, plan.addresses) == ("two", ("s",), ("192.0.2.0/24",))


def test_rules_in_order() -> None:
    assert decided(path="/a/secret/x") == ("deny", "api/never")
    assert decided(path="/a/x") == ("allow", "api/read")
    assert decided(method="POST", path="/a/x/b") == ("hold", "api/wait")

    assert decided(method="POST", path="/a/x%2Fy/b") == ("hold", "api/wait")  # a refusal goes across %2F


@pytest.mark.parametrize(
    "path",
    ["/a/secret/x", "/a%2Fsecret/x", "/a/secret%2Fx", "/a%2Fsecret%2Fx/y", "/a;v=1/secret/x", "/a/secret;b/x/y;c"],
)
def test_a_refused_path_is_refused_in_every_reading(path: str) -> None:
    assert decided(path=path) in (("deny", "api/never"), ("deny", "api/default-deny"))
    p = policy(spec(rules=[RULES[0], {"name": "all"}]))
    plan = p.plan(claims(), destination())
    assert p.verdict(claims(), destination(), plan, operation(path=path)).rule == "api/never"


def test_package_names_with_an_escaped_slash() -> None:
    p = policy(spec(rules=[{"name": "ours", "paths": ["/@acme%2F*"]}]))
    plan = p.plan(claims(), destination())
    said = {
        path: p.verdict(claims(), destination(), plan, operation(path=path)).decision
        for path in ("/@acme%2Fname", "/@acme/name", "/@acme%2Fname%2Fx", "/@other%2Fname", "/@acme%2Fname/-/x.tgz")
    }
    assert [path for path, decision in said.items() if decision == "allow"] == ["/@acme%2Fname"]


def test_a_refusal_says_why_and_how_to_ask() -> None:
    verdict = RULED.verdict(claims(), destination(), RULED.plan(claims(), destination()), operation(path="/a/secret/x"))
    assert (verdict.reason, verdict.ask) == ("not this", "ask Ann")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "OPTIONS"},
        {"method": "get"},
        {"path": "/b"},
        {"path": "/a"},
        {"path": "/A/x"},
        {"path": "x/a/b"},
        {"path": "/x/a/b"},
        {"path": "*"},
        {"method": "POST", "path": "/a/x/y/b"},
        {"method": "POST", "path": "/a/x/bc"},
        {"method": "PUT", "content_type": "text/plain"},
        {"method": "PUT"},
        {"method": "PATCH"},
        {"method": "PATCH", "credentials": ("b",)},
        {"method": "PATCH", "credentials": ("a", "b")},
        {"method": "DELETE", "credentials": ("a",)},
    ],
)
def test_what_no_rule_allows_is_denied(changes: dict[str, Any]) -> None:
    assert decided(**changes) == ("deny", "api/default-deny")


@given(st.from_regex(r"[A-Z]{1,10}", fullmatch=True), st.from_regex(r"/[a-z/]{0,20}", fullmatch=True))
def test_an_unlisted_method_or_path_is_never_allowed(method: str, path: str) -> None:
    listed = (method in ("GET", "HEAD") and path.startswith("/a/")) or method == "DELETE"
    assert (decided(method=method, path=path)[0] == "allow") is (listed and not path.startswith("/a/secret/"))


def test_content_type_and_credentials() -> None:
    assert decided(method="PUT", content_type="application/json") == ("allow", "api/json")
    assert decided(method="PATCH", credentials=("a",)) == ("allow", "api/with-a")
    assert decided(method="DELETE") == ("allow", "api/without")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
@pytest.mark.parametrize("rules", [{}, {"rules": [{"name": "all"}]}])
def test_trace_and_connect_are_never_allowed(method: str, rules: dict[str, Any]) -> None:
    p = policy(spec(**rules))
    verdict = p.verdict(claims(), destination(), p.plan(claims(), destination()), operation(method))
    assert verdict.decision == "deny"
    assert verdict.rule.endswith("no-trace")


def test_an_upgrade_must_be_named() -> None:
    assert decided(upgrade="websocket") == ("allow", "api/read")
    assert decided(upgrade="websocket2") == ("deny", "api/no-upgrade")
    plain = policy(spec())
    plan = plain.plan(claims(), destination())
    assert plain.verdict(claims(), destination(), plan, operation(upgrade="websocket")).decision == "deny"


def test_no_rules_is_all_requests_and_an_empty_list_is_none() -> None:
    cases: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({}, ("allow", "api/any")),
        ({"rules": []}, ("deny", "api/default-deny")),
    ]
    for rules, expected in cases:
        p = policy(spec(**rules))
        verdict = p.verdict(claims(), destination(), p.plan(claims(), destination()), operation())
        assert (verdict.decision, verdict.rule) == expected


def test_a_plan_that_denies_allows_no_operation() -> None:
    p = policy(spec())
    plan = p.plan(claims("other"), destination())
    assert p.verdict(claims("other"), destination(), plan, operation()).decision == "deny"


BY_NAMES = policy(
    spec(
        secrets=["a", "b"],
        rules=[
            {"name": "not-b", "methods": ["GET"], "credentials": ["b"], "decision": "deny"},
            {"name": "wait", "methods": ["GET"], "query": ["force"], "decision": "hold"},
            {"name": "anonymous", "methods": ["PUT"], "credentials": [], "decision": "deny"},
            {"name": "bare", "methods": ["PUT"], "query": [], "decision": "deny"},
            {"name": "pages", "methods": ["GET"], "query": ["page", "size"]},
            {"name": "all"},
        ],
    )
)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"credentials": ("b",)}, "not-b"),
        ({"credentials": ("a", "b")}, "not-b"),  # something allowed beside it does not get it past the refusal
        ({"credentials": ("a",)}, "pages"),
        ({}, "pages"),
        ({"query": ("force",)}, "wait"),
        ({"query": ("force", "page")}, "wait"),
        ({"query": ("page",)}, "pages"),
        ({"query": ("page", "x")}, "all"),  # what allows must know every parameter
        ({"method": "PUT"}, "anonymous"),
        ({"method": "PUT", "credentials": ("a",)}, "bare"),
        ({"method": "PUT", "credentials": ("a",), "query": ("x",)}, "all"),
    ],
)
def test_what_refuses_takes_one_listed_name_as_enough_and_what_allows_needs_all(
    changes: dict[str, Any], rule: str
) -> None:
    plan = BY_NAMES.plan(claims(), destination())
    assert BY_NAMES.verdict(claims(), destination(), plan, operation(**changes)).rule == f"api/{rule}"


names = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True).map(sorted).map(tuple)


@settings(deadline=None)  # a policy is compiled for each
@given(names, names, names)
def test_more_names_in_use_never_get_a_request_past_a_refusal(
    listed: tuple[str, ...], there: tuple[str, ...], more: tuple[str, ...]
) -> None:
    def asked(key: str, names: tuple[str, ...]) -> Operation:
        changes: dict[str, Any] = {key: names}
        return operation(**changes)

    for key in ("credentials", "query"):
        rules = [{"name": "no", key: listed or ("a",), "decision": "deny"}, {"name": "all"}]
        p = policy(spec(secrets=["a", "b", "c"], rules=rules))
        plan = p.plan(claims(), destination())
        few = p.verdict(claims(), destination(), plan, asked(key, there))
        many = p.verdict(claims(), destination(), plan, asked(key, tuple(sorted({*there, *more}))))
        assert not (few.decision == "deny" and many.decision == "allow")
