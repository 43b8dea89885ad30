"""What is found in a statement, table by table; and laws that hold for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgast.pg_query_pb2 import DESCRIPTOR

from appliance.model.errors import PeerError
from appliance.sql.commands import command_of
from appliance.sql.grammar import Node
from appliance.sql.statements import Relation, Statement, Unparsed, statements
from tests.sql.texts import COMMANDS, TEXTS

SETTINGS = "client-encoding role search-path set-other standard-conforming-strings"


def only(text: str) -> Statement:
    found = statements(text)
    assert len(found) == 1
    return found[0]


def words(relations: tuple[Relation, ...]) -> str:
    return " ".join(f"{r.schema}.{r.name}" if r.schema else r.name for r in relations)


def columns(statement: Statement) -> set[str]:
    return {f"{words((relation,))}.{name}" if relation else f"?.{name}" for relation, name in statement.columns}


@pytest.mark.parametrize(("text", "command"), COMMANDS.items())
def test_command(text: str, command: str) -> None:
    assert only(text).command == command


def test_every_statement_of_the_grammar_has_a_command() -> None:
    """But for what never stands alone: parts of others, and what PL/pgSQL alone can say."""
    not_alone = {"RawStmt", "PLAssignStmt", "SetOperationStmt", "ReplicaIdentityStmt"}
    kinds = {f.message_type.name for f in DESCRIPTOR.message_types_by_name["Node"].fields}
    known_by_fields: dict[str, Node] = {
        "CopyStmt": {},
        "TransactionStmt": {"kind": "TRANS_STMT_BEGIN"},
    }
    for kind in kinds:
        if kind.endswith("Stmt") and kind not in not_alone:
            assert command_of(kind, known_by_fields.get(kind, {})) != "other", kind
    assert command_of("NewerStmt", {}) == "other"


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        ("select 1", "", ""),
        ("select * from t", "t", ""),
        ("table t", "t", ""),
        ("values (1, (select a from t))", "t", ""),
        ("select * from only s.t, u *", "u s.t", ""),
        ("select * from a join b using (x) left join lateral (select * from c where c.y = a.y) c on true", "a b c", ""),
        (
            "select * from a tablesample system (10), rows from (generate_series(1, 2), f((select x from b))) r",
            "a b",
            "",
        ),
        (
            "select (select 1 from a), exists (select from b), x in (select y from c), array(select z from d)",
            "a b c d",
            "",
        ),
        ("select a from t order by (select 1 from u) limit (select 2 from v) offset (select 3 from w)", "t u v w", ""),
        (
            "select sum(x) filter (where y in (select y from u)) over (partition by (select 1 from v)) from t",
            "t u v",
            "",
        ),
        ("select 1 from a union select 2 from b except (select 3 from c intersect select 4 from d)", "a b c d", ""),
        ("select case when (select true from a) then (select 1 from b) else (select 2 from c) end", "a b c", ""),
        ("select * from t for update of t", "t", ""),
        ("select * into x from t", "t", "x"),
        ("select * from json_table((select j from a), '$[*]' columns (x int path '$.x')) t", "a", ""),
        ("select * from xmltable('/r' passing (select x from a) columns c int default (select 1 from b))", "a b", ""),
        (
            "select json_object('a': (select 1 from a)), json_arrayagg((select x from b)), json_array(select 1 from c)",
            "a b c",
            "",
        ),
        (
            "select xmlelement(name n, xmlattributes((select 1 from a) as b)),"
            " xmlserialize(content (select x from c) as text)",
            "a c",
            "",
        ),
        ("select grouping(a), (select 1 from u) from t group by grouping sets ((a), rollup (b))", "t u", ""),
        (
            "select x[(select 1 from a)], (f((select r from b))).c, row((select 1 from c)),"
            " least((select 2 from d), 1)",
            "a b c d",
            "",
        ),
        # WITH
        ("with a as (select 1) select * from a", "", ""),
        ("with a as (select * from a) select * from a", "a", ""),
        ("with recursive a as (select * from a) select * from a", "", ""),
        ("with a as (select * from b), b as (select * from a) select * from a, b", "b", ""),
        ("with recursive a as (select * from b), b as (select * from a) select * from a, b", "", ""),
        ("with a as (select 1) select * from s.a", "s.a", ""),
        ("select * from (with a as (select 1) select * from a) x, a", "a", ""),
        ("with a as (select 1) select (with b as (select * from a) select * from b), (select 1 from b)", "b", ""),
        ("with a as (select 1) select 1 from a union select 2 from a", "", ""),
        ("(with a as (select 1) select 1 from a) union select 2 from a", "a", ""),
        ("with a as (select 1) insert into a select * from a", "", "a"),
        ("insert into t with a as (select * from u) select * from a", "u", "t"),
        ("with a as (select 1) update a set x = 1", "", "a"),
        ("with a as (select 1 x) update t set y = 1 from a where t.x = a.x", "t", "t"),
        ("with a as (delete from t returning *) insert into u select * from a", "t", "t u"),
        ("with a as (select 1) delete from t using a where t.x = a.x", "t", "t"),
        ("with a as (select 1), b as (insert into t select * from a returning *) select * from b, c", "c t", "t"),
        # changes
        ("insert into t values (1)", "", "t"),
        ("insert into t default values returning a", "t", "t"),
        ("insert into t as x values (1) on conflict (a) do update set b = (select c from u) where x.a > 1", "t u", "t"),
        ("insert into t values (1) on conflict do nothing", "t", "t"),
        ("update t set a = 1", "", "t"),
        ("update t set a = a + 1", "t", "t"),
        ("update only s.t set (a, b) = (select c, d from u) from v where t.a = v.a", "u v s.t", "s.t"),
        ("delete from t", "", "t"),
        ("delete from t using u where t.a = u.a", "t u", "t"),
        ("delete from t where current of c", "t", "t"),
        (
            "merge into t using (select * from s) s on t.a = s.a when matched and s.b in (select b from x) then delete"
            " when not matched then insert (a) values ((select 1 from y)) returning merge_action(), t.*",
            "s t x y",
            "t",
        ),
        ("truncate a, s.b cascade", "", "a s.b"),
        ("copy t from stdin", "", "t"),
        ("copy t (a, b) to stdout with (format csv, header)", "t", ""),
        ("copy (select * from a) to stdout", "a", ""),
        ("copy (delete from a returning *) to stdout", "a", "a"),
        ("copy t from '/etc/passwd' where a in (1)", "", "t"),
        ("lock table a, b in share mode", "", "a b"),
        # statements around others
        ("explain analyze delete from t", "", "t"),
        ("prepare p (int) as select * from t where a = $1", "t", ""),
        ("declare c cursor with hold for select * from t", "t", ""),
        ("create table x as select * from t", "t", "x"),
        ("create temp table x as execute p (1)", "", "x"),
        ("create or replace view v as select * from t", "t", "v"),
        ("create recursive view v (a) as select 1 union all select a + 1 from v", "", "v"),
        ("create materialized view v as select * from t with no data", "t", "v"),
        ("refresh materialized view concurrently v", "", "v"),
        ("create rule r as on insert to t do instead (insert into a values (new.x); delete from b)", "", "a b t"),
        ("create function f() returns int begin atomic select 1 from a; insert into b values (1); end", "a", "b"),
        ("create function f() returns int return (select 1 from a)", "a", ""),
        ("create schema s create table t (a int references u) create view v as select * from w", "u w", "t v"),
        # definitions
        ("create table t (a int references u (x) default f((select 1)), like v, check (a > 0))", "u v", "t"),
        ("create table c () inherits (p)", "", "c p"),
        ("create table c partition of p for values in (1)", "", "c p"),
        ("create foreign table t (a int) server s", "", "t"),
        ("alter table t add column a int, add foreign key (a) references u, inherit p", "u", "p t"),
        ("alter table t attach partition q default", "", "q t"),
        ("alter table s.t rename column a to b", "", "s.t"),
        ("alter view v set schema s", "", "v s.v"),
        ("alter table s.t rename to u", "", "s.t s.u"),
        ("alter index s.i rename to j", "", "s.i s.j"),
        ("alter type ty rename to tz", "", ""),
        ("alter table t owner to bob", "", "t"),
        ("alter sequence q owned by t.a", "", "q"),
        ("drop table a, s.b cascade", "", "a s.b"),
        ("drop view if exists v", "", "v"),
        ("drop index i", "", "i"),
        ("drop sequence q", "", "q"),
        ("drop trigger g on s.t", "", "s.t"),
        ("drop policy p on t", "", "t"),
        ("drop function f(int)", "", ""),
        ("create index on t (lower(a)) where b > 1", "", "t"),
        ("create trigger g before insert on t for each row when (new.a > 1) execute function f()", "", "t"),
        ("create policy p on t using (a in (select b from u))", "u", "t"),
        ("create statistics s on a, b from t", "", "t"),
        ("create publication p for table t (a) where (b > 1)", "t", ""),
        ("create sequence q", "", "q"),
        ("create type ty as (a int)", "", "ty"),
        ("comment on column s.t.a is 'x'", "", "s.t"),
        ("comment on table t is null", "", "t"),
        ("security label on table t is 'x'", "", "t"),
        ("grant select (a), update on t, s.u to bob", "", "t s.u"),
        ("revoke all on sequence q from bob", "", "q"),
        ("vacuum full a, s.b (c)", "", "a s.b"),
        ("analyze t", "", "t"),
        ("cluster t using i", "", "t"),
        ("reindex table t", "", "t"),
        ("import foreign schema r limit to (a, b) from server s into l", "", "l.a l.b"),
        ("alter extension e add table t", "", "t"),
        # names
        ('select * from "T", T, "a b".c', "T t a b.c", ""),
        ('select * from U&"d\\0061t\\+000061", U&"d!0061t" uescape \'!\'', "dat data", ""),
        ("select * from /* a /* nested */ from x */ t -- from y\n", "t", ""),
        ("select $a$ from x $a$, $$ ' $$, E'\\' from y', 'it''s from z' from t", "t", ""),
        ("select * from " + "x" * 70, "x" * 63, ""),
        ("select * from " + '"' + "é" * 40 + '"', "é" * 31, ""),
        ('select * from "select", "from"', "from select", ""),
        ("select * from d.s.t", "s.t", ""),
        ("select * from public.users users, users", "users public.users", ""),
    ],
)
def test_relations(text: str, reads: str, writes: str) -> None:
    statement = only(text)
    assert words(statement.reads) == reads
    assert words(statement.writes) == writes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select a from t", "t.a"),
        ("select a, t.b, s.t.c from s.t", "s.t.a s.t.b s.t.c"),
        ("select x.a from t x", "t.a"),
        ("select t.a from t x", "?.a"),
        # an alias that is a column's name, too, or a schema's, or another table's that is not seen there
        ("select a from t, u a", "u.* ?.a"),
        ("select s.t.a from s.t, u as s", "s.t.a"),
        ("select x.a from t x, (u x cross join v) j", "t.a u.a"),
        ("select 1 from t x where exists (select from u join v on x.a = 1, w x)", "t.a w.a"),
        ("select 1 from t x where exists (select from f(x.a) f, w x)", "t.a w.a"),
        ("select 1 from t x where exists (select from u x where x.a = 1)", "u.a"),
        ("select s.t.to_json from s.t", "s.t.* s.t.to_json"),
        ("select a from t, u", "?.a"),
        ("select t.a from t, u where u.b = 1", "t.a u.b"),
        ("select * from t, u", "t.* u.*"),
        ("select u.* from t, u", "u.*"),
        ("select t from t", "t.* t.t"),
        ("select to_json(t) from t, u", "t.* t.to_json ?.t"),
        ("select t.to_json from t", "t.* t.to_json"),
        ("select email(t) from t", "t.* t.email t.t"),
        ("select (t).a from t", "t.* t.t"),
        ("select a from t where b = 1 group by c having d > 1 order by e", "t.a t.b t.c t.d t.e"),
        ("select a as x from t order by x", "t.a"),
        ("select a as x from t order by x + 1", "t.a t.x"),
        ("select a from (select b as a from t) s", "t.b ?.a"),
        ("select s.a from (select b as a from t) s", "t.b ?.a"),
        ("select (select b from u where u.c = t.d) from t", "u.c t.d ?.b"),
        ("select (select b from t x) from t", "t.b"),
        ("select count(*) from t", ""),
        ("insert into t (a, b) select c, d from u", "t.a t.b u.c u.d"),
        ("insert into t values (1)", "t.*"),
        (
            "insert into t (a) values (1) on conflict (b) do update set c = excluded.d, e = t.f",
            "t.a t.b t.c t.d t.e t.f",
        ),
        ("insert into t (a) values (1) returning with (old as o) o.b, new.c, d", "t.a t.b t.c t.d"),
        ("update t x set a = x.b where c = 1 returning x.d", "t.a t.b t.c t.d"),
        ("delete from t using u where t.a = u.b", "t.a u.b"),
        ("merge into t using u on t.a = u.b when matched then update set c = u.d", "t.a t.c u.b u.d"),
        ("copy t (a, b) to stdout", "t.a t.b"),
        ("copy t to stdout", "t.*"),
        ("select a from t join u using (k)", "?.a ?.k"),
        ("select t.a from t natural join u", "t.a ?.*"),
        # columns under other names
        ("select b from t as x(a, b)", "t.* t.b"),
        ("select j.a from (t join u on true) as j(a, b)", "?.* ?.a"),
        ("delete from t using u old where t.a = old.b returning old.c, new.d", "t.a t.c t.d u.b u.c"),
        ("merge into t using u new on new.a = 1 when matched then delete returning new.b, old.c", "t.b t.c u.a u.b"),
        ("delete from t using (u old cross join v) j returning old", "t.* u.* ?.old"),
        ("grant select (a) on t to bob", "t.a"),
        ("with x as (select a from t) select b from x", "t.a ?.b"),
        ("select * from f()", "?.*"),
        ("analyze t (a)", "t.a"),
        ("create index on t (a) where b > 1", "t.a t.b"),
        ("create statistics q on a, (b + 1) from t", "t.a t.b"),
        ("create trigger g before update of a, b on t execute function f()", "t.a t.b"),
        ("create table t (a int, unique (b), foreign key (c) references u (d))", "t.b t.c u.d"),
        ("create table t (a int references u (b))", "u.b"),
        # what gives columns other names, or shows them under another table's
        ("alter table s.t rename column a to b", "s.t.a"),
        ("alter view v rename a to b", "v.a"),
        ("alter table t rename to u", "t.*"),
        ("alter materialized view t rename to u", "t.*"),
        ("alter table t set schema s", "t.*"),
        ("alter table t inherit u", "t.*"),
        ("alter table t attach partition u default", "u.*"),
        ("alter table t detach partition u concurrently", "u.*"),
        (
            "alter table t drop a, alter b type int using c + 1, alter d set default 1, drop constraint e",
            "t.a t.b t.c t.d",
        ),
        (
            "alter table t enable trigger g, owner to bob, add column a int, alter e add generated always as identity",
            "t.e",
        ),
        ("alter index i alter 1 set statistics 5", ""),
        ("alter table t rename constraint a to b", ""),
        ("alter sequence q rename to p", "q.*"),
    ],
)
def test_columns(text: str, expected: str) -> None:
    assert columns(only(text)) == set(expected.split())


@pytest.mark.parametrize(
    ("text", "functions"),
    [
        ('select Lower(a), pg_catalog.upper(a), s.F(a), "F"(a)', "F lower s.f upper"),
        (
            "select extract(year from now()), substring('a' from 1), current_user, current_date",
            "current_date current_user extract now substring",
        ),
        ("select * from rows from (f(1), g(2)) x, h(3)", "f g h"),
        ("select a operator(s.+) b, a operator(pg_catalog.-) b, a === b", "operator(===) operator(s.+)"),
        ("select a = any (select 1), a operator(s.=) all (array[1])", "operator(s.=)"),
        ("select a from t order by a using operator(s.<)", "operator(s.<)"),
        ("select a as x from t order by x using operator(s.<)", "operator(s.<)"),
        (
            "select json_object('a': 1), json_array(1), json_value('{}', '$.a'), json_scalar(1)",
            "json_array json_object json_scalar json_value",
        ),
        ("select * from t tablesample s.m (1)", "s.m"),
        ("select * from t tablesample system (1)", ""),
        ("call p(f(1))", "f p"),
        ("create trigger g before insert on t execute function s.f()", "s.f"),
        ("select sum(a) over (order by f(a)) from t", "f sum"),
        ("create table t (a int default f())", "f"),
        ("select 1 where f()", "f"),
        ("execute p (f(1))", "f"),
        # what is called later, by another name or none
        ("create operator + (rightarg = text, function = pg_read_file)", "pg_read_file"),
        ("create operator + (rightarg = text, procedure = 's.f')", "s.f"),
        ("create aggregate a (text) (sfunc = s.f, stype = text, finalfunc = g)", "g s.f"),
        ("create aggregate a (basetype = text, sfunc = f, stype = text)", "f"),
        ("create type r as range (subtype = int, subtype_diff = s.f)", "s.f"),
        ("create type t (input = f, output = g)", "f g"),
        ("create cast (a as text) with function s.f(a)", "s.f"),
        ("create cast (a as text) without function", ""),
        ("create operator class c for type int using btree as operator 1 <, function 1 f(int, int)", "f"),
        ("create language l handler f inline g validator h", "f g h"),
        ("create transform for int language l (from sql with function f(internal))", "f"),
        ("create default conversion c for 'a' to 'b' from f", "f"),
        ("create foreign data wrapper w handler f validator g", "f g"),
        ("create access method m type index handler f", "f"),
        ("alter type t set (analyze = f)", "f"),
        # in the form of a field: whatever has no such field is given to a function of that name
        ("select (1).f, ($1).g, $1.h, ('a'::text).i[1].j from t", "f g h i j"),
        ("select (t.a).f, (t).g, ((select 1)).h from t", "f g h"),
        ("select x.f, y.y, z.a, v.v from lower('A') x, lower('B') y, lower('C') z(a), (select 1) v", "f lower"),
        ("select lower.f from lower('A')", "f lower"),
        ("select (select x.f) from rows from (lower('A')) x", "f lower"),
        (
            "select (json_each('{}')).key, x.value, y.f, z.b"
            " from json_each('{}') x, g(1) with ordinality y, g(2) z(a, b)",
            "g json_each",
        ),
        ("select x.a from f() x(a int)", "f"),
        # behind the name of the database, which is this one or an error
        ("select d.s.f(), d.pg_catalog.lower('A')", "lower s.f"),
        ("select 1 operator(d.s.+) 2, 1 operator(d.pg_catalog.+) 2", "operator(s.+)"),
    ],
)
def test_functions(text: str, functions: str) -> None:
    assert " ".join(only(text).functions) == functions


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("select 1", ""),
        ("select E'a\\nb'", "backslash"),
        ("select 'a\\'", "backslash"),
        ("with a as (select 1) select (select 2)", "cte subquery"),
        ("with a as (update t set x = 1 where y = 2) select 1", "cte writes-in-cte"),
        ("insert into t values (1) returning a", "returning"),
        ("insert into t values (1) on conflict (a) do update set b = 2", "then-update"),
        ("insert into t values (1) on conflict do nothing", ""),
        (
            "merge into t using u on a = b when matched then update set c = 1 when not matched then insert values (1)"
            " when not matched by source then delete",
            "then-delete then-insert then-update",
        ),
        ("merge into t using u on a = b when matched then do nothing", ""),
        ("select 1 into temp t", "into temporary"),
        ("select * from t for no key update skip locked", "locking"),
        ("select * from d.s.t", "catalog"),
        ("create temporary table t ()", "temporary"),
        ("select * from pg_temp.t", "temporary"),
        ("delete from t where true", "where-constant"),
        ("delete from t where 1 = $1", "where-constant"),
        ("delete from t where (select true)", "subquery where-constant"),
        ("delete from t where exists (select 1 from u where u.a = t.a)", "subquery"),
        ("delete from t where a = 1", ""),
        ("explain select 1", "explain"),
        ("explain analyze select 1", "explain explain-analyze"),
        ("explain (analyze off) select 1", "explain"),
        ("explain (analyze 0) select 1", "explain"),
        ("explain (analyze off, analyze) select 1", "explain explain-analyze"),
        ("explain (ANALYZE 'yes') select 1", "explain explain-analyze"),
        ("do $$ begin end $$", "dynamic"),
        ("create function f() returns int language sql as 'select 1'", "dynamic"),
        ("create function f() returns int language c as 'x', 'y'", "dynamic file"),
        ("create function f() returns int return 1", ""),
        ("create function f() returns int set search_path = a return 1", "search-path"),
        ("alter function f() set role = bob", "role"),
        ("select query_to_xml('select 1', true, true, '')", "dynamic"),
        ("select * from pg_catalog.ts_stat('select v from t')", "dynamic"),
        ("select * from dblink('x', 'select 1') t(a int)", "dynamic remote"),
        ("select pg_read_file('x'), pg_ls_dir('.')", "file"),
        ("select lo_import('x'), lo_get(1)", "file large-object"),
        ("select pg_terminate_backend(1)", "server"),
        ("select ('/etc/passwd'::text).pg_read_file", "file"),
        ("select x.pg_read_file from unnest(array['/etc/passwd']) x", "file"),
        (
            "select pg_sleep(1), pg_notify('a', 'b'), pg_try_advisory_lock(1), nextval('q')",
            "advisory-lock notify sequence sleep",
        ),
        ("select pg_logical_slot_get_changes('a', null, null)", "replication"),
        ("copy t to '/tmp/x'", "file"),
        ("copy t from program 'id'", "program"),
        ("load 'x'", "file"),
        ("set search_path to a, b", "search-path"),
        ("set search_path to 'pg_catalog'", "set-other"),
        ("set search_path to PG_CATALOG", "set-other"),
        ('set search_path to "PG_CATALOG"', "search-path"),
        ("set client_encoding = UTF8", "set-other"),
        ('set local "Search_Path" = a', "search-path"),
        ("set schema 'a'", "search-path"),
        ("set search_path to default", "reset search-path"),
        ("reset search_path", "reset search-path"),
        ("alter role bob set search_path = a", "search-path"),
        ("alter database d set role = a", "role"),
        ("alter role all reset all", "client-encoding search-path set-other standard-conforming-strings"),
        ("alter system set search_path = a", "search-path"),
        ("create schema s create table t ()", "search-path"),
        ("select set_config('search_path', 'a', false)", "search-path set-config"),
        ("select set_config('ROLE'::text, 'a', false)", "role set-config"),
        ("select set_config('work_mem', $1, false)", "set-config set-other"),
        ("select set_config($1, 'a', false)", f"dynamic {SETTINGS} set-config"),
        ("select set_config('search' || '_path', 'a', false)", f"dynamic {SETTINGS} set-config"),
        (
            "select pg_catalog.set_config(new_value => 'a', setting_name => 'role', is_local => false)",
            f"dynamic {SETTINGS} set-config",
        ),
        ("select set_config('roleX'::char(4)::text, 'a', false)", f"dynamic {SETTINGS} set-config"),
        ("select U&\"set\\005fconfig\"('role', 'a', false)", "backslash role set-config"),
        ("update pg_settings set setting = 'a' where name = 'search_path'", f"dynamic {SETTINGS}"),
        ("create temp table pg_settings (name char(20))", f"dynamic {SETTINGS} temporary"),
        ("create view pg_temp.pg_settings as select 'role' as name", f"dynamic {SETTINGS} temporary"),
        ("select 1 as name into temp pg_settings", f"dynamic into {SETTINGS} temporary"),
        ("alter table t rename to pg_settings", f"dynamic {SETTINGS}"),
        ("alter materialized view t rename to pg_settings", f"dynamic {SETTINGS}"),
        ("alter table s.pg_settings set schema t", f"dynamic {SETTINGS}"),
        ("insert into s.pg_settings values ('role')", f"dynamic {SETTINGS}"),
        (
            "with x as (select * from (select set_config('role', 'a', true)) y) select 1 from x",
            "cte role set-config subquery",
        ),
        ("set role bob", "role"),
        ("reset role", "reset role"),
        ("set session authorization bob", "role"),
        ("set session authorization default", "reset role"),
        ("set standard_conforming_strings = off", "standard-conforming-strings"),
        ("set names 'latin1'", "client-encoding"),
        ("set client_encoding to 'sjis'", "client-encoding"),
        ("set time zone 'UTC'", "set-other"),
        ("reset all", "all client-encoding reset search-path set-other standard-conforming-strings"),
        ("discard all", "all client-encoding reset role search-path set-other standard-conforming-strings"),
        ("discard temp", ""),
        ("set transaction isolation level serializable", "set-transaction"),
        ("set session characteristics as transaction read only", "set-transaction"),
        ("deallocate all", "all"),
        ('deallocate "all"', ""),
        ("close all", "all"),
        ("unlisten *", "all"),
        ("vacuum", "all"),
        ("reassign owned by a to b", "all"),
        ("drop owned by a cascade", "all cascade"),
        ("alter table all in tablespace a set tablespace b", "all"),
        ("create publication p for all tables", "all"),
        ("create publication p for table t, tables in schema s", "all-in-schema"),
        ("alter publication p add tables in schema current_schema", "all-in-schema"),
        ("create publication p for table t", ""),
        ("grant select on all tables in schema s to bob", "all-in-schema"),
        ("alter default privileges grant select on tables to bob", "all-in-schema"),
        ("grant a to b", "membership"),
        ("alter schema a rename to b", "all-in-schema"),
        ("create role a in role b", "membership"),
        ("create role a role b", "membership"),
        ("create role a admin b", "membership"),
        ("alter group a add user b", "membership"),
        ("drop table t cascade", "cascade"),
        ("alter table t drop a, drop column b cascade", "cascade"),
        ("alter table t drop constraint c cascade", "cascade"),
        ("alter type t drop attribute a cascade", "cascade"),
        ("alter type t rename attribute a to b cascade", "cascade"),
        ("alter domain d drop constraint c cascade", "cascade"),
        ("alter default privileges revoke select on tables from bob cascade", "all-in-schema cascade"),
        ("alter table t drop a restrict, add b int", ""),
        ('select * from "é"', "non-ascii-name"),
        ('with "É" as (select 1) select * from É', "cte non-ascii-name"),
        ('select "é" from t', "non-ascii-name"),
        ('prepare "é" as select 1', "non-ascii-name"),
        ('deallocate "é"', "non-ascii-name"),
        ('fetch "é"', "non-ascii-name"),
        ("declare c binary cursor for select 1", "binary"),
        ("notify a, 'b'", "notify"),
        ("prepare p as select pg_read_file('x')", "file"),
        ("create view v as select set_config('role', 'x', false)", "role set-config"),
        ("create user mapping for bob server s options (password 'x')", "remote"),
        ("create foreign table t (a int) server s options (table_name 'u')", "remote"),
        ("alter table t options (set table_name 'u')", "remote"),
        ("alter foreign table t alter column a options (column_name 'b')", "remote"),
    ],
)
def test_marks(text: str, marks: str) -> None:
    assert " ".join(only(text).marks) == " ".join(sorted(marks.split()))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("select * from t", False),
        ("select * from t where a", True),
        ("update t set a = 1", False),
        ("delete from t where a = 1", True),
        ("delete from t where current of c", True),
        ("explain delete from t where a = 1", True),
        ("explain delete from t", False),
        ("prepare p as update t set a = 1", False),
        ("with x as (delete from t) select 1 from u where a = 1", False),
        ("with x as (delete from t where a = 1) select 1 from u where a = 1", True),
        ("update t set a = 1 where b in (select 1)", True),
        ("copy t from stdin where a = 1", True),
        ("select * from t where true", False),
        ("declare c cursor for select * from t where 1 = $1", False),
        ("create rule r as on update to t do also delete from u where true", False),
        ("merge into t using u on a = b when matched then delete", True),
        ("merge into t using u on true when matched then delete", False),
        ("merge into t using u on a = b when not matched by source then delete", False),
        ("merge into t using u on a = b when not matched by source and c > 1 then delete", True),
        ("merge into t using u on a = b when not matched by source then do nothing", True),
    ],
)
def test_where(text: str, where: bool) -> None:
    assert only(text).where is where


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("prepare p as select 1", "p"),
        ('execute "P"', "P"),
        ("deallocate prepare p", "p"),
        ("deallocate all", ""),
        ("declare c cursor for select 1", "c"),
        ("fetch 5 from c", "c"),
        ("move all in c", "c"),
        ("close c", "c"),
        ("listen Chan", "chan"),
        ("notify chan", "chan"),
        ("savepoint s", "s"),
        ("rollback to s", "s"),
        ("release s", "s"),
        ("prepare transaction 'g'", "g"),
        ('set "Search_Path" = a', "search_path"),
        ("show Work_Mem", "work_mem"),
        ("reset role", "role"),
        ("set session authorization x", "session_authorization"),
        ("create extension e", "e"),
        ("alter role bob login", "bob"),
        ("create function s.f() returns int return 1", "s.f"),
    ],
)
def test_name(text: str, name: str) -> None:
    assert only(text).name == name


def test_inner() -> None:
    explain = only("explain analyze insert into t select 1 from u")
    assert [inner.command for inner in explain.inner] == ["insert"]
    rule = only("create rule r as on delete to t do (select 1; update u set a = 1; notify x)")
    assert [inner.command for inner in rule.inner] == ["select", "update", "notify"]
    assert not rule.where
    made = only("create table x as execute p")
    assert [(inner.command, inner.name) for inner in made.inner] == [("execute", "p")]
    atomic = only("create procedure p() begin atomic; insert into t values (1); select 1; end")
    assert [inner.command for inner in atomic.inner] == ["insert", "select"]


def test_slices() -> None:
    text = "select 'ä' ; ;\n delete from t /* ; */ where a = ';' ; -- end ;\n  values (1)"
    found = statements(text)
    assert [statement.command for statement in found] == ["select", "delete", "select"]
    slices = [text.encode()[statement.start : statement.end].decode() for statement in found]
    assert [only(piece)._replace(start=0, end=0) for piece in slices] == [s._replace(start=0, end=0) for s in found]
    assert statements("") == statements(" ;; -- x") == ()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("selec 1", "sql-syntax"),
        ("select 1; selec 2", "sql-syntax"),
        ("select 'a", "sql-syntax"),
        ('select "a', "sql-syntax"),
        ("select /* a", "sql-syntax"),
        ("select $a$ b $b$", "sql-syntax"),
        ("select 5 !", "sql-syntax"),
        ("select 1x", "sql-syntax"),
        ("select U&'\\d800'", "sql-syntax"),
        ("select 1\0", "sql-encoding"),
        ("select '\ud800'", "sql-encoding"),
        (b"select '\xe4'", "sql-encoding"),
        (b"select '\xc0\xa7'", "sql-encoding"),
        (b"select '\xed\xa0\x80'", "sql-encoding"),
    ],
)
def test_what_cannot_be_read(text: str | bytes, code: str) -> None:
    with pytest.raises(Unparsed) as caught:
        statements(text)
    assert caught.value.code == code
    assert isinstance(caught.value, PeerError)


def test_the_place_of_an_error_is_in_characters() -> None:
    with pytest.raises(Unparsed) as caught:
        statements("select 'ä' form t 'x' y")
    assert caught.value.position == len("select 'ä' form ")


def test_a_long_text_is_refused() -> None:
    with pytest.raises(Unparsed, match="longer"):
        statements("select 1", max_bytes=7)
    statements("select 1", max_bytes=8)


def bare(found: tuple[Statement, ...]) -> list[Statement]:
    """Without the places."""
    return [s._replace(start=0, end=0, inner=tuple(bare(s.inner))) for s in found]


BETWEEN = [";", " ; ;", ";\n-- x\n", ";/* ; */"]
GAPS = [" ", "\n", "\t", " /* ' \" */ ", " --'\n", "\r\n"]


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=5), st.sampled_from(BETWEEN))
def test_texts_put_together_are_their_statements(texts: list[str], between: str) -> None:
    assert bare(statements(between.join(texts))) == [s for text in texts for s in bare(statements(text))]


@given(st.sampled_from(TEXTS), st.lists(st.sampled_from(GAPS), min_size=30))
def test_blanks_and_comments_do_not_matter(text: str, gaps: list[str]) -> None:
    if "'" in text or '"' in text or "$" in text or "--" in text:
        return
    pieces = text.split(" ")
    spaced = "".join(piece + gap for piece, gap in zip(pieces, gaps * 10, strict=False))
    assert bare(statements(spaced)) == bare(statements(text))


@given(st.sampled_from(TEXTS))
def test_what_is_within_is_in_the_outer_too(text: str) -> None:
    for statement in statements(text):
        for inner in statement.inner:
            for field in ("reads", "writes", "columns", "functions", "marks"):
                assert set(getattr(inner, field)) <= set(getattr(statement, field))


@given(st.sampled_from(TEXTS))
def test_statements_are_sorted_and_hashable(text: str) -> None:
    for statement in statements(text):
        hash(statement)
        fields: list[tuple[Any, ...]] = [statement.reads, statement.writes, statement.functions, statement.marks]
        for names in fields:
            assert list(names) == sorted(set(names))
        assert "unknown" not in statement.marks
