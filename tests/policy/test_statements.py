"""What the shipped Rego says of SQL statements, and of PostgreSQL destinations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.verdict import Mask, PostgresPlan, SqlOperation, Verdict
from appliance.policy.engine import Policy
from tests.policy.asking import claims, policy, spec, sql_place, sql_spec, statement


def judged(p: Policy, operation: SqlOperation) -> Verdict:
    plan = p.plan(claims(), sql_place())
    assert plan.decision == "allow"
    return p.verdict(claims(), sql_place(), plan, operation)


def said(p: Policy, operation: SqlOperation) -> tuple[str, str]:
    verdict = judged(p, operation)
    return verdict.decision, verdict.rule


READ = {"name": "read", "commands": ["select"], "tables": ["public.*"]}
READER = policy(sql_spec(READ))


@pytest.mark.parametrize(
    ("operation", "rule"),
    [
        (statement(), "db/read"),
        (statement(functions=("pg_catalog.count", "pg_catalog.now")), "db/read"),
        (statement(reads=()), "db/read"),  # SELECT 1
        (statement(reads=("pg_catalog.pg_type",)), "db/catalogue"),
        (statement(reads=("information_schema.columns",)), "db/catalogue"),
        (statement("begin"), "db/session"),
        (statement("declare", inner=("select",), reads=("pg_catalog.pg_type",)), "db/catalogue"),
        (statement("prepare", inner=("select",), reads=("public.orders",)), "db/read"),
        (statement("explain", inner=("select",), reads=("public.orders",), marks=("explain",)), "db/read"),
        (statement("set"), "db/session"),
    ],
)
def test_what_a_reader_does_every_day_just_works(operation: SqlOperation, rule: str) -> None:
    assert said(READER, operation) == ("allow", rule)


@pytest.mark.parametrize(
    "operation",
    [
        statement(reads=("secret.orders",)),
        statement(reads=("public.orders", "secret.orders")),
        statement(reads=("public.a.b",)),
        statement(reads=("?.orders",)),
        statement(reads=("publicX.orders",)),
        statement(writes=("secret.orders",)),
        statement("insert", writes=("public.orders",)),
        statement(functions=("public.total",)),
        statement(functions=("pg_catalog.pg_read_file",)),
        statement(functions=("pg_catalog.now", "pg_catalog.of_a_later_version")),
        statement(marks=("dynamic",)),
        statement(marks=("a-mark-of-a-later-version",)),
        statement(inner=("delete", "insert", "merge", "update"), marks=("cte", "writes-in-cte")),
        statement("explain", inner=("delete",)),
        statement("declare", inner=("execute",)),
        statement(reads=("pg_catalog.pg_stats",)),
        statement(reads=("pg_catalog.pg_type", "pg_catalog.pg_authid")),
        statement(reads=("information_schema.user_mapping_options",)),
        statement("set", marks=("search-path",)),
        statement("set", functions=("public.f",)),
        statement("do", marks=("dynamic",)),
        statement("unparsed"),
        statement("fastpath", functions=("oid:1598",)),
        statement("copy-out", marks=("program",)),
    ],
)
def test_what_an_allowing_rule_does_not_know_is_denied(operation: SqlOperation) -> None:
    assert said(READER, operation) == ("deny", "db/default-deny")


GUARDED = policy(
    sql_spec(
        {"name": "no-audit", "tables": ["audit.*"], "decision": "deny", "reason": "never", "ask": "ask Ann"},
        {"name": "no-mail", "columns": ["public.customers.email"], "decision": "deny"},
        {"name": "no-sleep", "functions": ["pg_catalog.pg_sleep"], "decision": "deny"},
        {"name": "whole", "commands": ["update", "delete"], "where": False, "decision": "hold", "hold": "5m"},
        {"name": "dynamic", "marks": ["dynamic"], "decision": "hold"},
        {"name": "any", "max_rows": 100, "max_bytes": 2000},
        {"name": "rest", "decision": "deny"},
    )
)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (statement(), ("allow", "db/any")),
        (statement(reads=("audit.log", "public.orders")), ("deny", "db/no-audit")),
        (statement("insert", writes=("audit.log",)), ("deny", "db/no-audit")),
        (statement(reads=("?.log",)), ("deny", "db/no-audit")),  # it might be audit's
        (statement(columns=("public.customers.email",)), ("deny", "db/no-mail")),
        (statement(columns=("public.customers.*",)), ("deny", "db/no-mail")),  # all of it
        (statement(columns=("public.customers.name",)), ("allow", "db/any")),
        (statement(functions=("pg_catalog.now", "pg_catalog.pg_sleep")), ("deny", "db/no-sleep")),
        (statement("delete", writes=("public.orders",)), ("hold", "db/whole")),
        (statement("delete", writes=("public.orders",), where=True), ("allow", "db/any")),
        (statement("insert", writes=("public.orders",)), ("allow", "db/any")),
        (statement("do", marks=("dynamic",)), ("hold", "db/dynamic")),
        (statement("copy-in", writes=("public.orders",), marks=("program",)), ("deny", "db/rest")),
        (statement(functions=("public.f",)), ("deny", "db/rest")),
        (statement("unparsed"), ("deny", "db/rest")),  # not held: nobody could tell what for
        (statement("begin"), ("allow", "db/any")),
        (statement("explain", inner=("delete",), writes=("public.orders",)), ("hold", "db/whole")),
        (statement(inner=("delete",), marks=("writes-in-cte",)), ("hold", "db/whole")),
        (statement("create-view", inner=("select",), writes=("public.v",)), ("allow", "db/any")),
    ],
)
def test_rules_in_order(operation: SqlOperation, expected: tuple[str, str]) -> None:
    assert said(GUARDED, operation) == expected


def test_a_verdict_says_how_long_and_how_much() -> None:
    held = judged(GUARDED, statement("delete", writes=("public.orders",)))
    assert (held.hold_seconds, held.max_rows, held.max_bytes) == (300, 0, 0)
    assert judged(GUARDED, statement("do", marks=("dynamic",))).hold_seconds == 300
    allowed = judged(GUARDED, statement())
    assert (allowed.hold_seconds, allowed.max_rows, allowed.max_bytes) == (0, 100, 2000)
    refused = judged(GUARDED, statement(reads=("audit.log",)))
    assert (refused.reason, refused.ask) == ("never", "ask Ann")


def test_what_is_not_known_is_allowed_by_naming_it() -> None:
    p = policy(
        sql_spec(
            {"name": "f", "commands": ["select"], "functions": ["public.total*"]},
            {"name": "do", "commands": ["do"], "marks": ["dynamic"]},
            {"name": "copy", "commands": ["copy-in"], "tables": ["public.*"], "marks": ["*"]},
            {"name": "fast", "commands": ["fastpath"], "functions": ["oid:1598"]},
        )
    )
    assert said(p, statement(functions=("public.total", "pg_catalog.now"))) == ("allow", "db/f")
    assert said(p, statement(functions=("public.total_of",))) == ("allow", "db/f")
    assert said(p, statement(functions=("public.total", "public.other")))[0] == "deny"
    assert said(p, statement("do", marks=("dynamic",))) == ("allow", "db/do")
    assert said(p, statement("do", marks=("dynamic", "role")))[0] == "deny"
    assert said(p, statement("copy-in", writes=("public.a",), marks=("file",))) == ("allow", "db/copy")
    assert said(p, statement("fastpath", functions=("oid:1598",))) == ("allow", "db/fast")
    assert said(p, statement("fastpath", functions=("oid:15980",)))[0] == "deny"


@pytest.mark.parametrize(
    ("rules", "changes", "parsed", "unreadable"),
    [
        ([{"name": "any"}], {}, False, "allow"),
        ([], {}, True, "deny"),
        ([{"name": "any", "users": ["app"]}], {}, True, "allow"),
        ([{"name": "any", "users": ["other"]}], {}, True, "deny"),
        ([{"name": "any", "max_rows": 5}], {}, True, "allow"),
        ([{"name": "wait", "decision": "hold"}], {}, True, "hold"),
        ([{"name": "any", "commands": ["*"]}], {}, True, "deny"),
        ([{"name": "any", "marks": ["*"], "functions": ["*"]}], {}, True, "deny"),
        ([{"name": "any"}, {"name": "where", "where": True}], {}, True, "deny"),
        ([{"name": "any"}], {"role": "reader"}, True, "deny"),
        ([{"name": "any"}], {"search_path": ["app"]}, True, "deny"),
        ([{"name": "any"}], {"search_path": []}, False, "allow"),
        ([{"name": "any"}], {"masks": [{"name": "m", "names": ["email"]}]}, True, "deny"),
    ],
)
def test_what_cannot_be_read_is_denied_as_soon_as_statements_matter(
    rules: list[dict[str, Any]], changes: dict[str, Any], parsed: bool, unreadable: str
) -> None:
    p = policy(sql_spec(*rules, **changes))
    plan = p.plan(claims(), sql_place())
    assert plan.postgres is not None
    assert plan.postgres.judged is parsed
    assert judged(p, statement("unparsed")).decision == unreadable
    if not parsed:
        everything = statement("do", functions=("public.f",), marks=("dynamic", "file"), writes=("a.b",))
        assert judged(p, everything).decision == "allow"


def test_session_and_catalogue_can_be_switched_off() -> None:
    p = policy(sql_spec(READ, session="deny", catalogue="deny"))
    assert said(p, statement("begin")) == ("deny", "db/default-deny")
    assert said(p, statement(reads=("pg_catalog.pg_type",))) == ("deny", "db/default-deny")
    assert said(p, statement(reads=())) == ("allow", "db/read")


def test_a_refusal_of_the_rest_spares_session_and_catalogue_and_one_that_names_them_does_not() -> None:
    rest = {"name": "rest", "decision": "deny", "reason": "ask Ann"}
    p = policy(sql_spec(READ, rest))
    assert said(p, statement("begin")) == ("allow", "db/session")
    assert said(p, statement(reads=("pg_catalog.pg_class",))) == ("allow", "db/catalogue")
    assert said(p, statement("truncate", writes=("public.orders",))) == ("deny", "db/rest")
    named = policy(sql_spec({"name": "no-begin", "commands": ["begin"], "decision": "deny"}, READ))
    assert said(named, statement("begin")) == ("deny", "db/no-begin")
    off = policy(sql_spec(READ, rest, session="deny"))
    assert said(off, statement("begin")) == ("deny", "db/rest")


def test_without_an_allowing_rule_nothing_is_allowed() -> None:
    for rules in ([], [{"name": "no", "commands": ["drop-table"], "decision": "deny"}]):
        p = policy(sql_spec(*rules))
        for each in (statement("begin"), statement(reads=()), statement()):
            assert said(p, each) == ("deny", "db/default-deny")


def test_a_denial_names_what_stood_in_the_way() -> None:
    for operation, word in (
        (statement(marks=("dynamic",)), "dynamic"),
        (statement(reads=("secret.a",)), "secret.a"),
        (statement(functions=("public.f",)), "public.f"),
        (statement("unparsed"), "cannot be read"),
        (statement("drop-table", writes=("a.b",)), "drop-table"),
    ):
        assert word in judged(READER, operation).reason


def test_who_and_where() -> None:
    p = policy(
        sql_spec(
            {"name": "ro", "users": ["ro"], "databases": ["shop"], "commands": ["select"]},
            {"name": "by-db", "credentials": ["db"], "commands": ["insert"]},
        )
    )
    assert said(p, statement(user="ro")) == ("allow", "db/ro")
    assert said(p, statement(user="app"))[0] == "deny"
    assert said(p, statement(user="ro", database="other"))[0] == "deny"
    assert said(p, statement("insert", writes=("public.a",))) == ("allow", "db/by-db")
    assert said(p, statement("insert", writes=("public.a",), credentials=()))[0] == "deny"


MASKS = [
    {"name": "mail", "columns": ["public.customers.email"], "how": "partial", "unless_groups": ["support"]},
    {
        "name": "cards",
        "detect": ["credit-card"],
        "unless_principals": ["billing"],
        "expressions": "mask",
        "probing": "allow",
    },
]


def test_the_plan_of_a_database() -> None:
    plan = policy(sql_spec(READ)).plan(claims(), sql_place())
    assert (plan.mode, plan.upstream_tls, plan.postgres) == ("postgres", True, PostgresPlan())
    full = sql_spec(
        READ,
        databases=["shop"],
        users=["app", "ro"],
        login="md5",
        upstream_login=["md5", "none"],
        search_path=["$user", "app"],
        role="reader",
        replication=True,
        record="values",
        masks=MASKS,
        opaque_functions=["public.f"],
    )
    assert policy(full).plan(claims(), sql_place()).postgres == PostgresPlan(
        judged=True,
        databases=("shop",),
        users=("app", "ro"),
        login="md5",
        upstream_login=("md5", "none"),
        search_path=("$user", "app"),
        role="reader",
        replication=True,
        record="values",
        masks=(
            Mask("mail", columns=("public.customers.email",), how="partial"),
            Mask("cards", detect=("credit-card",), expressions="mask", probing="allow"),
        ),
        opaque_functions=("public.f",),
    )


def test_masks_are_lifted_for_those_that_are_named() -> None:
    p = policy(sql_spec(READ, masks=MASKS, principals=["deploy", "billing"], groups=["support"]))
    for who, there in (
        (claims(), ("mail", "cards")),
        (claims("billing"), ("mail",)),
        (claims("deploy", ("support",)), ("cards",)),
        (claims("billing", ("support",)), ()),
        (claims("support", ("support",)), ("cards",)),  # a principal named like a group is not in it by that
    ):
        plan = p.plan(who, sql_place())
        assert plan.postgres is not None
        assert tuple(mask.name for mask in plan.postgres.masks) == there
        assert plan.postgres.judged


def test_protocol_and_port() -> None:
    for protocol, tls in (("postgres", True), ("plain-postgres", False)):
        p = policy(spec("db", protocol=protocol, rules=[{"name": "any"}]))
        plan = p.plan(claims(), sql_place())
        assert (plan.decision, plan.mode, plan.upstream_tls) == ("allow", "postgres", tls)
        for other in (sql_place(port=443), sql_place(protocol="tls"), sql_place(protocol="unknown")):
            assert p.plan(claims(), other).decision == "deny"
    assert policy(spec()).plan(claims(), sql_place(port=443)).decision == "deny"


relations = st.lists(
    st.sampled_from(["public.a", "public.b", "secret.a", "?.a", "pg_catalog.pg_class"]), max_size=3, unique=True
)
marks = st.lists(st.sampled_from(["dynamic", "file", "role"]), max_size=2, unique=True)
functions = st.lists(st.sampled_from(["pg_catalog.now", "public.f", "secret.f"]), max_size=2, unique=True)
commands = st.sampled_from(["select", "insert", "begin", "do", "drop-table"])


def built(command: str, r: list[str], w: list[str], f: list[str], m: list[str]) -> SqlOperation:
    return statement(
        command, reads=tuple(sorted(r)), writes=tuple(sorted(w)), functions=tuple(sorted(f)), marks=tuple(sorted(m))
    )


@given(commands, relations, relations, functions, marks, relations, relations, functions, marks)
def test_a_statement_that_does_more_is_never_allowed_where_one_that_does_less_is_refused(
    command: str,
    r: list[str],
    w: list[str],
    f: list[str],
    m: list[str],
    more_r: list[str],
    more_w: list[str],
    more_f: list[str],
    more_m: list[str],
) -> None:
    few = judged(LAWFUL, built(command, r, w, f, m)).decision
    many = judged(
        LAWFUL, built(command, list({*r, *more_r}), list({*w, *more_w}), list({*f, *more_f}), list({*m, *more_m}))
    ).decision
    assert not (few != "allow" and many == "allow")


LAWFUL = policy(
    sql_spec(
        {"name": "no-secret", "tables": ["secret.*"], "decision": "deny"},
        {"name": "wait", "functions": ["secret.*"], "decision": "hold"},
        {"name": "no-role", "marks": ["role"], "decision": "deny"},
        {"name": "read", "commands": ["read"], "reads": ["public.*"], "writes": [], "functions": ["public.*"]},
        {"name": "write", "commands": ["write"], "writes": ["public.a"], "marks": ["file"]},
        {"name": "do", "commands": ["do"], "marks": ["dynamic"], "tables": ["*"]},
    )
)
