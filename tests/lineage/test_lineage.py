"""A table of statements and where masked columns go in each; and what must hold of any text."""

# ruff: noqa: E501, S608 - a table of statements
from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from postgast import pg_query_pb2 as pb

from appliance.lineage import expressions
from appliance.lineage.ddl import CHANGES, HARMLESS
from appliance.lineage.lineage import Flow, lineage
from appliance.lineage.relations import Catalogue, Relation
from appliance.lineage.scopes import CLEAN, Columns, Taint
from appliance.model.errors import PeerError

EMAIL, SSN = Taint(1, 0), Taint(2, 0)  # masks 0 and 1


def relation(schema: str, relname: str, oid: int, /, **columns: Taint) -> Relation:
    names = tuple(columns)
    stored = tuple(each != "domain" for each in names)
    return Relation(schema, relname, oid, names, tuple(range(1, len(names) + 1)), tuple(columns.values()), stored)


CATALOGUE = Catalogue(
    [
        relation("public", "users", 10, id=CLEAN, name=CLEAN, email=EMAIL, ssn=SSN, domain=Taint(0, 1)),
        relation("public", "contacts", 11, id=CLEAN, contact=EMAIL, loud=Taint(0, 1)),
        relation("hr", "people", 12, id=CLEAN, email=EMAIL),
    ],
    own_functions=frozenset(("fetch_email", "initcap", "of_row")),
    row_functions=frozenset(("of_row",)),
    own_operators=frozenset(("@@@",)),
)
# statement | passes | expressions | probes | writes | opaque
TABLE = """
SELECT 1 | | | | |
SELECT id, name FROM users | | | | |
SELECT email FROM users | 0 | | | |
SELECT u.email AS x, ssn FROM users u | 0 1 | | | |
SELECT public.users.email FROM public.users | 0 | | | |
SELECT * FROM users | 0 1 | 0 | | |
SELECT u.* FROM users u, orders | 0 1 | 0 | | |
TABLE users | 0 1 | 0 | | |
SELECT * FROM other.users | | | | |
SELECT email FROM elsewhere | | | | |
SELECT email FROM hr.people | 0 | | | |
SELECT email FROM people | | | | |
SELECT u.email FROM users AS u(a, b, c) | | 0 1 | | |
SELECT c FROM users AS u(a, b, c) | 0 | | | |
SELECT domain FROM users | | 0 | | |
SELECT contact, id FROM contacts | 0 | | | |
SELECT loud FROM contacts | | 0 | | |
SELECT lower(email) FROM users | | 0 | | |
SELECT email || '' FROM users | | 0 | | |
SELECT email::text FROM users | | 0 | | |
SELECT email COLLATE "C" FROM users | | 0 | | |
SELECT ssn + 1, name FROM users | | 1 | | |
SELECT CASE WHEN email = 'x' THEN 1 END FROM users | | 0 | | |
SELECT coalesce(email, name) FROM users | | 0 | | |
SELECT greatest(email, 'a') FROM users | | 0 | | |
SELECT ARRAY[email] FROM users | | 0 | | |
SELECT ROW(id, email) FROM users | | 0 | | |
SELECT (id, email) FROM users | | 0 | | |
SELECT u FROM users u | | 0 1 | | |
SELECT users FROM users | | 0 1 | | |
SELECT row_to_json(u) FROM users u | | 0 1 | | |
SELECT u.row_to_json FROM users u | | 0 1 | | |
SELECT to_jsonb(u.*) FROM users u | | 0 1 | | |
SELECT count(u.*) FROM users u | | 0 1 | | |
SELECT u.*::text FROM users u | | 0 1 | | |
SELECT (u).email FROM users u | | 0 | | |
SELECT (u).id FROM users u | | | | |
SELECT (u).* FROM users u | | 0 1 | | |
SELECT (SELECT v FROM users v LIMIT 1).email | | 0 1 | | |
SELECT email(u) FROM users u | | 0 1 | | | email
SELECT id(u) FROM users u | | 0 1 | | | id
SELECT u.of_row FROM users u | | 0 1 | | | of_row
SELECT x.of_row FROM elsewhere x | | | | | of_row
SELECT (x.y).of_row FROM elsewhere x | | | | | of_row
SELECT x.total FROM elsewhere x | | | | |
SELECT ('SELECT email FROM users'::text).dblink | | | | | dblink
SELECT (1).of_own, (id).of_own FROM users | | | | | of_own
SELECT x.dblink FROM lower('A') x | | | | | dblink
SELECT x.x, y.a FROM lower('A') x, lower('A') y(a), json_each('{}') z WHERE z.key = 'a' | | | | |
SELECT (json_each('{}')).key | | | | |
SELECT pg_partition_tree(pg_catalog.concat('x', email)) FROM users | | 0 | 0 | |
SELECT p.isleaf, (pg_identify_object(1, 2, 3)).type FROM pg_catalog.pg_partition_tree('x') p | | | | |
SELECT (ssn).pg_advisory_lock FROM users | | 1 | | 1 |
SELECT max(email) FROM users | | 0 | | |
SELECT count(*) FROM users | | | | |
SELECT count(email) FROM users | | 0 | | |
SELECT count(*) FILTER (WHERE email = 'x') FROM users | | 0 | 0 | |
SELECT count(DISTINCT email) FROM users | | 0 | 0 | |
SELECT string_agg(name, ',' ORDER BY email) FROM users | | 0 | 0 | |
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM users | | 1 | 1 | |
SELECT row_number() OVER (ORDER BY email) FROM users | | 0 | 0 | |
SELECT count(*) OVER (PARTITION BY email) FROM users | | 0 | 0 | |
SELECT rank() OVER w FROM users WINDOW w AS (ORDER BY ssn) | | 1 | 1 | |
SELECT rank() OVER (w ORDER BY id) FROM users WINDOW w AS (PARTITION BY email) | | 0 | 0 | |
SELECT lag(email) OVER (ORDER BY id) FROM users | | 0 | | |
SELECT unnest(string_to_array(email, '@')) FROM users | | 0 | 0 | |
SELECT id FROM users WHERE email = 'x' | | | 0 | |
SELECT id FROM users WHERE lower(email) = 'x' | | | 0 | |
SELECT id FROM users WHERE upper(email::varchar) LIKE upper('x') | | | 0 | |
SELECT id FROM users WHERE email::pg_catalog.text = 'x' | | | 0 | |
SELECT id FROM users WHERE email::text = 'x' | | 0 | 0 | |
SELECT id FROM users WHERE email::int = 1 | | 0 | 0 | |
SELECT id FROM users WHERE to_date(email, 'Y') IS NULL | | 0 | 0 | |
SELECT id FROM users WHERE email IS NOT NULL | | | 0 | |
SELECT id FROM users WHERE ssn BETWEEN 1 AND 2 | | | 1 | |
SELECT id FROM users WHERE 1 IN (ssn, 2) | | | 1 | |
SELECT id FROM users WHERE u = u | | | | |
SELECT id FROM users u WHERE u IS NOT NULL | | | 0 1 | |
SELECT id FROM users ORDER BY email | | | 0 | |
SELECT id, email FROM users ORDER BY id | 0 | | | |
SELECT id, email AS e FROM users ORDER BY e | 0 | | 0 | |
SELECT id, email FROM users ORDER BY 1 | 0 | | 0 | |
SELECT id, name FROM users ORDER BY 2 | | | | |
SELECT name, count(*) FROM users GROUP BY name | | | | |
SELECT email FROM users GROUP BY email | 0 | | 0 | |
SELECT email AS e FROM users GROUP BY e | 0 | | 0 | |
SELECT email FROM users GROUP BY 1 | 0 | | 0 | |
SELECT name FROM users GROUP BY ROLLUP (name, email) | | | 0 | |
SELECT name FROM users GROUP BY name HAVING max(ssn) > 1 | | | 1 | |
SELECT DISTINCT name FROM users | | | | |
SELECT DISTINCT email FROM users | 0 | | 0 | |
SELECT DISTINCT ON (email) id FROM users | | | 0 | |
SELECT id FROM users LIMIT (SELECT max(ssn) FROM users) | | | 1 | |
SELECT id FROM users ORDER BY id FETCH FIRST 3 ROWS WITH TIES | | | | |
SELECT o.id FROM orders o JOIN users u ON u.email = o.email | | | 0 | |
SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id | | | | |
SELECT o.id FROM orders o JOIN users u USING (email) | | | 0 | |
SELECT email FROM orders o JOIN users u USING (email) | 0 | 0 | 0 | |
SELECT id FROM users u JOIN users v USING (id) | | | | |
SELECT o.id FROM orders o NATURAL JOIN users u | | | 0 1 | |
SELECT email FROM orders o NATURAL JOIN users u | 0 | 0 1 | 0 1 | |
SELECT j.x FROM (users u JOIN orders o ON true) AS j(x, y, z) | 0 1 | 0 | | |
SELECT j.y FROM (public.users u JOIN hr.people o ON true) AS j(x, y, z) | 0 1 | 0 | | |
SELECT (SELECT name FROM public.users LIMIT 1) FROM (SELECT email AS name FROM hr.people) s | | 0 | | |
SELECT s.email FROM (SELECT * FROM users) s | 0 | | | |
SELECT s.x FROM (SELECT email AS x FROM users) s | 0 | | | |
SELECT s.x FROM (SELECT email FROM users) s(x) | 0 | | | |
SELECT s.x FROM (SELECT email || '' AS x FROM users) s | | 0 | | |
SELECT s.id FROM (SELECT id, lower(email) FROM users) s | | | | |
SELECT s.case FROM (SELECT id, CASE WHEN true THEN email END FROM users) s | | 0 | | |
SELECT s.id FROM (SELECT id, email FROM users) s WHERE s.email = 'x' | | | 0 | |
SELECT l.y FROM users u, LATERAL (SELECT u.email AS y) l | 0 | | | |
SELECT l.y FROM users u, LATERAL (SELECT email AS y FROM elsewhere) l | 0 | | | |
SELECT g FROM users u, generate_series(1, length(u.email)) g | | 0 | 0 | |
SELECT id FROM users u, generate_series(1, length(u.email)) g | | 0 | 0 | |
SELECT x.a FROM users u, jsonb_to_record(to_jsonb(u)) AS x(a text) | | 0 1 | 0 1 | |
SELECT x.a FROM users u, XMLTABLE('/r' PASSING xmlelement(name r, u.email) COLUMNS a text PATH 'x') x | | 0 | 0 | |
SELECT x.a FROM users u, JSON_TABLE(u.email, '$' COLUMNS (a text PATH '$')) x | | 0 | 0 | |
SELECT v.b FROM users u, LATERAL (VALUES (1, u.email)) v(a, b) | | 0 | | |
SELECT v.a FROM users u, LATERAL (VALUES (1, u.email)) v(a, b) | | | | |
SELECT id FROM users TABLESAMPLE bernoulli (10) | | | | |
SELECT id FROM users TABLESAMPLE odd (10) | | | | | odd
WITH c AS (SELECT email FROM users) SELECT * FROM c | 0 | | | |
WITH users AS (SELECT 1 AS email) SELECT email FROM users | | | | |
WITH users AS (SELECT 1 AS email) SELECT email FROM public.users | 0 | | | |
WITH c(a) AS (SELECT email FROM users) SELECT a FROM c | 0 | | | |
WITH c AS (DELETE FROM users RETURNING email) SELECT * FROM c | 0 | | | |
WITH RECURSIVE r AS (SELECT id, email FROM users UNION ALL SELECT id + 1, email FROM r) SELECT id FROM r | | | | |
WITH RECURSIVE r AS (SELECT id, email FROM users UNION ALL SELECT id + 1, email FROM r) SELECT email FROM r | | 0 | | |
WITH RECURSIVE r(a, b) AS (SELECT name, email FROM users UNION ALL SELECT b, a FROM r) SELECT a FROM r | | 0 | | |
WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT email || '' AS e FROM users) SELECT e FROM a | | 0 | | |
WITH RECURSIVE r AS (SELECT email e FROM users UNION ALL SELECT e FROM r) CYCLE e SET m USING p SELECT p FROM r | | 0 | 0 | |
WITH RECURSIVE r AS (SELECT email e FROM users UNION ALL SELECT e FROM r) SEARCH DEPTH FIRST BY e SET o SELECT o FROM r | | 0 | 0 | |
SELECT email FROM users UNION ALL SELECT name FROM users | | 0 | | |
SELECT name FROM users UNION ALL SELECT email FROM users | | 0 | | |
SELECT id FROM users UNION ALL SELECT id FROM users | | | | |
SELECT email FROM users UNION SELECT '' | | 0 | 0 | |
SELECT name FROM users INTERSECT SELECT email FROM users | | 0 | 0 | |
SELECT name FROM users EXCEPT SELECT email FROM users | | 0 | 0 | |
SELECT (SELECT email FROM users LIMIT 1) | | 0 | | |
SELECT (SELECT email FROM orders LIMIT 1) FROM users | | 0 | | |
SELECT (SELECT email FROM other.users LIMIT 1) FROM orders | | | | |
SELECT ARRAY(SELECT email FROM users) | | 0 | | |
SELECT EXISTS (SELECT email FROM users) | | | | |
SELECT EXISTS (SELECT 1 FROM users WHERE email = 'x') | | | 0 | |
SELECT 'x' IN (SELECT email FROM users) | | 0 | | |
SELECT id FROM orders WHERE email IN (SELECT email FROM users) | | | 0 | |
SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM users u WHERE u.email = o.email) | | | 0 | |
SELECT id FROM orders WHERE user_id IN (SELECT id FROM users) | | | | |
SELECT xmlelement(name a, email) FROM users | | 0 | | |
SELECT json_build_object('a', email), JSON_OBJECT('a': ssn) FROM users | | 0 1 | | |
SELECT JSON_VALUE(email, '$') FROM users | | 0 | | |
SELECT JSON_ARRAYAGG(email) FROM users | | 0 | | |
SELECT 'x' @@@ name FROM users | | | | | operator @@@
SELECT name OPERATOR(public.=) 'x' FROM users | | | | | operator public.=
SELECT nosuch.email FROM users | | 0 1 | | |
SELECT fetch_email(1) | | | | | fetch_email
SELECT hr.fetch_email(id) FROM users | | | | | hr.fetch_email
SELECT initcap(name) FROM users | | | | | initcap
SELECT pg_catalog.lower(name), now() FROM users | | | | |
SELECT public.lower(name) FROM users | | | | | public.lower
SELECT query_to_xml('select 1', true, true, '') | | | | | query_to_xml
SELECT set_config('search_path', '', false) | | | | | set_config
SELECT set_config(name, 'a', false) FROM pg_settings WHERE name = 'b' | | | | | set_config
SELECT set_config('app.x', email, false) FROM users | | 0 | | 0 | set_config
SELECT pg_notify('c', email) FROM users | | 0 | | 0 |
SELECT setval('s', ssn) FROM users | | 1 | | 1 |
SELECT most_common_vals FROM pg_stats | | 0 1 | | | pg_catalog.pg_stats
SELECT 1 FROM pg_catalog.pg_statistic | | | | | pg_catalog.pg_statistic
SELECT * FROM pg_toast.pg_toast_10 | | 0 1 | | | pg_toast.pg_toast_10
SELECT relname FROM pg_class | | | | |
SELECT email INTO x FROM users | | | | 0 |
INSERT INTO x SELECT email FROM users | | | | 0 |
INSERT INTO users (email) VALUES ('x') | | | | |
INSERT INTO users (email) VALUES ('x') RETURNING * | 0 1 | 0 | | |
INSERT INTO users (email) VALUES ((SELECT email FROM hr.people LIMIT 1)) | | | | 0 |
INSERT INTO users (id, email) VALUES (1, 'x') ON CONFLICT (email) DO NOTHING | | | 0 | |
INSERT INTO users (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET email = excluded.email | | | | |
INSERT INTO users (id, email) VALUES (1, 'x') ON CONFLICT ON CONSTRAINT users_email_key DO UPDATE SET id = 1 RETURNING id | | | 0 | |
INSERT INTO users VALUES (1, 'x') ON CONFLICT ON CONSTRAINT users_email_key DO NOTHING | | | 0 1 | |
INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT ON CONSTRAINT users_pkey DO UPDATE SET name = 'y' | | | | |
INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = users.email | | | | 0 |
INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2 WHERE users.ssn = 3 | | | 1 | |
UPDATE users SET name = 'x' WHERE id = 1 | | | | |
UPDATE users SET name = email | | | | 0 |
UPDATE users SET email = lower(email) | | | | 0 |
UPDATE public.users SET email = lower(email) | | | | 0 |
UPDATE public.users SET email = nullif(email, 'x') RETURNING email | 0 | | | 0 |
UPDATE public.users SET email = ssn | | | | 1 |
UPDATE public.users SET email = email::int | | 0 | | 0 |
UPDATE users SET (name, id) = (SELECT email, 1 FROM hr.people) | | | | 0 |
UPDATE users SET name = 'x' WHERE email = 'y' | | | 0 | |
UPDATE orders SET note = u.email FROM users u WHERE u.id = user_id | | | | 0 |
UPDATE users SET id = 1 RETURNING email, id | 0 | | | |
UPDATE users SET id = 1 RETURNING old.email, new.id | 0 | | | |
UPDATE users SET id = 1 RETURNING WITH (OLD AS o) o.ssn | 1 | | | |
UPDATE users SET id = 1 RETURNING old | | 0 1 | | |
DELETE FROM users USING (pairs old CROSS JOIN pairs x) j RETURNING upper(old.email) | | 0 | | |
DELETE FROM users WHERE ssn = 1 RETURNING id | | | 1 | |
DELETE FROM orders USING users u WHERE u.id = orders.user_id RETURNING u.email | 0 | | | |
MERGE INTO users u USING orders o ON u.email = o.email WHEN MATCHED THEN DELETE | | | 0 | |
MERGE INTO orders o USING users u ON u.id = o.user_id WHEN NOT MATCHED THEN INSERT (note) VALUES (u.email) | | | | 0 |
MERGE INTO orders o USING users u ON u.id = o.user_id WHEN MATCHED AND u.ssn > 1 THEN UPDATE SET note = '' | | | 1 | |
MERGE INTO orders o USING users u ON u.id = o.user_id WHEN MATCHED THEN DELETE RETURNING u.email | 0 | | | |
CREATE TABLE x AS SELECT email FROM users | | | | 0 |
CREATE VIEW x AS SELECT lower(email) FROM users | | | | 0 |
CREATE VIEW x AS SELECT id FROM users WHERE email = 'x' | | | 0 | |
CREATE MATERIALIZED VIEW x AS SELECT ssn FROM users | | | | 1 |
CREATE TABLE x (id int, email text DEFAULT 'a' CHECK (length(email) > 1)) | | | | |
CREATE TABLE x (LIKE users INCLUDING ALL) | | | | |
CREATE TABLE x () INHERITS (users) | | | | 0 1 |
CREATE TABLE x (e text REFERENCES users (email)) | | | 0 | |
CREATE TABLE x (e int REFERENCES users (id)) | | | | |
CREATE TABLE x (e int REFERENCES users (id) ON UPDATE CASCADE) | | | | |
CREATE TABLE x (e text REFERENCES users (email) ON UPDATE CASCADE) | | | 0 | 0 |
ALTER TABLE x ADD FOREIGN KEY (e) REFERENCES users ON UPDATE CASCADE | | | 0 1 | 0 1 |
CREATE TABLE x (e int DEFAULT fetch_email(1)) | | | | | fetch_email
CREATE TEMP TABLE users (email text) | | | | |
CREATE SCHEMA s CREATE VIEW v AS SELECT email FROM users | | | | 0 |
CREATE INDEX ON users (email) | | | 0 | |
CREATE INDEX ON users (lower(email)) | | | | 0 |
CREATE INDEX ON users (id) WHERE ssn > 3 | | | | 1 |
ALTER TABLE users RENAME COLUMN email TO e | | | | 0 1 |
ALTER TABLE users RENAME TO u | | | | 0 1 |
ALTER TABLE users SET SCHEMA s | | | | 0 1 |
ALTER TABLE users ADD COLUMN x int | | | | 0 1 |
ALTER TABLE orders ADD COLUMN x int | | | | |
ALTER TABLE orders ATTACH PARTITION users DEFAULT | | | | 0 1 |
ALTER SCHEMA public RENAME TO p | | | | 0 1 |
ALTER SCHEMA s RENAME TO p | | | | |
ALTER FUNCTION fetch_email(int) RENAME TO lower | | | | | RENAME
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'select email from users' | | | | | CREATE FUNCTION
CREATE TRIGGER t AFTER INSERT ON users EXECUTE FUNCTION f() | | | | | CREATE TRIG
CREATE RULE r AS ON INSERT TO x DO SELECT email FROM users | | | | | RULE
CREATE POLICY p ON users USING (email = 'x') | | | | | CREATE POLICY
CREATE OPERATOR @@ (FUNCTION = f, LEFTARG = text, RIGHTARG = text) | | | | | DEFINE
CREATE CAST (text AS int) WITH FUNCTION f(text) | | | | | CREATE CAST
DO 'begin end' | | | | | DO
CALL p(1) | | | | | p
CALL p((SELECT email FROM users)) | | 0 | | | p
LOAD 'x' | | | | | LOAD
EXPLAIN SELECT email FROM users | | | | |
EXPLAIN SELECT id FROM users WHERE email = 'x' | | | 0 | |
EXPLAIN ANALYZE SELECT lower(email) FROM users | | 0 | | |
EXPLAIN ANALYZE INSERT INTO x SELECT email FROM users | | | | 0 |
COPY users TO STDOUT | 0 1 | | | |
COPY users (id, email) TO STDOUT | 0 | | | |
COPY users (id, name) TO STDOUT | | | | |
COPY (SELECT lower(email) FROM users) TO STDOUT | | 0 | | |
COPY users TO '/tmp/x' | | | | 0 1 | COPY TO file
COPY users TO PROGRAM 'cat' | | | | 0 1 | COPY TO PROGRAM
COPY users FROM STDIN | | | | |
COPY users FROM STDIN WHERE email = 'x' | | | | |
COPY x FROM '/etc/passwd' | | | | | COPY FROM file
PREPARE p AS SELECT email FROM users | 0 | | | |
DECLARE c CURSOR FOR SELECT lower(email) FROM users | | 0 | | |
EXECUTE known | 0 | | 1 | |
EXECUTE unknown | | | | | EXECUTE
CREATE TABLE x AS EXECUTE known | | | 1 | 0 |
FETCH ALL FROM known | 0 | | 1 | |
FETCH ALL FROM unknown | | | | | FETCH
MOVE ALL FROM known | | | 1 | |
BEGIN | | | | |
SET work_mem = '1MB' | | | | |
SHOW work_mem | | | | |
LISTEN c | | | | |
TRUNCATE users | | | | |
DROP TABLE users | | | | |
GRANT SELECT ON users TO public | | | | |
REFRESH MATERIALIZED VIEW x | | | | |
CLUSTER users | | | | 0 1 |
CREATE STATISTICS s ON email, id FROM users | | | | 0 1 |
SELECT upper(system_user) FROM (SELECT email AS system_user FROM users) s | | 0 | | |
SELECT upper(system_user::varchar) FROM users AS "system_user" | | 0 1 | | |
SELECT email AS system_user FROM users ORDER BY system_user | 0 | | 0 | |
SELECT system_user FROM orders | | | | |
CREATE EXTENSION dblink | | | | | CREATE EXTENSION
CREATE DOMAIN lower AS text CHECK (value::int > 0) | | | | | CREATE DOMAIN
CREATE TYPE public.upper AS ENUM ('a') | | | | | CREATE ENUM
CREATE TYPE mood AS ENUM ('a') | | | | |
ALTER DOMAIN mail ADD CHECK (value NOT LIKE 'a%') | | | | | ALTER DOMAIN
CREATE FOREIGN TABLE f (email text) SERVER s OPTIONS (table_name 'users') | | | | | CREATE FOREIGN TABLE
ALTER FOREIGN TABLE f OPTIONS (SET table_name 'users') | | | | | ALTER TABLE
ALTER TABLE f ALTER COLUMN c OPTIONS (SET column_name 'email') | | | | | ALTER TABLE
ALTER TYPE t RENAME ATTRIBUTE email TO x CASCADE | | | | | RENAME
ALTER TYPE t ALTER ATTRIBUTE email TYPE varchar(3) CASCADE | | | | | ALTER TABLE
"""
KNOWN = {
    "known": Flow(frozenset((0,)), frozenset(), frozenset((1,)), frozenset(), (), None),
}


def masks(text: str) -> frozenset[int]:
    return frozenset(int(word) for word in text.split())


def rows() -> list[tuple[str, Flow]]:
    found = []
    for line in TABLE.strip().splitlines():
        text, passes, made, probes, writes, *opaque = (part.strip() for part in re.split(r" \|(?= |$)", line))
        words = tuple(word for word in opaque if word)
        found.append((text, Flow(masks(passes), masks(made), masks(probes), masks(writes), words, None)))
    return found


@pytest.mark.parametrize(("text", "expected"), rows(), ids=lambda value: value if isinstance(value, str) else "")
def test_flow(text: str, expected: Flow) -> None:
    (flow,) = lineage(text, CATALOGUE, prepared=KNOWN, cursors=KNOWN)
    assert flow._replace(output=None) == expected


def output_of(text: str) -> list[tuple[set[int], set[int]]] | None:
    (flow,) = lineage(text, CATALOGUE)
    return None if flow.output is None else [(set(each.passes), set(each.expressions)) for each in flow.output]


CLEAR: tuple[set[int], set[int]] = (set(), set())


def test_output_tells_the_columns_of_a_copy() -> None:
    email: tuple[set[int], set[int]] = ({0}, set())
    ssn: tuple[set[int], set[int]] = ({1}, set())
    assert output_of("COPY users TO STDOUT") == [CLEAR, CLEAR, email, ssn]  # a generated column is left out
    assert output_of("COPY users (ssn, id) TO STDOUT") == [ssn, CLEAR]
    assert output_of("COPY (SELECT * FROM users) TO STDOUT") == [CLEAR, CLEAR, email, ssn, (set(), {0})]
    assert output_of("COPY (SELECT id, lower(email) FROM users) TO STDOUT") == [CLEAR, (set(), {0})]
    assert output_of("COPY (VALUES (1, 2)) TO STDOUT") == [CLEAR, CLEAR]


def test_output_is_not_told_where_columns_could_shift() -> None:
    # A relation of the same name (temporary, or made anew) may have other columns, which would move those after it.
    assert output_of("SELECT *, email FROM users") is None
    assert output_of("SELECT * FROM users, hr.people") is None
    assert output_of("SELECT * FROM elsewhere, users") is None
    assert output_of("SELECT * FROM public.users, hr.people") is None


def test_statements_of_one_text_know_each_other() -> None:
    flows = lineage("PREPARE p AS SELECT lower(email) FROM users; EXECUTE p; DECLARE c CURSOR FOR TABLE users; "
                    "FETCH c", CATALOGUE)  # fmt: skip
    assert [sorted(flow.expressions) for flow in flows] == [[0], [0], [0], [0]]
    assert not any(flow.opaque for flow in flows)


def test_a_name_without_schema_means_any_of_the_search_path() -> None:
    for path, expected in ((("public",), set()), (("public", "hr"), {0}), ((), {0}), (("other",), set())):
        (flow,) = lineage("SELECT email FROM people", CATALOGUE, path)
        assert flow.passes == expected


def test_origin() -> None:
    assert [CATALOGUE.taint_of(10, number).all() for number in range(1, 6)] == [0, 0, 1, 2, 1]
    assert CATALOGUE.taint_of(10, 0).all() == 3  # a whole row
    assert CATALOGUE.taint_of(10, 9).all() == 3  # a column that came later
    assert CATALOGUE.taint_of(10, -1).all() == 0  # ctid
    assert CATALOGUE.taint_of(99, 1).all() == CATALOGUE.taint_of(0, 0).all() == 0


def test_the_tables_are_those_of_the_grammar() -> None:
    messages = {field.name: field.message_type for field in pb.Node.DESCRIPTOR.fields}
    for kind, (read, passed_over) in {**expressions.PLAIN, **expressions.LOUD}.items():
        fields = {f.name for f in messages[kind].fields if f.type == FieldDescriptor.TYPE_MESSAGE}
        assert set(read) | set(passed_over) >= fields - {"json_output"}, kind
    for kind in HARMLESS | CHANGES:
        assert kind in messages


def test_what_is_not_understood_is_everything() -> None:
    tree = pb.ParseResult()
    select = tree.stmts.add().stmt.select_stmt
    select.op = pb.SETOP_NONE
    target = select.target_list.add().res_target
    target.val.var.varno = 1  # no parse tree has one
    (flow,) = lineage(tree, CATALOGUE)
    assert flow.expressions == flow.probes == {0, 1}
    assert flow.opaque == ("var",)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 20000 + "1" + ")" * 20000,
        "SELECT " + "+".join(["email"] * 5000) + " FROM users",
        "SELECT 1" + " UNION SELECT 1" * 5000,
        "SELECT " + "(SELECT " * 3000 + "1" + ")" * 3000,
        "SELECT 1; \0 SELECT email FROM users",
        "SELECT '\ud800'",
        "SELEC email FROM users",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        lineage(text, CATALOGUE)


def test_work_is_bounded() -> None:
    wide = "SELECT * FROM public.users"
    for _ in range(12):
        wide = f"SELECT *, * FROM ({wide}) AS s"
    recursive = "SELECT email FROM users"
    for index in range(12):
        recursive = f"WITH RECURSIVE r{index} AS ({recursive} UNION ALL SELECT email FROM r{index}) TABLE r{index}"
    names = "SELECT " + ", ".join(["x"] * 20000) + " FROM " + ", ".join(["public.users u"] * 2000)
    for text in (wide, recursive, names):
        with pytest.raises(PeerError, match=r"too complex|at most|too deep"):
            lineage(text, CATALOGUE)


WORDS = re.split(
    " ", "SELECT email , * FROM users u JOIN ( ) WITH AS x . 1 'a' = AND lower ORDER BY UNION id LATERAL contacts"
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_any_text_has_a_flow_or_is_refused(text: str) -> None:
    try:
        flows = lineage(text, CATALOGUE)
    except PeerError:
        return
    assert all(isinstance(flow, Flow) for flow in flows)


_WIDE = "with x as (select " + ", ".join(f"1 as c{i}" for i in range(1500)) + ") select 1 from x"


@pytest.mark.parametrize(
    "text",
    [
        "select " + "*, " * 1500 + "* from t" + ", t" * 1500,
        "select " + "id, " * 900 + "id from t" + ", t" * 1500,
        "select " + "t.*, " * 900 + "1 from t" + ", t" * 1500,
        "select 1 from t" + ", f()" * 1500,
        _WIDE + ", x natural join x" * 100,
        _WIDE + ", x as y(a)" * 900,
    ],
    ids=range(6),
)
def test_work_that_grows_faster_than_the_text_is_counted(text: str) -> None:
    with pytest.raises(PeerError) as caught:
        lineage(text, CATALOGUE)
    assert caught.value.code == "sql-too-complex"


def test_columns_are_found_without_going_through_all_of_them() -> None:
    columns = Columns([f"c{i}" for i in range(1500)], [CLEAN] * 1500)
    before = columns.find("c7")
    columns.names.clear()
    assert columns.find("c7") == before
