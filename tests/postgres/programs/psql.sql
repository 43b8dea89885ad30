\set ON_ERROR_STOP off
\pset format unaligned
\pset tuples_only on
select current_user;
select 1 + 2;
select null is null;
select 42 || ' ' || 'it''s 🐘';
select '\x00ff10'::bytea;
prepare square(int) as select $1 * $1;
execute square(1);
execute square(2);
execute square(3);
create temp table t (n int, word text);
begin; insert into t values (1, 'a'), (2, 'b'); commit;
select count(*) from t;
begin; insert into t values (3, 'c'); rollback;
select count(*) from t;
\copy t from program 'for n in $(seq 0 999); do printf "%s\tword\n" $n; done'
select count(*) from t;
\copy t to program 'wc -l'
copy (select 1, 'a,b') to stdout with csv;
select 1 / 0;
\echo :SQLSTATE
select 1;
begin;
select 1 / 0;
select 1;
\echo :SQLSTATE
rollback;
listen news;
notify news, 'ž';
select n, repeat('x', 100) from generate_series(1, 3) n \gdesc
select 'select ' || n from generate_series(1, 3) n \gexec
select 1 \; select 2 \; select 3;
\set FETCH_COUNT 100
select count(*), sum(length(x)) from (select repeat('x', 100) x from generate_series(1, 50000)) _;
select 'Příliš žluťoučký 🐘';
\d t
