"""Statements, portals and cursors under names, at a real server: what is held stays undone, what is masked unseen,
whatever name it goes by. tests.session.test_postgres_hostile has these ways, and any order of them, with a model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.wire.postgres import messages as m
from appliance.wire.postgres import write
from tests.postgres.session import AGENT_UID, variables
from tests.postgres.spine import Spine

pytestmark = pytest.mark.world
_TABLES = """
create table t (n int); insert into t values (1), (2), (3);
create table people (n int primary key, email text, ssn text);
insert into people select n, 'canary' || n || '@x.test', 'canary-' || n from generate_series(1, 3) n;
create table going (email text); insert into going values ('canary');
create function tell() returns trigger language plpgsql as $$ begin
  raise notice 'now %', new.email; perform pg_notify('changes', row_to_json(new)::text); return new; end $$;
create trigger tell before update on people for each row execute function tell();
create function fails() returns trigger language plpgsql as $$ begin raise exception 'no %', old.email; end $$;
create trigger fails before delete on people for each row execute function fails();
grant all on t, people, going to app;
"""
Q, SYNC = write.query, write.sync()


def _change(config: dict[str, Any], destination: dict[str, Any]) -> None:
    config["limits"] = {"kept_per_job": 32 << 20}
    destination["login"] = "password"
    destination["rules"] = [
        {"name": "hold", "commands": ["delete"], "writes": ["public.t"], "decision": "hold", "hold": "1s"},
        {"name": "few", "reads": ["public.t"], "commands": ["select"], "max_rows": 2},
        {"name": "any", "marks": ["*"]},
    ]
    destination["masks"] = [
        {"name": "mail", "columns": ["public.people.email", "public.going.email"], "absent": "allow"},
        {"name": "ssn", "columns": ["public.people.ssn"], "expressions": "mask", "probing": "allow"},
    ]


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        made.server.sql(_TABLES)
        yield made


def _raw(spine: Spine, *messages: bytes) -> list[list[list[str]]]:
    done = spine.run(
        [*spine.appliance.python, "-m", "tests.postgres.raw"],
        input="".join(each.hex() + "\n" for each in messages),
        env={"PYTHONPATH": str(spine.appliance.root)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _bound(portal: bytes, text: bytes) -> bytes:
    return write.parse(b"s", text) + write.bind(portal, b"s")


_DELETE = b"delete from t returning n"
_UNDONE = {
    "fetch": [Q(b"begin"), _bound(b"c", _DELETE) + SYNC, Q(b"fetch 1 from c"), Q(b"commit")],
    "move": [Q(b"begin"), _bound(b"c", _DELETE) + SYNC, Q(b"move all from c"), Q(b"commit")],
    "explain": [write.parse(b"s", _DELETE) + SYNC, Q(b"explain analyze execute s")],
    "a PREPARE that fails": [
        write.parse(b"s", _DELETE) + SYNC,
        Q(b"prepare s as select 1")
        + write.parse(b"", b"execute s")
        + write.bind(b"", b"")
        + write.execute(b"", 0)
        + SYNC,
    ],
    "execute": [_bound(b"", _DELETE) + write.execute(b"", 0) + SYNC],
}


@pytest.mark.parametrize("way", _UNDONE)
def test_what_is_held_stays_undone(spine: Spine, way: str) -> None:
    seen = _raw(spine, *_UNDONE[way])
    assert "42501" in [text for answer in seen for kind, text in answer if kind == "E"], seen
    assert spine.server.sql("select count(*) from t") == "3"


_SSN = b"select upper(ssn) || '' from people"
_UNSEEN = {
    "a cursor after a portal": [
        Q(b"begin"),
        _bound(b"c", b"select n from people") + write.describe(m.PORTAL, b"c") + SYNC,
        Q(b"close c") + Q(b"declare c cursor for select email from people"),
        write.execute(b"c", 0) + SYNC,
    ],
    "a cursor with hold": [
        Q(b"declare c cursor with hold for " + _SSN),
        write.execute(b"c", 1) + write.execute(b"c", 1) + SYNC,
        Q(b"fetch all from c"),
    ],
    "a portal described first": [
        Q(b"prepare s as " + _SSN),
        write.parse(b"", b"execute s")
        + write.bind(b"", b"")
        + write.describe(m.PORTAL, b"")
        + write.flush()
        + write.execute(b"", 0)
        + SYNC,
    ],
    "fetch from a portal": [Q(b"begin"), _bound(b"c", _SSN) + SYNC, Q(b"fetch all from c")],
    "a portal in parts": [_bound(b"c", _SSN) + write.execute(b"c", 1) + write.execute(b"c", 1) + SYNC],
    "EXECUTE in parts, and in between another statement of the name": [
        Q(b"begin") + Q(b"prepare p as select email, upper(ssn) from people"),
        _bound(b"c", b"execute p") + write.execute(b"c", 1) + SYNC,
        Q(b"deallocate p") + Q(b"prepare p as select 'x' || n, 'y' || n from people"),
        write.execute(b"c", 0) + SYNC,
    ],
    "FETCH in parts, and in between another cursor of the name": [
        Q(b"begin") + Q(b"declare k cursor for select email, upper(ssn) from people"),
        _bound(b"c", b"fetch all from k") + write.execute(b"c", 1) + SYNC,
        Q(b"close k") + Q(b"declare k cursor for select 'x' || n, 'y' || n from people"),
        write.execute(b"c", 0) + SYNC,
    ],
    "copy": [Q(b"copy people to stdout"), Q(b"copy (select email, ssn from people) to stdout (format csv)")],
    "a trigger's notice and notification": [Q(b"listen changes"), Q(b"update people set n = n"), Q(b"select 1")],
    "a trigger's error": [Q(b"delete from people")],
    "an error of a row": [Q(b"insert into people values (1, 'x', 'y')"), Q(b"alter table people add check (n > 1)")],
    "a cast": [Q(b"select ssn::int from people"), _bound(b"", b"select ssn::int from people") + SYNC],
    "a setting": [Q(b"select set_config('app.x', ssn, false) from people"), Q(b"show app.x")],
    "create table as execute": [write.parse(b"s", _SSN) + SYNC, Q(b"create temp table x as execute s")],
    "a function by its number": [write.message(m.FUNCTION_CALL, (870).to_bytes(4, "big") + bytes(6))],
}


@pytest.mark.parametrize("way", _UNSEEN)
def test_what_is_masked_stays_unseen(spine: Spine, way: str) -> None:
    seen = json.dumps(_raw(spine, *_UNSEEN[way])).lower()
    assert "canary" not in seen
    assert '"end"' not in seen, seen


def test_what_others_make_and_drop_while_a_session_is_open(spine: Spine) -> None:
    """A view and a child are masked once the catalogue has been read anew; the test waits for that, in one session.
    What a cursor holds of a table that is dropped stays masked."""
    code = """
import psycopg, sys, time
connection = psycopg.connect("", autocommit=True)
connection.execute("select * from people").fetchall()
connection.execute("declare held cursor with hold for select email from going")
print("open", flush=True)
sys.stdin.readline()
until = time.monotonic() + 90
ways = ["select * from others", "select made from others", "select upper(ssn) from child", "select email from child"]
while time.monotonic() < until:
    connection.execute("begin")  # a transaction does not keep it from being read
    seen = str([connection.execute(way).fetchall() for way in ways])
    connection.execute("commit")
    if "canary" not in seen.lower():
        print("masked", connection.execute("fetch all from held").fetchall())
        break
    time.sleep(0.5)
"""
    environment = {name: value for name, value in variables("").items() if name != "PGPASSWORD"}
    process = spine.world.popen(
        spine.appliance.job_command(
            ["sh", "-c", 'PGSSLROOTCERT="$SSL_CERT_FILE" exec "$@"', "sh", *spine.appliance.python, "-c", code]
        ),
        cwd="/",
        env={**spine.appliance.environment, **environment},
        uid=AGENT_UID,
        groups=[spine.appliance.group],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    spine.server.sql(
        "create view others as select email, upper(ssn) as made from people; create table child () inherits (people);"
        "insert into child values (9, 'canary9', 'canary-9'); grant all on others, child to app;"
        "drop table going"
    )
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.read() == "masked [('***',)]\n"


def test_the_limit_of_rows(spine: Spine) -> None:
    cursor = [Q(b"begin"), Q(b"declare c cursor for select n from t"), Q(b"fetch all from c")]
    seen = _raw(spine, Q(b"prepare p as select n from t"), Q(b"execute p"), *cursor)
    assert [text for answer in seen for kind, text in answer if kind == "E"] == ["54000", "54000"]


def test_names_that_the_server_cuts(spine: Spine) -> None:
    (seen,) = _raw(spine, write.parse(b"n" * 64, b"select 1") + SYNC)
    assert seen[0] == ["E", "08P01"]


def test_answers_come_after_a_goodbye_too(spine: Spine) -> None:
    (seen,) = _raw(spine, Q(b"select 1") * 50 + Q(b"select from pg_sleep(0.5)") + Q(b"select 2") + write.terminate())
    assert "".join(kind for kind, _ in seen) == "TDCZ" * 52


def test_what_the_sessions_of_a_job_keep_has_a_limit(spine: Spine) -> None:
    """The one that passes it ends; the others go on, and what is kept no more counts no more."""
    code = """
import contextlib, json
from appliance.wire.postgres import write
from tests.postgres.raw import Line

text = b"select 1" + b" " * (250 << 10)
names = [b"%d" % number for number in range(52)]
prepared = b"".join(write.parse(name, text) for name in names) + write.sync()
whole = write.query(b" " * (12 << 20))
seen = []

def third():
    line = Line()
    with contextlib.suppress(OSError):  # it ends before it has all
        line.send(prepared)
    seen.append(["".join(answer) for answer in line.until(1) if answer[0] != "1"])

first, second = Line(), Line()
first.send(whole[:-1])
seen.append("".join(kind for kind, _ in second.go(prepared)))
third()
first.send(whole[-1:])
seen.append("".join(kind for kind, _ in first.until(1)))
seen.append("".join(kind for kind, _ in first.go(prepared)))
third()
second.go(b"".join(write.close(ord("S"), name) for name in names) + write.sync())
second.go(write.sync())
seen.append("".join(kind for kind, _ in Line().go(prepared)))
print(json.dumps(seen))
"""
    done = spine.run([*spine.appliance.python, "-c", code], env={"PYTHONPATH": str(spine.appliance.root)}, timeout=120)
    assert done.returncode == 0, done.stderr
    refused, prepared = ["E53200", "end"], "1" * 52 + "Z"
    assert json.loads(done.stdout) == [prepared, refused, "EZ", prepared, refused, prepared]
