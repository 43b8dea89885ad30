"""A setting that is named by a condition is the one that the condition names; in any other form it may be any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.sql.dangers import ANY_SETTING, SETTING_MARKS
from appliance.sql.statements import Statement, statements

PG_DUMP = (
    "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings "
    "WHERE name = 'restrict_nonsystem_relation_kind'"
)
VALUES = ["", "on", "off", "admin", "pg_catalog", "secret", "utf8", "sjis", "it''s"]
SETTINGS = [*SETTING_MARKS, "restrict_nonsystem_relation_kind", "app.x", "ROLE", "Search_Path", "", "it''s"]


def only(text: str, *, server_first: bool = True) -> Statement:
    (statement,) = statements(text, server_first=server_first)
    return statement


def test_pg_dump_sets_what_it_names() -> None:
    assert only(PG_DUMP).marks == ("set-config", "set-other")
    assert set(only(PG_DUMP, server_first=False).marks) >= ANY_SETTING


NAMES = ["name", "pg_settings.name"]
NAMES_OF_BOTH = [("pg_settings", each) for each in NAMES] + [
    ("pg_catalog.pg_settings", each) for each in [*NAMES, "pg_catalog.pg_settings.name"]
]


@given(
    st.sampled_from(["set_config", "pg_catalog.set_config", "SET_CONFIG"]),
    st.sampled_from(NAMES_OF_BOTH),
    st.sampled_from(NAMES),
    st.sampled_from(SETTINGS),
    st.sampled_from(VALUES),
    st.sampled_from(["true", "false"]),
)
def test_it_is_what_the_constant_name_is(
    function: str, source: tuple[str, str], by: str, setting: str, value: str, local: str
) -> None:
    relation, name = source
    rest = f"'{value}', {local}) from {relation} where {by} = '{setting}'"
    named, constant = only(f"select {function}({name}, {rest}"), only(f"select {function}('{setting}', {rest}")
    assert named._replace(end=0) == constant._replace(end=0)
    assert named.marks == only(f"select set_config('{setting}', '{value}', {local})").marks


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("set_config(", "s.set_config("),
        ("set_config(", "distinct set_config("),
        ("set_config(", "1, set_config("),
        ("set_config(", "upper(set_config("),
        ("(name,", "(name::text,"),
        ("(name,", "(upper(name),"),
        ("(name,", "(setting,"),
        ("(name,", "(p.name,"),
        ("(name,", "(pg_catalog.pg_settings.name,"),
        ("(name,", "(s.pg_settings.name,"),
        ("(name,", "((pg_settings).name,"),
        ("(name,", "('ro' || 'le',"),
        ("(name,", "($1,"),
        ("(name,", "((select name from t),"),
        ("(name,", "(setting_name => name,"),
        ("'view, foreign-table'", "setting"),
        ("'view, foreign-table'", "$1"),
        ("'view, foreign-table'", "'view'::text"),
        ("'view, foreign-table'", "null"),
        ("'view, foreign-table'", "1"),
        ("false)", "'f')"),
        ("false)", "$1)"),
        ("false)", "null)"),
        ("false)", "not true)"),
        ("false)", "false, false)"),
        ("false)", "false) over ()"),
        ("false)", "false) filter (where true)"),
        ("false)", "variadic false)"),
        ("false)", "false order by name)"),
        ("false)", "false) as x"),
        ("false)", "false), 1"),
        ("false)", "false), set_config(name, '', true)"),
        ("FROM pg_settings", ""),
        ("FROM pg_settings", "FROM t"),
        ("FROM pg_settings", "FROM s.pg_settings"),
        ("FROM pg_settings", "FROM pg_temp.pg_settings"),
        ("FROM pg_settings", "FROM d.pg_catalog.pg_settings"),
        ("FROM pg_settings", "FROM only pg_settings"),
        ("FROM pg_settings", "FROM pg_settings p"),
        ("FROM pg_settings", "FROM pg_settings p (category, name)"),
        ("FROM pg_settings", "FROM t pg_settings"),
        ("FROM pg_settings", "FROM pg_settings() pg_settings"),
        ("FROM pg_settings", "FROM pg_settings, t"),
        ("FROM pg_settings", "FROM t, pg_settings"),
        ("FROM pg_settings", "FROM pg_settings join t using (name)"),
        ("FROM pg_settings", "FROM pg_settings cross join t"),
        ("FROM pg_settings", "FROM pg_settings tablesample system (1)"),
        ("FROM pg_settings", "FROM (select 'role' as name) pg_settings"),
        ("FROM pg_settings", "FROM (values ('role')) pg_settings (name)"),
        ("FROM pg_settings", 'FROM "PG_SETTINGS"'),
        ("WHERE name", "WHERE not name"),
        ("WHERE name", "WHERE setting"),
        ("WHERE name", "WHERE name::char(4)"),
        ("WHERE name", "WHERE upper(name)"),
        ("WHERE name", "WHERE true or name"),
        ("WHERE name", "WHERE true and name"),
        ("WHERE name", "WHERE t.name"),
        ("WHERE name", 'WHERE name collate "x"'),
        ("name =", "name <>"),
        ("name =", "name ~"),
        ("name =", "name like"),
        ("name =", "name operator(s.=)"),
        ("name =", "name operator(pg_catalog.=)"),
        ("name =", "name is not distinct from"),
        ("name = 'restrict_nonsystem_relation_kind'", "'restrict_nonsystem_relation_kind' = name"),
        ("= 'restrict_nonsystem_relation_kind'", "in ('restrict_nonsystem_relation_kind')"),
        ("= 'restrict_nonsystem_relation_kind'", "= any ('{restrict_nonsystem_relation_kind}')"),
        ("'restrict_nonsystem_relation_kind'", "'restrict_nonsystem_relation_kind'::text"),
        ("'restrict_nonsystem_relation_kind'", "name 'restrict_nonsystem_relation_kind'"),
        ("'restrict_nonsystem_relation_kind'", "$1"),
        ("'restrict_nonsystem_relation_kind'", "name"),
        ("'restrict_nonsystem_relation_kind'", "null"),
        ("'restrict_nonsystem_relation_kind'", "B'1'"),
        ("'restrict_nonsystem_relation_kind'", "(select 'role')"),
        ("_kind'", '_kind\' collate "x"'),
        ("_kind'", "_kind' or name = 'role'"),
        ("_kind'", "_kind' and true"),
        ("_kind'", "_kind' group by name"),
        ("_kind'", "_kind' group by 1 having true"),
        ("_kind'", "_kind' order by 1"),
        ("_kind'", "_kind' limit 1"),
        ("_kind'", "_kind' offset 0"),
        ("_kind'", "_kind' for update"),
        ("_kind'", "_kind' window w as ()"),
        ("_kind'", "_kind' union select 'a'"),
        ("SELECT", "select 'a' union all SELECT"),
        ("SELECT", "with pg_settings as (select 'role' as name) SELECT"),
        ("SELECT", "with recursive pg_settings as (select 'role' as name) SELECT"),
        ("SELECT", "with x as (select 1) SELECT"),
        ("SELECT", "explain analyze SELECT"),
        ("SELECT", "prepare p as SELECT"),
        ("SELECT", "declare c cursor for SELECT"),
        ("SELECT", "create view v as SELECT"),
        ("SELECT", "create table t as SELECT"),
        ("SELECT", "insert into t SELECT"),
        ("SELECT", "select 1 from t where a in (SELECT"),
        ("SELECT", "copy (SELECT"),
    ],
)
def test_any_other_form_may_set_whatever_there_is(part: str, other: str) -> None:
    assert part in PG_DUMP
    text = PG_DUMP.replace(part, other)
    if "upper(set_config(" in text:
        text = text.replace("false)", "false))")
    if text.startswith(("select 1 from t where", "copy")):
        text += ")" if "copy" not in text else ") to stdout"
    found = only(text)
    assert found == only(text, server_first=False)
    assert set(found.marks) >= ANY_SETTING | {"set-config"}
