package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func code(err error) string {
	var failure *pgconn.PgError
	if errors.As(err, &failure) {
		return failure.Code
	}
	return fmt.Sprint(err)
}

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "")
	check(err)
	result := map[string]any{}
	number := func(query string, args ...any) (n int) {
		check(conn.QueryRow(ctx, query, args...).Scan(&n))
		return
	}
	text := func(query string, args ...any) (s string) {
		check(conn.QueryRow(ctx, query, args...).Scan(&s))
		return
	}
	run := func(query string) {
		_, err := conn.Exec(ctx, query)
		check(err)
	}
	result["user"] = text("select current_user::text")
	result["simple"] = number("select 1 + 2")
	var null *int
	check(conn.QueryRow(ctx, "select null::int").Scan(&null))
	result["null"] = null == nil
	result["parameters"] = text("select $1::int || ' ' || $2::text", 42, "it's 🐘")
	var data []byte
	check(conn.QueryRow(ctx, "select $1::bytea", []byte{0, 0xff, 0x10}).Scan(&data))
	result["binary"] = hex.EncodeToString(data)
	_, err = conn.Prepare(ctx, "square", "select $1::int * $1::int")
	check(err)
	result["prepared"] = []int{number("square", 1), number("square", 2), number("square", 3)}
	run("create temp table t (n int, word text)")
	tx, err := conn.Begin(ctx)
	check(err)
	batch := &pgx.Batch{}
	batch.Queue("insert into t values ($1, $2)", 1, "a")
	batch.Queue("insert into t values ($1, $2)", 2, "b")
	check(tx.SendBatch(ctx, batch).Close())
	check(tx.Commit(ctx))
	result["committed"] = number("select count(*) from t")
	tx, err = conn.Begin(ctx)
	check(err)
	_, err = tx.Exec(ctx, "insert into t values (3, 'c')")
	check(err)
	check(tx.Rollback(ctx))
	result["rolled_back"] = number("select count(*) from t")
	values := [][]any{}
	for n := 0; n < 1000; n++ {
		values = append(values, []any{int32(n), fmt.Sprint("word ", n)})
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n", "word"}, pgx.CopyFromRows(values))
	check(err)
	result["copied"] = number("select count(*) from t")
	var out bytes.Buffer
	_, err = conn.PgConn().CopyTo(ctx, &out, "copy t to stdout")
	check(err)
	result["copied_out"] = bytes.Count(out.Bytes(), []byte("\n"))
	var none int
	result["error"] = code(conn.QueryRow(ctx, "select 1 / 0").Scan(&none))
	result["after_error"] = number("select 1")
	tx, err = conn.Begin(ctx)
	check(err)
	tx.QueryRow(ctx, "select 1 / 0").Scan(&none)
	result["failed_transaction"] = code(tx.QueryRow(ctx, "select 1").Scan(&none))
	check(tx.Rollback(ctx))
	run("listen news")
	run("notify news, 'ž'")
	soon, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	heard, err := conn.WaitForNotification(soon)
	check(err)
	result["notified"] = heard.Payload
	rows, err := conn.Query(ctx, "select n, repeat('x', 100) from generate_series(1, 50000) n")
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
	go func() {
		time.Sleep(300 * time.Millisecond)
		conn.PgConn().CancelRequest(ctx)
	}()
	_, err = conn.Exec(ctx, "select pg_sleep(30)")
	result["cancelled"] = code(err)
	encoded, err := json.Marshal(result)
	check(err)
	fmt.Println(string(encoded))
}
