import json
import os
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, cast, func, insert, literal, select

url = sqlalchemy.URL.create(
    f"postgresql+{sys.argv[1]}",
    username=os.environ["PGUSER"],
    password=os.environ["PGPASSWORD"],
    host=os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    database=os.environ["PGDATABASE"],
)
engine = sqlalchemy.create_engine(url)
metadata = MetaData()
words = Table("t", metadata, Column("n", Integer), Column("word", String), prefixes=["TEMPORARY"])
result: dict[str, object] = {}
with engine.connect() as connection:
    one: Callable[[sqlalchemy.Executable], Any] = connection.scalar
    result["user"] = one(select(func.current_user()))
    result["simple"] = one(select(literal(1) + literal(2)))
    result["null"] = one(select(sqlalchemy.null())) is None
    result["parameters"] = one(select(cast(42, Integer).cast(String) + " " + literal("it's 🐘")))
    result["binary"] = bytes(one(select(cast(b"\x00\xff\x10", LargeBinary)))).hex()
    result["prepared"] = [one(select(cast(n, Integer) * n)) for n in (1, 2, 3)]
    metadata.create_all(connection)
    connection.execute(insert(words), [{"n": 1, "word": "a"}, {"n": 2, "word": "b"}])
    connection.commit()
    result["committed"] = one(select(func.count()).select_from(words))
    connection.execute(insert(words), [{"n": 3, "word": "c"}])
    connection.rollback()
    result["rolled_back"] = one(select(func.count()).select_from(words))
    try:
        one(sqlalchemy.text("select 1 / 0"))
    except sqlalchemy.exc.DBAPIError as error:
        driver: Any = error.orig
        result["error"] = driver.sqlstate if hasattr(driver, "sqlstate") else driver.pgcode
    connection.rollback()
    result["after_error"] = one(sqlalchemy.text("select 1"))
    rows = connection.execute(sqlalchemy.text("select n, repeat('x', 100) from generate_series(1, 50000) n")).all()
    result["big"] = [len(rows), sum(len(row[1]) for row in rows)]
    result["unicode"] = one(sqlalchemy.text("select 'Příliš žluťoučký 🐘'"))
print(json.dumps(result))
