const { Client } = require("pg");
const result = {};

async function main() {
  const client = new Client();
  await client.connect();
  const one = async (text, values) => Object.values((await client.query(text, values)).rows[0])[0];
  result.user = await one("select current_user");
  result.simple = await one("select 1 + 2");
  result.null = (await one("select null")) === null;
  result.parameters = await one("select $1::int || ' ' || $2::text", [42, "it's 🐘"]);
  result.binary = (await one("select $1::bytea", [Buffer.from("00ff10", "hex")])).toString("hex");
  result.prepared = [];
  for (const n of [1, 2, 3]) {
    const got = await client.query({ name: "square", text: "select $1::int * $1::int as n", values: [n] });
    result.prepared.push(got.rows[0].n);
  }
  await client.query("create temp table t (n int, word text)");
  await client.query("begin");
  await client.query("insert into t values (1, 'a'), (2, 'b')");
  await client.query("commit");
  result.committed = Number(await one("select count(*) from t"));
  await client.query("begin");
  await client.query("insert into t values (3, 'c')");
  await client.query("rollback");
  result.rolled_back = Number(await one("select count(*) from t"));
  await one("select 1 / 0").catch(error => { result.error = error.code; });
  result.after_error = await one("select 1");
  await client.query("begin");
  await one("select 1 / 0").catch(() => {});
  await one("select 1").catch(error => { result.failed_transaction = error.code; });
  await client.query("rollback");
  const heard = new Promise(resolve => client.on("notification", message => resolve(message.payload)));
  await client.query("listen news; notify news, 'ž'");
  result.notified = await heard;
  const big = await client.query("select n, repeat('x', 100) as x from generate_series(1, 50000) n");
  result.big = [big.rowCount, big.rows.reduce((sum, row) => sum + row.x.length, 0)];
  result.unicode = await one("select 'Příliš žluťoučký 🐘'");
  const other = new Client();
  await other.connect();
  const pid = await one("select pg_backend_pid()");
  const cancel = new Promise(resolve => setTimeout(resolve, 300))
    .then(() => other.query("select pg_cancel_backend($1)", [pid]));
  await one("select pg_sleep(30)").catch(error => { result.cancelled = error.code; });
  await cancel;
  await other.end();
  await client.end();
  console.log(JSON.stringify(result));
}
main().catch(error => { console.error(error); process.exit(1); });
