import json
import threading
import time
from typing import Any

import psycopg
from psycopg.rows import TupleRow, tuple_row

connection = psycopg.connect("", row_factory=tuple_row)
connection.autocommit = True
run = connection.execute


def only(cursor: psycopg.Cursor[TupleRow]) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row[0]


result: dict[str, object] = {}
result["user"] = only(run("select current_user"))
result["simple"] = only(run("select 1 + 2"))
result["null"] = only(run("select null")) is None
result["parameters"] = only(run("select %s::int || ' ' || %s::text", (42, "it's 🐘")))
result["binary"] = only(connection.execute("select %b::bytea", (b"\x00\xff\x10",), binary=True)).hex()
result["prepared"] = [only(run("select %s::int * %s::int", (n, n), prepare=True)) for n in (1, 2, 3)]
run("create temp table t (n int, word text)")
with connection.transaction():
    run("insert into t values (1, 'a'), (2, 'b')")
result["committed"] = only(run("select count(*) from t"))
with connection.transaction(force_rollback=True):
    run("insert into t values (3, 'c')")
result["rolled_back"] = only(run("select count(*) from t"))
with connection.cursor().copy("copy t from stdin") as copy:
    for n in range(1000):
        copy.write_row((n, f"word {n}"))
result["copied"] = only(run("select count(*) from t"))
with connection.cursor().copy("copy t to stdout (format binary)") as copy:
    copy.set_types(["int4", "text"])
    result["copied_out"] = len(list(copy.rows()))
try:
    run("select 1 / 0")
except psycopg.Error as error:
    result["error"] = error.sqlstate
result["after_error"] = only(run("select 1"))
connection.autocommit = False
try:
    run("select 1 / 0")
except psycopg.Error:
    pass
try:
    run("select 1")
except psycopg.Error as error:
    result["failed_transaction"] = error.sqlstate
connection.rollback()
connection.autocommit = True
run("listen news")
run("notify news, 'ž'")
result["notified"] = next(connection.notifies(timeout=20)).payload
with connection.pipeline():
    cursors = [run("select %s::int", (n,)) for n in range(3)]
result["pipeline"] = [only(cursor) for cursor in cursors]


def cancel() -> None:
    time.sleep(0.3)
    connection.cancel_safe()


thread = threading.Thread(target=cancel)
thread.start()
try:
    run("select pg_sleep(30)")
except psycopg.Error as error:
    result["cancelled"] = error.sqlstate
thread.join()
rows = run("select n, repeat('x', 100) from generate_series(1, 50000) n").fetchall()
result["big"] = [len(rows), sum(len(row[1]) for row in rows)]
result["unicode"] = only(run("select 'Příliš žluťoučký 🐘'"))
print(json.dumps(result))
