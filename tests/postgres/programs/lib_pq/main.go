package main

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/lib/pq"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func code(err error) string {
	if failure, ok := err.(*pq.Error); ok {
		return string(failure.Code)
	}
	return fmt.Sprint(err)
}

func main() {
	ctx := context.Background()
	db, err := sql.Open("postgres", "")
	check(err)
	conn, err := db.Conn(ctx)
	check(err)
	result := map[string]any{}
	number := func(query string, args ...any) (n int) {
		check(conn.QueryRowContext(ctx, query, args...).Scan(&n))
		return
	}
	text := func(query string, args ...any) (s string) {
		check(conn.QueryRowContext(ctx, query, args...).Scan(&s))
		return
	}
	run := func(query string) {
		_, err := conn.ExecContext(ctx, query)
		check(err)
	}
	result["user"] = text("select current_user")
	result["simple"] = number("select 1 + 2")
	var null sql.NullInt64
	check(conn.QueryRowContext(ctx, "select null::int").Scan(&null))
	result["null"] = !null.Valid
	result["parameters"] = text("select $1::int || ' ' || $2::text", 42, "it's 🐘")
	var data []byte
	check(conn.QueryRowContext(ctx, "select $1::bytea", []byte{0, 0xff, 0x10}).Scan(&data))
	result["binary"] = hex.EncodeToString(data)
	square, err := conn.PrepareContext(ctx, "select $1::int * $1::int")
	check(err)
	prepared := []int{}
	for n := 1; n <= 3; n++ {
		var got int
		check(square.QueryRow(n).Scan(&got))
		prepared = append(prepared, got)
	}
	result["prepared"] = prepared
	run("create temp table t (n int, word text)")
	tx, err := conn.BeginTx(ctx, nil)
	check(err)
	_, err = tx.Exec("insert into t values (1, 'a'), (2, 'b')")
	check(err)
	check(tx.Commit())
	result["committed"] = number("select count(*) from t")
	tx, err = conn.BeginTx(ctx, nil)
	check(err)
	_, err = tx.Exec("insert into t values (3, 'c')")
	check(err)
	check(tx.Rollback())
	result["rolled_back"] = number("select count(*) from t")
	tx, err = conn.BeginTx(ctx, nil)
	check(err)
	in, err := tx.Prepare(pq.CopyIn("t", "n", "word"))
	check(err)
	for n := 0; n < 1000; n++ {
		_, err = in.Exec(n, fmt.Sprint("word ", n))
		check(err)
	}
	_, err = in.Exec()
	check(err)
	check(in.Close())
	check(tx.Commit())
	result["copied"] = number("select count(*) from t")
	var none int
	result["error"] = code(conn.QueryRowContext(ctx, "select 1 / 0").Scan(&none))
	result["after_error"] = number("select 1")
	tx, err = conn.BeginTx(ctx, nil)
	check(err)
	tx.QueryRow("select 1 / 0").Scan(&none)
	result["failed_transaction"] = code(tx.QueryRow("select 1").Scan(&none))
	check(tx.Rollback())
	listener := pq.NewListener("", time.Second, time.Second, nil)
	check(listener.Listen("news"))
	run("notify news, 'ž'")
	select {
	case heard := <-listener.Notify:
		result["notified"] = heard.Extra
	case <-time.After(20 * time.Second):
	}
	listener.Close()
	rows, err := conn.QueryContext(ctx, "select n, repeat('x', 100) from generate_series(1, 50000) n")
	check(err)
	count, length := 0, 0
	for rows.Next() {
		var n int
		var x string
		check(rows.Scan(&n, &x))
		count, length = count+1, length+len(x)
	}
	check(rows.Err())
	result["big"] = []int{count, length}
	result["unicode"] = text("select 'Příliš žluťoučký 🐘'")
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = db.ExecContext(short, "select pg_sleep(30)")
	result["cancelled"] = code(err)
	out, err := json.Marshal(result)
	check(err)
	fmt.Println(string(out))
}
