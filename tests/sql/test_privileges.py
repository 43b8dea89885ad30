"""Real servers as the oracle: what a role must have for a statement, the statement is found to touch.

Each text is explained by roles of which each lacks one privilege. Where the server refuses one, a rule that refuses the
same thing must fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import psycopg
import pytest

from appliance.model.row_functions import GIVING_ROWS, OF_ANY_ROW
from appliance.model.verdict import PostgresPlan, SqlOperation
from appliance.policy.statements import column_pattern, function_pattern
from appliance.session.sql_operation import operation_of
from appliance.sql.statements import statements
from tests.lineage.servers import VERSIONS, Server

SETUP = """
    create table customers (id int primary key, email text, note text);
    create table orders (id int primary key, email text, note text);
    create function wipe(int) returns int language plpgsql as 'begin return 1; end';
    revoke execute on function wipe from public;
    create role no_email;
    grant all on orders to no_email;
    grant execute on function wipe to no_email;
    grant select (id, note), insert (id, note), update (id, note), delete on customers to no_email;
    create role no_wipe;
    grant all on customers, orders to no_wipe;
"""
EMAIL = column_pattern("public.customers.email", refuses=True)
WIPE = function_pattern("public.wipe", refuses=True)

# Each needs the column customers.email, or the function wipe
TEXTS = """
    select note from customers where email = 'x'
    select postgres.public.customers.email from public.customers
    select customers from customers
    select c.* from customers c, orders
    select e from customers as c(a, e)
    select c.e from only customers as c(a, e)
    select e from customers as c(a, e) tablesample system (1)
    select j.b from (customers cross join orders) as j(a, b)
    select b from (orders join customers using (id)) as j(a, b, c, d, e) where d = 'x'
    select x.b from (select * from customers) as x(a, b)
    select 1 from customers natural join orders
    select 1 from orders join customers using (email)
    select j.email from (customers cross join (select 1) o) j
    select email(c) from customers c
    select (c).email from customers c
    select (select x.email) from customers x, orders
    select 1 from orders o, lateral (select email from customers) c
    with x(a) as (select email from customers) select 1 from x where a = 'y'
    delete from orders using customers old where orders.id = old.id returning old.email
    update orders set note = 'x' from customers new where orders.id = new.id returning new.email
    delete from customers using (orders old cross join orders o) j returning customers
    insert into customers (id) values (1) on conflict (id) do update set note = excluded.email
    insert into customers (id) values (1) returning email
    insert into customers as email (id) values (1) returning email.email
    update customers set note = email
    merge into orders using customers as c(a, b) on c.b = orders.note when matched then delete
    select wipe(1)
    select postgres.public.wipe(1)
    select (1).wipe
    select g.wipe from generate_series(1, 2) g
    select c.id from customers c order by (c.id).wipe
    select 1 from wipe(1) w, orders
"""
CALL = 'explain select c."{}" from customers c'
RETURNED = """select proname::text, bool_and(t.typtype = 'c' or t.oid in ('record'::regtype, 'anyelement'::regtype))
    from pg_proc join pg_type t on t.oid = prorettype group by 1"""
# They take any row, too, and tell nothing of its values, or fail.
TELL_NOTHING = """count json_build_object jsonb_build_object num_nonnulls num_nulls pg_collation_for
    pg_column_compression pg_column_toast_chunk_id pg_restore_attribute_stats pg_restore_relation_stats pg_typeof"""
CASES = [text.strip() for text in TEXTS.strip().splitlines()]


class Asked(NamedTuple):
    owner: psycopg.Connection[tuple[object, ...]]
    no_email: psycopg.Connection[tuple[object, ...]]
    no_wipe: psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module", params=VERSIONS)
def asked(request: pytest.FixtureRequest) -> Iterator[Asked]:
    server = Server(request.param)
    try:
        found = Asked(server.connect(), server.connect(), server.connect())
        found.owner.execute(SETUP)
        found.no_email.execute("set role no_email")
        found.no_wipe.execute("set role no_wipe")
        yield found
    finally:
        server.close()


def operation(text: str) -> SqlOperation:
    (statement,) = statements(text, server_first=True)
    return operation_of(statement, PostgresPlan(), "postgres", "app", (), is_utf8=True)


def lacks(connection: psycopg.Connection[tuple[object, ...]], text: str) -> bool:
    try:
        connection.execute(f"explain {text}".encode())
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


@pytest.mark.parametrize("text", CASES)
def test_what_a_role_would_need_is_found(asked: Asked, text: str) -> None:
    asked.owner.execute(f"explain {text}".encode())  # that it is valid
    needs_email, needs_wipe = lacks(asked.no_email, text), lacks(asked.no_wipe, text)
    assert needs_email or needs_wipe
    touched = operation(text)
    if needs_email:
        assert any(re.match(EMAIL, column) for column in touched.columns)
    if needs_wipe:
        assert any(re.match(WIPE, function) for function in touched.functions)


def test_each_function_of_any_row_is_known(asked: Asked) -> None:
    """`row.name`, where the row has no such column. Those that are known count as all that is in the row."""
    names = "select distinct proname::text from pg_proc where pronamespace = 'pg_catalog'::regnamespace"
    found: set[str] = set()
    for (name,) in asked.owner.execute(names).fetchall():
        try:
            asked.owner.execute(CALL.format(name).encode())
        except psycopg.Error:
            continue
        found.add(str(name))
    assert "to_json" in found
    assert found - set(TELL_NOTHING.split()) <= OF_ANY_ROW
    for each in OF_ANY_ROW:
        assert "public.customers.*" in operation(CALL.format(each)).columns, each


def test_what_gives_rows_does(asked: Asked) -> None:
    rows = {str(name): given for name, given in asked.owner.execute(RETURNED).fetchall()}
    assert [name for name in GIVING_ROWS if not rows.get(name, True)] == []
