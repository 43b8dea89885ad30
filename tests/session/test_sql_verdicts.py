"""What people and drivers send, from its text to the verdict: a reader of public.*, and somebody who may write, too."""

from __future__ import annotations

import pytest

from appliance.model.verdict import Verdict
from appliance.policy.engine import Policy
from appliance.policy.statements import COMMANDS, HARMLESS_MARKS, OTHER_MARKS
from appliance.session.sql_operation import operation_of, server_first, unparsed
from appliance.sql.commands import COMMANDS as WORDS
from appliance.sql.dangers import ALL_OF_SETTINGS, FUNCTION_MARKS
from appliance.sql.statements import Unparsed, statements
from tests.policy.asking import claims, policy, sql_place, sql_spec

READER = policy(sql_spec({"name": "read", "commands": ["read"], "tables": ["public.*"]}))
WRITER = policy(
    sql_spec(
        {"name": "whole", "commands": ["update", "delete"], "where": False, "decision": "hold"},
        {"name": "all", "commands": ["read", "write"], "tables": ["public.*"]},
        role="app_user",
    )
)


def judged(p: Policy, text: str) -> Verdict:
    plan = p.plan(claims(), sql_place())
    assert plan.postgres is not None
    try:
        (statement,) = statements(text, server_first=server_first(plan.postgres))
        operation = operation_of(statement, plan.postgres, "shop", "app", (), is_utf8=True)
    except Unparsed:
        operation = unparsed("shop", "app")
    return p.verdict(claims(), sql_place(), plan, operation)


ALLOWED = """
    SELECT 1
    SELECT version()
    VALUES (1, 2)
    TABLE orders
    SELECT count(*), now(), CURRENT_TIMESTAMP FROM orders o WHERE o.id = ANY($1) AND o.j->>'x' LIKE 'y%'
    SELECT upper(name) || 'x', coalesce(a, 0)::text, extract(year from d) FROM customers GROUP BY 1 ORDER BY 2 LIMIT 3
    SELECT json_build_object('a', a), json_agg(b) OVER (), array_agg(c) FROM orders
    WITH o AS (SELECT * FROM orders) SELECT o.*, g FROM o, generate_series(1, 3) g FOR UPDATE
    SELECT current_schema(), current_user, session_user, current_setting('x')
    SELECT nextval('s')
    SELECT pg_advisory_unlock_all()
    SELECT set_config('app.user', '3', true)
    SELECT set_config(name, 'view', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'
    SELECT * FROM pg_catalog.pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    SELECT format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid) FROM pg_attribute, pg_attrdef
    SELECT * FROM information_schema.columns
    BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY
    START TRANSACTION
    COMMIT
    SAVEPOINT a
    ROLLBACK TO a
    SHOW standard_conforming_strings
    SET statement_timeout = 3
    SET TIME ZONE 'UTC'
    SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
    RESET ALL
    CLOSE ALL
    UNLISTEN *
    DEALLOCATE ALL
    COPY orders TO STDOUT
    COPY (SELECT * FROM orders) TO STDOUT
    EXPLAIN ANALYZE SELECT * FROM orders
    DECLARE c CURSOR FOR SELECT * FROM orders
    FETCH 3 FROM c
    PREPARE p AS SELECT * FROM orders
    EXECUTE p(3)
"""
REFUSED = """
    SELEC 1
    SELECT * FROM secret.orders
    SELECT (SELECT a FROM secret.x LIMIT 1)
    SELECT * FROM orders WHERE EXISTS (TABLE secret.x)
    WITH orders AS (SELECT * FROM secret.x) SELECT * FROM orders
    SELECT 1 FROM "public.secret".orders
    SELECT * FROM U&"\\0073ecret".orders
    SELECT/**/lo_export(1,'x')
    SELECT pg_read_file('/etc/passwd')
    SELECT pg_catalog.pg_read_file('/etc/passwd')
    SELECT ('/etc/passwd'::text).pg_read_file
    SELECT f.pg_read_file FROM unnest(array['/etc/passwd']) f
    SELECT (o.id).my_function FROM orders o
    SELECT my_function(1)
    SELECT public.count(1)
    SELECT "pg_catalog.now"()
    SELECT 1 FROM orders WHERE a OPERATOR(public.@@@) b
    SELECT query_to_xml('select 1', true, true, '')
    SELECT pg_terminate_backend(1)
    SELECT pg_notify('a', 'b')
    SELECT set_config('search_path', 'secret', false)
    SELECT set_config($1, 'secret', false)
    SELECT set_config(name, 'secret', false) FROM pg_settings WHERE name = 'search_path'
    SELECT set_config(name, 'admin', false) FROM pg_settings WHERE name = 'role'
    SELECT set_config(name, 'secret', false) FROM pg_settings WHERE name = 'work_mem' OR name = 'search_path'
    EXECUTE p(pg_read_file('/etc/passwd'))
    SELECT * FROM pg_stats
    SELECT * FROM pg_stat_activity
    SELECT * FROM pg_authid
    COPY orders TO '/tmp/x'
    COPY orders TO PROGRAM 'x'
    COPY secret.orders TO STDOUT
    SET search_path = secret
    SET LOCAL search_path TO secret
    SET client_encoding TO 'SJIS'
    SET standard_conforming_strings = off
    SET ROLE admin
    SET SESSION AUTHORIZATION x
    EXPLAIN ANALYZE EXECUTE p
    DO $$ begin end $$
    CALL p()
    LISTEN x
    NOTIFY x
    LOAD 'x'
    ALTER SYSTEM SET x = 1
    VACUUM
    GRANT SELECT ON orders TO x
    CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'
"""
CHANGES = """
    INSERT INTO orders VALUES (1)
    UPDATE orders SET a = 1 WHERE id = 3
    DELETE FROM orders WHERE id = 3
    COPY orders FROM STDIN
    INSERT INTO orders VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1
    MERGE INTO orders USING orders o ON o.id = orders.id WHEN MATCHED THEN DELETE
    EXPLAIN ANALYZE DELETE FROM orders WHERE id = 3
    PREPARE p AS UPDATE orders SET a = 1 WHERE id = $1
    WITH d AS (DELETE FROM orders WHERE id = 3 RETURNING *) SELECT * FROM d WHERE id = 4
    TRUNCATE orders
"""
HELD = """
    DELETE FROM orders
    DELETE FROM orders WHERE true
    UPDATE orders SET a = 1
    MERGE INTO orders USING orders o ON true WHEN MATCHED THEN DELETE
    EXPLAIN ANALYZE DELETE FROM orders
    PREPARE p AS DELETE FROM orders
    WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d WHERE id = 4
"""
SCHEMA = """
    CREATE TABLE x AS SELECT * FROM orders
    SELECT * INTO x FROM orders
    DROP TABLE orders
    CREATE VIEW v AS SELECT * FROM orders
"""


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("text", lines(ALLOWED))
def test_reading_is_allowed_to_both(text: str) -> None:
    assert judged(READER, text).decision == "allow", judged(READER, text).reason
    assert judged(WRITER, text).decision == "allow", judged(WRITER, text).reason


@pytest.mark.parametrize("text", lines(REFUSED))
def test_what_reaches_further_is_denied_to_both(text: str) -> None:
    assert judged(READER, text).decision == "deny"
    assert judged(WRITER, text).decision == "deny"


@pytest.mark.parametrize("text", lines(CHANGES))
def test_changes_are_allowed_to_the_writer(text: str) -> None:
    assert judged(READER, text).decision == "deny"
    assert judged(WRITER, text).decision == "allow", judged(WRITER, text).reason


@pytest.mark.parametrize("text", lines(HELD))
def test_changes_of_every_row_are_held(text: str) -> None:
    assert judged(READER, text).decision == "deny"
    assert judged(WRITER, text).decision == "hold"


@pytest.mark.parametrize("text", lines(SCHEMA))
def test_the_schema_is_for_neither(text: str) -> None:
    assert judged(READER, text).decision == judged(WRITER, text).decision == "deny"


@pytest.mark.parametrize("text", ["DISCARD ALL", "RESET ROLE", "RESET SESSION AUTHORIZATION", "SET ROLE NONE"])
def test_a_locked_role_is_kept(text: str) -> None:
    assert judged(WRITER, text).decision == "deny"


def test_without_a_locked_role_a_session_may_be_made_as_new() -> None:
    assert judged(READER, "DISCARD ALL").decision == "allow"


def test_policy_knows_the_words_of_the_analysis() -> None:
    assert set(WORDS.values()) <= COMMANDS
    assert {mark for marks in FUNCTION_MARKS.values() for mark in marks} <= HARMLESS_MARKS | OTHER_MARKS
    assert ALL_OF_SETTINGS <= HARMLESS_MARKS | OTHER_MARKS
