<?php
$pdo = new PDO("pgsql:", getenv("PGUSER"), getenv("PGPASSWORD"), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
function one(string $query, array $values = []) {
    global $pdo;
    $statement = $pdo->prepare($query);
    $statement->execute($values);
    return $statement->fetchColumn();
}
function state(callable $call): ?string {
    try { $call(); } catch (PDOException $error) { return $error->getCode(); }
    return null;
}
$result = [];
$result["user"] = one("select current_user");
$result["simple"] = one("select 1 + 2");
$result["null"] = one("select null") === null;
$result["parameters"] = one("select ?::int || ' ' || ?::text", [42, "it's 🐘"]);
$statement = $pdo->prepare("select ?::bytea");
$statement->bindValue(1, "\x00\xff\x10", PDO::PARAM_LOB);
$statement->execute();
$result["binary"] = bin2hex(stream_get_contents($statement->fetchColumn()));
$statement = $pdo->prepare("select ?::int * ?::int");
foreach ([1, 2, 3] as $n) {
    $statement->execute([$n, $n]);
    $result["prepared"][] = $statement->fetchColumn();
}
$pdo->exec("create temp table t (n int, word text)");
$pdo->beginTransaction();
$pdo->exec("insert into t values (1, 'a'), (2, 'b')");
$pdo->commit();
$result["committed"] = one("select count(*) from t");
$pdo->beginTransaction();
$pdo->exec("insert into t values (3, 'c')");
$pdo->rollBack();
$result["rolled_back"] = one("select count(*) from t");
$pdo->pgsqlCopyFromArray("t", array_map(fn($n) => "$n\tword $n", range(0, 999)));
$result["copied"] = one("select count(*) from t");
$result["copied_out"] = count($pdo->pgsqlCopyToArray("t"));
$result["error"] = state(fn() => one("select 1 / 0"));
$result["after_error"] = one("select 1");
$pdo->beginTransaction();
state(fn() => one("select 1 / 0"));
$result["failed_transaction"] = state(fn() => one("select 1"));
$pdo->rollBack();
$pdo->exec("listen news; notify news, 'ž'");
$result["notified"] = $pdo->pgsqlGetNotify(PDO::FETCH_ASSOC, 20000)["payload"];
$rows = $pdo->query("select n, repeat('x', 100) from generate_series(1, 50000) n")->fetchAll(PDO::FETCH_NUM);
$result["big"] = [count($rows), array_sum(array_map(fn($row) => strlen($row[1]), $rows))];
$result["unicode"] = one("select 'Příliš žluťoučký 🐘'");
echo json_encode($result), "\n";
