"""The law of lineage, by real servers: what the proxy would let through does not depend on what is in a masked column.

Each text runs in two worlds that differ in their masked columns alone. If its Flow lets it through, both must show the
same, once the columns that RowDescription (or, for COPY, the Flow's output) says are masked have been hidden.
"""

# ruff: noqa: E501 - texts of SQL
from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from appliance.lineage.lineage import Flow, lineage
from appliance.model.errors import PeerError
from tests.lineage.queries import Maker
from tests.lineage.servers import VERSIONS, Server
from tests.lineage.test_lineage import rows
from tests.lineage.world import CANARY, World, hidden, hidden_by_output

TEXTS = 2500  # for each server


@pytest.fixture(scope="module", params=VERSIONS)
def worlds(request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    server = Server(request.param)
    try:
        yield World(server, "a"), World(server, "b")
    finally:
        server.close()


def flow_of(world: World, text: str) -> Flow | None:
    try:
        (flow,) = lineage(text, world.catalogue)
    except PeerError:
        return None
    return flow


def judge(worlds: tuple[World, World], text: str, shadow: str) -> str:
    """Runs a text in both worlds and checks all that must hold of it. Says what kind of text it was."""
    one, other = worlds
    flow = flow_of(one, text)
    if flow is None:
        return "unread"
    assert flow == flow_of(other, text)
    if flow.opaque or flow.writes:
        return "denied"
    a, b = one.show(text, shadow), other.show(text, shadow)
    if "57014" in (a.error, b.error):
        return "slow"
    if flow.probes:  # may tell of a masked value, but must not show it
        for world, shown in ((one, a), (other, b)):
            assert CANARY not in str(hidden(shown, world.catalogue, flow)), text
            assert CANARY not in str(hidden_by_output(shown, flow)), text
            assert flow.expressions or CANARY not in shown.message, text
        return "probes"
    if flow.expressions and (a.error or b.error):
        return "loud"  # the error is hidden, too
    assert (a.error, a.message) == (b.error, b.message), text
    assert [number for _, number in a.columns] == [number for _, number in b.columns], text
    assert same(hidden(a, one.catalogue, flow), hidden(b, other.catalogue, flow)), (text, flow)
    if (by_output := hidden_by_output(a, flow)) is not None:
        assert same(by_output, hidden_by_output(b, flow) or []), (text, flow)
    if a.error:
        return "fails"
    masked = any(one.catalogue.taint_of(*column).all() for column in a.columns)
    return "masked" if masked else ("expressions" if flow.expressions else "clean")


def same(rows: list[tuple[object, ...]], others: list[tuple[object, ...]]) -> bool:
    return sorted(map(repr, rows)) == sorted(map(repr, others))


@pytest.mark.timeout(900)
def test_what_is_let_through_does_not_depend_on_what_is_masked(worlds: tuple[World, World]) -> None:
    kinds: dict[str, int] = {}

    @settings(
        max_examples=TEXTS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(seed=st.integers(0, 2**40), shadow=st.sampled_from(["", "", "", "", "", "users", "tags", "events"]))
    def law(seed: int, shadow: str) -> None:
        kind = judge(worlds, Maker(Random(seed)).statement(), shadow)
        event(kind)
        kinds[kind] = kinds.get(kind, 0) + 1

    law()
    for kind in ("denied", "probes", "masked", "expressions", "clean"):  # the law must have been tried on each
        assert kinds.get(kind, 0) >= TEXTS // 100, kinds


# What a text has to be made for: names that mean something else than they seem to, and errors that repeat values.
SHADOWED = (
    ("tags", "SELECT (SELECT name FROM tags LIMIT 1) FROM users"),
    (
        "tags",
        "SELECT name FROM (SELECT email AS name FROM users) u WHERE EXISTS (SELECT 1 FROM tags WHERE name LIKE 'a%')",
    ),
    ("users", "SELECT *, email FROM users, contacts"),
    ("users", "SELECT x.c4 FROM (users JOIN public.users p ON true) AS x(c1, c2, c3, c4, c5, c6)"),
    ("events", "SELECT (SELECT kind FROM events LIMIT 1) FROM (SELECT email AS kind FROM users) s"),
    ("events", "SELECT (SELECT kind FROM events LIMIT 1) FROM (SELECT email || '' AS kind FROM users) s"),
    ("users", "SELECT (SELECT name FROM users LIMIT 1) FROM (SELECT email || '' AS name FROM events) s"),
    ("users", "SELECT (SELECT name FROM (SELECT * FROM users) u LIMIT 1) FROM (SELECT email AS name FROM events) s"),
    ("users", "WITH u AS (TABLE users) SELECT (SELECT name FROM u LIMIT 1) FROM (SELECT email AS name FROM events) s"),
    (
        "users",
        "SELECT (SELECT name FROM (TABLE users UNION ALL TABLE users) u LIMIT 1) FROM (SELECT email AS name FROM events) s",
    ),
)
MADE = (
    "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT email || '' AS e FROM users) SELECT e FROM a",
    "WITH RECURSIVE a(p, q, r) AS (SELECT '', '', email FROM users UNION ALL SELECT q, r, '' FROM a WHERE r <> '') SELECT p FROM a",
    "SELECT id FROM users WHERE (email || '')::int > 0",
    "SELECT id FROM users WHERE to_date(email, 'YYYY') IS NULL",
    "SELECT id FROM users ORDER BY (email)::int",
    "SELECT id FROM users WHERE jsonb_typeof(email::jsonb) = 'x'",
    "SELECT id FROM users WHERE nextval(email) > 0",
    "SELECT id FROM users WHERE timezone(email, now()) IS NULL",
    "SELECT id FROM users WHERE decode('00', email) IS NULL",
    "SELECT id FROM users WHERE date_part(email, now()) IS NULL",
    "SELECT id FROM users WHERE 1 < ANY (('{' || email || '}')::int[])",
    "UPDATE public.users SET email = (email::int)::text RETURNING id",
    "SELECT r.id FROM (SELECT u AS r FROM users u) s, LATERAL (SELECT (s.r).*) r",
    "SELECT (s.r).email, (s.r).id FROM (SELECT u AS r FROM users u) s",
    "SELECT (SELECT s.r FROM (SELECT u AS r) s) FROM users u",
    "SELECT unnest FROM users, unnest(ARRAY[email])",
    "SELECT u.email FROM (users JOIN orders USING (id) AS j) AS u",
    "SELECT j.email FROM users JOIN events USING (email) AS j",
    "SELECT s.* FROM users u JOIN LATERAL (VALUES (u.email)) s ON true",
    "SELECT w.x FROM users u, ROWS FROM (unnest(ARRAY[u.email]), generate_series(1, 2)) AS w(x, y)",
    "SELECT n FROM users u, json_each_text(row_to_json(u)) AS e(k, n)",
    "SELECT value FROM users u, jsonb_each_text(to_jsonb(u))",
    "SELECT e.email FROM users u, jsonb_populate_record(NULL::other.users, to_jsonb(u)) e",
    "SELECT upper FROM (SELECT upper(email) FROM users) s",
    'SELECT s."case" FROM (SELECT CASE WHEN true THEN email END FROM users) s',
    "SELECT coalesce FROM (SELECT coalesce(email) FROM users) s",
    "SELECT s.array FROM (SELECT ARRAY[email] FROM users) s",
    "SELECT s.row FROM (SELECT ROW(email) FROM users) s",
    'SELECT s.email FROM (SELECT (u).email FROM users u) s',
    "INSERT INTO tags (email) VALUES ('x') RETURNING (SELECT string_agg(email, '') FROM users)",
    "DELETE FROM tags USING users u RETURNING u.email, u, tags.*",
    "SELECT s.record_send FROM (SELECT o.*, u.email FROM orders o, users u) s",
    "SELECT s.to_json FROM (SELECT o.*, u.email FROM orders o, users u) s",
    "SELECT s.hash_record FROM (SELECT o.*, u.email FROM orders o, users u) s",
    "SELECT (SELECT kind FROM ROWS FROM (json_to_record('{}') AS (kind text)) AS x(y)) FROM (SELECT email AS kind FROM users) s",
    "SELECT most_common_vals::text FROM pg_stats",
    "SELECT to_jsonb(s) FROM pg_stats s",
    "SELECT s.ctid || '' FROM (SELECT email AS ctid FROM users) s",
    "SELECT (s).xmin || '' FROM (SELECT email AS xmin FROM users) s",
    "SELECT 1 FROM (SELECT email AS tableoid FROM users) s WHERE s.tableoid LIKE 'z%'",
    "SELECT id FROM users WHERE length('\\x00'::bytea, email) > 0",
    'SELECT (SELECT "coalesce"."coalesce" FROM coalesce(email)) FROM users, (SELECT 1 AS "coalesce") AS "coalesce"',
    'SELECT (SELECT "nullif"."nullif" FROM nullif(email, \'\')) FROM users, (SELECT 1 AS "nullif") AS "nullif"',
    "SELECT (SELECT unnest.unnest FROM ROWS FROM (unnest(ARRAY[email]), generate_series(1, 1))) FROM users, (SELECT 1 AS unnest) AS unnest",
    "SELECT (SELECT xmltable.e FROM XMLTABLE('/r' PASSING xmlelement(name r, email) COLUMNS e text PATH '.')) FROM users, (SELECT 1 AS e) AS xmltable",
    "SELECT (SELECT count(*) FROM (VALUES (1)) v(ssn), orders TABLESAMPLE bernoulli (coalesce(ssn, 9) * 4)) FROM users",
    "UPDATE users SET name = 'x' RETURNING WITH (OLD AS o) o.email, o.*, new.email, o, id",
)  # fmt: skip


def test_texts_that_were_made_for_it(worlds: tuple[World, World]) -> None:
    kinds: dict[str, int] = {}
    for world in worlds:
        world.connection.execute("ANALYZE")
    reads = ("SELECT", "WITH", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE")
    other = re.compile(r"now\(\)|pg_class|TABLESAMPLE")  # these differ between any two databases
    table = [text for text, _ in rows() if text.startswith(reads) and not other.search(text)]
    for shadow, text in (*SHADOWED, *(("", text) for text in (*MADE, *table))):
        kind = judge(worlds, text, shadow)
        kinds[kind] = kinds.get(kind, 0) + 1
    assert all(kinds.get(kind, 0) > 5 for kind in ("denied", "probes", "masked", "expressions", "clean", "loud")), kinds
