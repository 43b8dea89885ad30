"""The shipped Rego against a few lines of Python that were written from docs/policy.md alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.asking import claims, destination, operation, policy

HOSTS = ["a.example.com", "b.example.com", "x.a.example.com", "example.com"]
NAMES = ["red", "blue"]
SEEN = {"http": ("tls",), "plain-http": ("http",), "tunnel": ("tls", "unknown")}


def some(values: list[Any], least: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=2, unique=True)


rule = st.fixed_dictionaries(
    {"decision": st.sampled_from(["allow", "deny", "hold"])},
    optional={
        "methods": some(["GET", "POST", "PUT"], 1),
        "paths": some(["/a", "/a/*", "/a/**", "/*/b", "/**"], 1),
        "content_types": some(["application/json", "text/plain"], 1),
        "credentials": some(NAMES),
        "query": some(["page", "force"]),
    },
)
dest = st.fixed_dictionaries(
    {
        "hosts": some([*HOSTS, "*.example.com", "*.a.example.com"], 1),
        "ports": some([443, 80], 1),
        "protocol": st.sampled_from(["http", "plain-http"]),
        "principals": some(NAMES),
        "groups": some(NAMES),
        "labels": some(NAMES),
        "upgrade": some(["websocket"]),
    },
    optional={"rules": st.lists(rule, max_size=4)},  # no such key: no rule
)
asked_where = st.tuples(st.sampled_from(HOSTS), st.sampled_from([443, 80]), st.sampled_from(["tls", "http", "unknown"]))
asked_who = st.tuples(st.sampled_from(NAMES), some(NAMES).map(tuple), st.sampled_from(NAMES))
asked_what = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "TRACE", "CONNECT"]),
        "path": st.sampled_from(["/a", "/a/x", "/a/x/y", "/x/b", "/", "/b"]),
        "content_type": st.sampled_from(["", "application/json", "text/html"]),
        "upgrade": st.sampled_from(["", "websocket", "other"]),
        "credentials": some([*NAMES, "green"]).map(sorted).map(tuple),
        "query": some(["page", "force", "other"]).map(sorted).map(tuple),
    }
)


def glob_fits(glob: str, path: str) -> bool:
    if not glob:
        return not path
    if glob.startswith("**"):
        return any(glob_fits(glob[2:], path[n:]) for n in range(len(path) + 1))
    if glob[0] == "*":
        end = (path + "/").index("/")
        return any(glob_fits(glob[1:], path[n:]) for n in range(end + 1))
    return path[:1] == glob[0] and glob_fits(glob[1:], path[1:])


def host_fits(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.partition(".")[2] == pattern[2:]
    return host == pattern


def planned(data: list[dict[str, Any]], where: Any, who: Any) -> dict[str, Any] | None:
    (host, port, protocol), (name, groups, label) = where, who
    for d in data:
        if (
            any(host_fits(pattern, host) for pattern in d["hosts"])
            and port in d["ports"]
            and protocol in SEEN[d["protocol"]]
            and (name in d["principals"] or set(groups) & set(d["groups"]))
            and (not d["labels"] or label in d["labels"])
        ):
            return d
    return None


def listed(names: list[str], there: tuple[str, ...], decision: str, key: str) -> bool:
    if not names:
        return not there
    if decision != "allow":
        return any(each in names for each in there)
    return all(each in names for each in there) and (key == "query" or len(there) > 0)


def judged(d: dict[str, Any], o: dict[str, Any]) -> str:
    if o["method"] in ("TRACE", "CONNECT") or (o["upgrade"] and o["upgrade"] not in d["upgrade"]):
        return "deny"
    for r in d.get("rules", ()):
        if (
            o["method"] in r.get("methods", [o["method"]])
            and any(glob_fits(g, o["path"]) for g in r.get("paths", ["/**"]))
            and o["content_type"] in r.get("content_types", [o["content_type"]])
            and all(key not in r or listed(r[key], o[key], r["decision"], key) for key in ("credentials", "query"))
        ):
            return str(r["decision"])
    return "deny"


@settings(max_examples=200, deadline=None)  # a policy is compiled for each
@given(st.lists(dest, max_size=4), asked_where, asked_who, st.lists(asked_what, min_size=1, max_size=6))
def test_rego_and_oracle_agree(data: list[dict[str, Any]], where: Any, who: Any, what: list[dict[str, Any]]) -> None:
    for number, d in enumerate(data):
        d["name"] = f"d{number}"
        for place, r in enumerate(d.get("rules", ())):
            r["name"] = f"r{place}"
    p = policy(*data)
    asker, there = claims(*who), destination(*where)
    plan, expected = p.plan(asker, there), planned(data, where, who)
    assert (plan.decision == "allow") is (expected is not None)
    if expected is not None:
        assert plan.destination == expected["name"]
        assert p.name_allowed(asker, where[0]).decision == "allow"
        for each in what:
            assert p.verdict(asker, there, plan, operation(**each)).decision == judged(expected, each)
