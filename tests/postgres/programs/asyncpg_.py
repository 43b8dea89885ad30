import asyncio
import io
import json

import asyncpg


async def main() -> None:
    connection = await asyncpg.connect()
    one = connection.fetchval
    result: dict[str, object] = {}
    result["user"] = await one("select current_user")
    result["simple"] = await one("select 1 + 2")
    result["null"] = await one("select null") is None
    result["parameters"] = await one("select $1::int || ' ' || $2::text", 42, "it's 🐘")
    result["binary"] = (await one("select $1::bytea", b"\x00\xff\x10")).hex()
    square = await connection.prepare("select $1::int * $1::int")
    result["prepared"] = [await square.fetchval(n) for n in (1, 2, 3)]
    await connection.execute("create temp table t (n int, word text)")
    async with connection.transaction():
        await connection.executemany("insert into t values ($1, $2)", [(1, "a"), (2, "b")])
    result["committed"] = await one("select count(*) from t")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("insert into t values (3, 'c')")
    await transaction.rollback()
    result["rolled_back"] = await one("select count(*) from t")
    await connection.copy_records_to_table("t", records=[(n, f"word {n}") for n in range(1000)])
    result["copied"] = await one("select count(*) from t")
    out = io.BytesIO()
    await connection.copy_from_query("select * from t", output=out, format="csv")
    result["copied_out"] = len(out.getvalue().splitlines())
    try:
        await one("select 1 / 0")
    except asyncpg.PostgresError as error:
        result["error"] = error.sqlstate
    result["after_error"] = await one("select 1")
    transaction = connection.transaction()
    await transaction.start()
    for _ in range(2):
        try:
            await one("select 1 / 0")
        except asyncpg.PostgresError as error:
            result["failed_transaction"] = error.sqlstate
    await transaction.rollback()
    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda *got: heard.set_result(got[3]))
    await connection.execute("notify news, 'ž'")
    result["notified"] = await asyncio.wait_for(heard, 20)
    task = asyncio.create_task(connection.execute("select pg_sleep(30)"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        # the driver cancels at the server, too, and does not say with what: the session must be usable at once
        result["cancelled"] = "57014" if await one("select true", timeout=10) else ""
    rows = await connection.fetch("select n, repeat('x', 100) from generate_series(1, 50000) n")
    result["big"] = [len(rows), sum(len(row[1]) for row in rows)]
    result["unicode"] = await one("select 'Příliš žluťoučký 🐘'")
    await connection.close()
    print(json.dumps(result))


asyncio.run(main())
