require "json"
require "pg"

connection = PG.connect
connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection)
one = ->(query, values = []) { connection.exec_params(query, values).getvalue(0, 0) }
state = lambda do |&call|
  call.call
rescue PG::Error => error
  error.result&.error_field(PG::Result::PG_DIAG_SQLSTATE)
end
result = {}
result["user"] = one.("select current_user")
result["simple"] = one.("select 1 + 2")
result["null"] = one.("select null").nil?
result["parameters"] = one.("select $1::int || ' ' || $2::text", [42, "it's 🐘"])
data = connection.exec_params("select $1::bytea", [{ value: "\x00\xff\x10".b, format: 1 }], 1).getvalue(0, 0)
result["binary"] = data.unpack1("H*")
connection.prepare("square", "select $1::int * $1::int")
result["prepared"] = [1, 2, 3].map { |n| connection.exec_prepared("square", [n]).getvalue(0, 0) }
connection.exec("create temp table t (n int, word text)")
connection.transaction { connection.exec("insert into t values (1, 'a'), (2, 'b')") }
result["committed"] = one.("select count(*) from t")
begin
  connection.transaction do
    connection.exec("insert into t values (3, 'c')")
    raise "no"
  end
rescue RuntimeError
end
result["rolled_back"] = one.("select count(*) from t")
connection.copy_data("copy t from stdin") { 1000.times { |n| connection.put_copy_data("#{n}\tword #{n}\n") } }
result["copied"] = one.("select count(*) from t")
count = 0
connection.copy_data("copy t to stdout") { count += 1 while connection.get_copy_data }
result["copied_out"] = count
result["error"] = state.call { one.("select 1 / 0") }
result["after_error"] = one.("select 1")
connection.exec("begin")
state.call { one.("select 1 / 0") }
result["failed_transaction"] = state.call { one.("select 1") }
connection.exec("rollback")
connection.exec("listen news")
connection.exec("notify news, 'ž'")
connection.wait_for_notify(20) { |_, _, payload| result["notified"] = payload }
connection.send_query("select pg_sleep(30)")
sleep 0.3
connection.cancel
result["cancelled"] = state.call { connection.get_last_result }
connection.enter_pipeline_mode
3.times { |n| connection.send_query_params("select $1::int", [n]) }
connection.pipeline_sync
result["pipeline"] = 3.times.map do
  got = connection.get_result.getvalue(0, 0)
  connection.get_result
  got
end
connection.get_result
connection.exit_pipeline_mode
rows = connection.exec("select n, repeat('x', 100) from generate_series(1, 50000) n").values
result["big"] = [rows.size, rows.sum { |row| row[1].size }]
result["unicode"] = one.("select 'Příliš žluťoučký 🐘'")
puts JSON.generate(result)
