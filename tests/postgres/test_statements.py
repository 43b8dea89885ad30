"""What happens to statements: denied ones fail as PostgreSQL's own do, and the session goes on as after those."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.canary import files_with, seen_in
from tests.postgres.scripts import assert_denied, seen_by
from tests.postgres.server import DATABASE, PASSWORD
from tests.postgres.spine import Spine

pytestmark = pytest.mark.world
_RULES: list[dict[str, Any]] = [
    {"name": "no-drops", "commands": ["drop-*"], "decision": "deny", "reason": "nothing is dropped", "ask": "ask Ann"},
    {"name": "no-secrets", "tables": ["public.secrets"], "decision": "deny", "reason": "not for agents"},
    {"name": "where", "commands": ["delete", "update"], "where": False, "decision": "deny", "reason": "needs a WHERE"},
    {"name": "any"},
]
_MASKS = [{"name": "mail", "columns": ["public.people.email"], "how": "hide"}]
_TABLES = """
create table public.secrets (word text); insert into public.secrets values ('hidden away');
create table public.people (n int primary key, email text);
insert into public.people select n, 'person' || n || '@example.test' from generate_series(1, 20) n;
create table public.t (n int); insert into public.t select generate_series(1, 5);
grant all on all tables in schema public to app, reader; alter table public.t owner to app;
create function tells(text) returns text security definer language sql as 'select word from public.secrets';
create schema other; create table other.people (n int, email text); grant all on schema other to app;
"""


def _change(config: dict[str, Any], destination: dict[str, Any]) -> None:
    destination |= {"rules": _RULES, "record": "text"}


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        made.server.sql(_TABLES)
        yield made


def test_a_denied_statement_says_why_and_the_session_goes_on(spine: Spine) -> None:
    denied, after = seen_by(spine, "go('drop table t'); go('select count(*) from t')")
    assert_denied(denied, "nothing is dropped", "ask Ann")
    assert after == [[5]]


def test_psql_shows_rule_and_hint(spine: Spine) -> None:
    done = spine.sql("drop table t;\n\\echo :SQLSTATE\nselect 7;\n", timeout=60)
    assert done.stdout == "42501\n7\n"
    for word in ("42501", "nothing is dropped", "rule db/no-drops", "ask Ann"):
        assert word in done.stderr, done.stderr


def test_in_a_transaction_it_fails_until_rollback(spine: Spine) -> None:
    code = "go('begin'); go('insert into t values (6)'); go('drop table t'); go('select 1'); go('commit')"
    began, inserted, denied, aborted, committed, count = seen_by(spine, f"{code}; go('select count(*) from t')")
    assert (began, inserted) == ("BEGIN", "INSERT 0 1")
    assert_denied(denied)
    assert aborted[0] == "25P02"
    assert committed == "ROLLBACK"
    assert count == [[5]]


def test_savepoints_bring_it_back(spine: Spine) -> None:
    code = "go('begin'); go('savepoint s'); go('drop table t'); go('rollback to s'); go('select 2'); go('commit')"
    seen = seen_by(spine, code)
    assert_denied(seen[2])
    assert seen[3:] == ["ROLLBACK", [[2]], "COMMIT"]


def test_in_a_pipeline_what_follows_is_skipped_to_the_sync(spine: Spine) -> None:
    code = """
from psycopg.pq import ExecStatus
line = connection.pgconn  # libpq itself: psycopg's own pipeline raises the error at whatever it fetches first
connection.pgconn.nonblocking = 0
line.enter_pipeline_mode()
for statement in (b"select 1", b"drop table t", b"select 3"):
    line.send_query_params(statement, None)
line.pipeline_sync()
line.send_query_params(b"select 4", None)
line.pipeline_sync()
while (result := line.get_result() or line.get_result()) is not None:
    state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
    seen.append([ExecStatus(result.status).name, (state or b"").decode()])
    if [name for name, _ in seen].count("PIPELINE_SYNC") == 2:
        break
line.exit_pipeline_mode()
go("select 5")
"""
    seen = seen_by(spine, code)
    assert seen == [
        ["TUPLES_OK", ""],
        ["FATAL_ERROR", "42501"],
        ["PIPELINE_ABORTED", ""],
        ["PIPELINE_SYNC", ""],
        ["TUPLES_OK", ""],
        ["PIPELINE_SYNC", ""],
        [[5]],
    ]


_AROUND = [
    "select 1; drop table t",
    "drop table t; select 1",
    "/* a */ dRoP /* b */ TABLE t",
    'drop table public . "t"',
    'drop table U&"\\0074"',
    "delete from t",
    "update t set n = 1",
    "select * from secrets",
    "with x as (select * from secrets) select * from x",
    "select (select max(word) from public.secrets)",
    "table secrets",
    "copy secrets to stdout",
    "copy (select * from secrets) to stdout",
    "explain analyze select * from secrets",
    "create table u as select * from secrets",
    "declare c cursor with hold for select * from secrets",
    "insert into t select length(word) from secrets",
    "prepare p as select * from secrets",
    "create view w as select * from secrets",
    "create rule r as on insert to t do also drop table t",
    "select ('secrets'::text).tells",
    "select x.tells from lower('SECRETS') x",
    "do $$ begin execute 'dr' || 'op table t'; end $$",
]


def test_ways_around_are_denied(spine: Spine) -> None:
    """In one job, each on its own: it is denied, or does not parse; nothing came out and nothing is gone."""
    seen = seen_by(spine, f"for statement in {_AROUND!r}:\n    go(statement)")
    assert len(seen) == len(_AROUND)
    for statement, got in zip(_AROUND, seen, strict=True):
        assert got[0] in ("42501", "42601"), (statement, got)
    assert "hidden away" not in json.dumps(seen)
    assert spine.server.sql("select count(*) from t") == "5"


def test_several_statements_stand_or_fall_together(spine: Spine) -> None:
    """One simple query is one transaction: the insert before the denied statement is undone, as if that had failed."""
    (got,) = seen_by(spine, "go('insert into t values (9); drop table t')")
    assert_denied(got)
    assert spine.server.sql("select count(*) from t") == "5"


def test_prepared_under_a_name_and_executed(spine: Spine) -> None:
    code = "go('select * from secrets where word = %s', ('x',), prepare=True); go('select %s::int', (1,), prepare=True)"
    denied, after = seen_by(spine, code)
    assert_denied(denied, "not for agents")
    assert after == [[1]]


def test_copy_goes_both_ways_where_it_may(spine: Spine) -> None:
    code = """
with connection.cursor().copy("copy t to stdout") as copy:
    seen.append(len(list(copy.rows())))
try:
    with connection.cursor().copy("copy secrets from stdin") as copy:
        copy.write_row(["x"])
except psycopg.Error as error:
    seen.append([error.sqlstate, str(error), ""])
go("select 1")
"""
    count, denied, after = seen_by(spine, code)
    assert count == 5
    assert_denied(denied)
    assert after == [[1]]
    assert spine.server.sql("select count(*) from secrets") == "1"


def test_each_statement_is_on_record(spine: Spine) -> None:
    seen_by(spine, "go('select 1 -- it may'); go('drop table t -- it may not')")
    until = time.monotonic() + 20
    found: dict[str, str] = {}
    while len(found) < 2 and time.monotonic() < until:
        for record in spine.appliance.audit():
            text = json.dumps(record)
            found |= {word: text for word in ("-- it may", "-- it may not") if f'{word}"' in text}
    assert "allow" in found["-- it may"]
    assert "no-drops" in found["-- it may not"]
    assert files_with(PASSWORD, spine.appliance.state_dir, ()) == []
    assert not seen_in(PASSWORD, spine.appliance.log())


def test_another_job_cannot_cancel(spine: Spine) -> None:
    """With the very key that the victim holds, sent from another job."""
    victim = """
import asyncio, asyncpg
async def main():
    connection = await asyncpg.connect()
    print(connection._protocol.backend_pid, connection._protocol.backend_secret, flush=True)
    print(await connection.fetchval("select 'through' from pg_sleep(6)"))
asyncio.run(main())
"""
    thief = """
import os, socket, struct
with socket.create_connection((os.environ["PGHOST"], 5432)) as sock:
    sock.sendall(struct.pack("!IIii", 16, 80877102, int(os.environ["VICTIM"]), int(os.environ["KEY"])))
    sock.settimeout(10)
    sock.recv(1)
"""
    process = spine.world.popen(
        spine.appliance.job_command([*spine.appliance.python, "-c", victim]),
        cwd="/",
        env={**spine.appliance.environment, "PGHOST": "db.example.test", "PGUSER": "app", "PGDATABASE": DATABASE},
        uid=65534,
        groups=[spine.appliance.group],
        stdout=-1,
        text=True,
    )
    assert process.stdout is not None
    pid, key = process.stdout.readline().split()
    until = time.monotonic() + 20
    while not spine.server.sql(
        "select 1 from pg_stat_activity where query like '%through%pg_sleep%' and usename = 'app'"
    ):
        assert time.monotonic() < until
    spine.run([*spine.appliance.python, "-c", thief], env={"VICTIM": pid, "KEY": key}, timeout=60)
    # still at it: the request came while it ran, and did nothing
    assert spine.server.sql("select 1 from pg_stat_activity where query like '%through%pg_sleep%' and usename = 'app'")
    assert process.stdout.read() == "through\n"


def test_masks() -> None:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination["masks"] = _MASKS

    with Spine(change) as spine:
        spine.server.sql(_TABLES)
        code = """
go("select email from people where n = 1")
go("select e as other from (select email e, n from people) x where n = 1")
go("select email from people where n = %b", (1,), binary=True)
go("select n from people where n < 3 order by n")
go("select substr(email, 1, 3) from people")
go("select n from people where email like 'person1%'")
go("select max(email) from people")
with connection.cursor().copy("copy (select n, email from people where n = 2) to stdout") as copy:
    seen.append([list(row) for row in copy.rows()])
"""
        plain, aliased, binary, free, part, probe, most, copied = seen_by(spine, code)
        assert free == [[1], [2]]
        for got in (plain, aliased, binary):
            assert len(got) == 1
            assert len(got[0]) == 1
        assert "person" not in json.dumps([plain, aliased, binary, copied])
        for got in (part, probe, most):
            assert_denied(got)


def test_the_role_is_locked() -> None:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination["role"] = "reader"

    with Spine(change) as spine:
        code = "go('select current_user'); go('reset role'); go('set role app'); go('set session authorization app')"
        code += "\ngo(\"select set_config('role', 'app', false)\"); go('discard all'); go('select current_user')"
        seen = seen_by(spine, code)
        assert seen[0] == seen[-1] == [["reader"]], seen


def test_the_search_path_is_locked(spine: Spine) -> None:
    code = """
go("set search_path to other")
go("select set_config('search_path', 'other', false)")
go("show search_path")
"""
    *tried, path = seen_by(spine, code)
    assert "other" not in path[0][0]
    for got in tried:
        assert_denied(got)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_the_server_dies_in_the_middle(how: signal.Signals) -> None:
    with Spine() as spine:
        process = spine.world.popen(
            spine.appliance.job_command(
                ["sh", "-c", "PGSSLROOTCERT=$SSL_CERT_FILE exec psql -X -c 'select pg_sleep(30)' 2>&1"]
            ),
            cwd="/",
            env={**spine.appliance.environment, "PGHOST": "db.example.test", "PGUSER": "app", "PGDATABASE": DATABASE},
            uid=65534,
            groups=[spine.appliance.group],
            stdout=-1,
            text=True,
        )
        until = time.monotonic() + 20
        while "pg_sleep" not in spine.server.sql("select query from pg_stat_activity where usename = 'app'"):
            assert time.monotonic() < until
            time.sleep(0.05)
        spine.server.stop(how)
        said = process.communicate(timeout=20)[0]
        assert "terminating connection" in said or "server closed" in said or "Coatcheck" in said, said
