import io
import json
import threading
import time
from typing import Any

import psycopg2

connection = psycopg2.connect("")
connection.autocommit = True
cursor = connection.cursor()


def one(statement: str, parameters: tuple[object, ...] | None = None) -> Any:
    cursor.execute(statement, parameters)
    return cursor.fetchone()[0]


result: dict[str, object] = {}
result["user"] = one("select current_user")
result["simple"] = one("select 1 + 2")
result["null"] = one("select null") is None
result["parameters"] = one("select %s::int || ' ' || %s::text", (42, "it's 🐘"))
result["binary"] = bytes(one("select %s::bytea", (b"\x00\xff\x10",))).hex()
cursor.execute("prepare square(int) as select $1 * $1")
result["prepared"] = [one("execute square(%s)", (n,)) for n in (1, 2, 3)]
cursor.execute("create temp table t (n int, word text)")
connection.autocommit = False
cursor.execute("insert into t values (1, 'a'), (2, 'b')")
connection.commit()
result["committed"] = one("select count(*) from t")
cursor.execute("insert into t values (3, 'c')")
connection.rollback()
result["rolled_back"] = one("select count(*) from t")
connection.commit()
connection.autocommit = True
cursor.copy_expert("copy t from stdin", io.StringIO("".join(f"{n}\tword {n}\n" for n in range(1000))))
result["copied"] = one("select count(*) from t")
out = io.StringIO()
cursor.copy_expert("copy t to stdout", out)
result["copied_out"] = len(out.getvalue().splitlines())
try:
    one("select 1 / 0")
except psycopg2.Error as error:
    result["error"] = error.pgcode
result["after_error"] = one("select 1")
connection.autocommit = False
for _ in range(2):
    try:
        one("select 1 / 0")
    except psycopg2.Error as error:
        result["failed_transaction"] = error.pgcode
connection.rollback()
connection.autocommit = True
cursor.execute("listen news; notify news, 'ž'")
while not connection.notifies:
    time.sleep(0.01)
    connection.poll()
result["notified"] = connection.notifies[0].payload


def cancel() -> None:
    time.sleep(0.3)
    connection.cancel()


thread = threading.Thread(target=cancel)
thread.start()
try:
    one("select pg_sleep(30)")
except psycopg2.Error as error:
    result["cancelled"] = error.pgcode
thread.join()
cursor.execute("select n, repeat('x', 100) from generate_series(1, 50000) n")
rows = cursor.fetchall()
result["big"] = [len(rows), sum(len(row[1]) for row in rows)]
result["unicode"] = one("select 'Příliš žluťoučký 🐘'")
print(json.dumps(result))
