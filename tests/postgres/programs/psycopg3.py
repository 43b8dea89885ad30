import json
import threading
import time

import psycopg
from psycopg.rows import tuple_row

connection = psycopg.connect("", row_factory=tuple_row)
connection.autocommit = True
run = connection.execute
result = {}
result["user"] = run("select current_user").fetchone()[0]
result["simple"] = run("select 1 + 2").fetchone()[0]
result["null"] = run("select null").fetchone()[0] is None
result["parameters"] = run("select %s::int || ' ' || %s::text", (42, "it's 🐘")).fetchone()[0]
result["binary"] = connection.execute("select %b::bytea", (b"\x00\xff\x10",), binary=True).fetchone()[0].hex()
result["prepared"] = [run("select %s::int * %s::int", (n, n), prepare=True).fetchone()[0] for n in (1, 2, 3)]
run("create temp table t (n int, word text)")
with connection.transaction():
    run("insert into t values (1, 'a'), (2, 'b')")
result["committed"] = run("select count(*) from t").fetchone()[0]
with connection.transaction(force_rollback=True):
    run("insert into t values (3, 'c')")
result["rolled_back"] = run("select count(*) from t").fetchone()[0]
with connection.cursor().copy("copy t from stdin") as copy:
    for n in range(1000):
        copy.write_row((n, f"word {n}"))
result["copied"] = run("select count(*) from t").fetchone()[0]
with connection.cursor().copy("copy t to stdout (format binary)") as copy:
    copy.set_types(["int4", "text"])
    result["copied_out"] = len(list(copy.rows()))
try:
    run("select 1 / 0")
except psycopg.Error as error:
    result["error"] = error.sqlstate
result["after_error"] = run("select 1").fetchone()[0]
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
result["pipeline"] = [cursor.fetchone()[0] for cursor in cursors]


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
result["unicode"] = run("select 'Příliš žluťoučký 🐘'").fetchone()[0]
print(json.dumps(result))
