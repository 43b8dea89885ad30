"""PostgreSQL's own programs: psql in all the ways to give it a password, pg_dump and pg_restore, pgbench."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.postgres.server import DATABASE, HOST, PORT, binaries
from tests.postgres.session import Session

pytestmark = pytest.mark.world
_PSQL = "psql -X -A -t -q"
# psql asks at a terminal, and there is one to type at
_AT_A_TERMINAL = """
import os, pty
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("psql", ["psql", "-XAtqW", "-P", "pager=off", "-c", "select current_user"])
seen = b""
while b"assword" not in seen:
    seen += os.read(terminal, 1000)
os.write(terminal, os.environ["TYPED"].encode() + b"\\n")
try:
    while data := os.read(terminal, 1000):
        seen += data
except OSError:
    pass
print(seen.decode())
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_psql(way: Session) -> None:
    script = Path(__file__).parent / "programs" / "psql.sql"
    done = way.run(["psql", "-X", "-q"], input=script.read_text(), timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.sub(r"PID \d+", "PID N", done.stdout) == (script.with_suffix(".out")).read_text()
    assert [line.partition("ERROR:")[2].strip() for line in done.stderr.splitlines() if "ERROR:" in line] == [
        "division by zero",
        "division by zero",
        "current transaction is aborted, commands ignored until end of transaction block",
    ]


@pytest.mark.parametrize("how", ["pgpass", "service", "url", "conninfo", "prompt"])
def test_ways_to_give_the_password(way: Session, open_folder: Path, how: str) -> None:
    """The variables of PGPASSWORD's kind are taken away, so that nothing else can have given it."""
    env = {"HOME": str(open_folder)}
    command = f"{_PSQL} -c 'select current_user'"
    if how == "pgpass":
        write = f'echo "{HOST}:{PORT}:{DATABASE}:app:$P" >$HOME/.pgpass; chmod 600 $HOME/.pgpass'
        script = f"{write}; PGPASSFILE=$HOME/.pgpass {command}"  # libpq asks the account's home, and it has none
    elif how == "service":
        lines = ["[mine]", f"host={HOST}", f"port={PORT}", f"dbname={DATABASE}", "user=app", "sslmode=verify-full"]
        (open_folder / "service").write_text("\n".join([*lines, ""]))
        write = "cp $HOME/service $HOME/full; echo password=$P >>$HOME/full; export PGSERVICEFILE=$HOME/full"
        script = f"unset PGHOST PGPORT PGDATABASE PGUSER; {write}; PGSERVICE=mine {command}"
    elif how == "url":
        script = f'unset PGHOST PGUSER; {command} "postgresql://app:$P@{HOST}:{PORT}/{DATABASE}"'
    elif how == "conninfo":
        script = f'unset PGHOST PGUSER; {command} "host={HOST} user=app password=$P"'
    else:
        env["PROGRAM"] = _AT_A_TERMINAL
        script = f'export TYPED="$P"; exec {sys.executable} -c "$PROGRAM"'
    done = way.run(["sh", "-c", f"P=$PGPASSWORD; unset PGPASSWORD; {script}"], env=env, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == "app"


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require", "verify-ca", "verify-full"])
def test_sslmode(way: Session, sslmode: str) -> None:
    done = way.run(["sh", "-c", f"{_PSQL} -c 'select 1'"], env={"PGSSLMODE": sslmode})
    if way.name == "direct" and sslmode == "disable":  # the server wants TLS: through the appliance it gets it
        assert "no encryption" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
def test_dump_and_restore(way: Session, open_folder: Path, form: str) -> None:
    """Out of one schema, dropped, and in again."""
    make = """
        drop schema if exists d cascade; create schema d;
        create table d.t (n int primary key, word text not null, data bytea, at timestamptz, j jsonb, a text[]);
        insert into d.t select n, 'žluť ' || n, decode(lpad(to_hex(n), 8, '0'), 'hex'), 'epoch', '{"a": 1}', '{a,b}'
            from generate_series(1, 2000) n;
        create view d.v as select word from d.t where n < 10;
        create sequence d.s start 7;
        create function d.f() returns int language sql as 'select 1';
    """
    digest = f"{_PSQL} -c \"select md5(string_agg(t::text, ',' order by n)) from d.t\" -c 'select count(*) from d.v'"
    target = open_folder / "dump"
    jobs = "-j 2" if form == "directory" else ""
    restore = f"{_PSQL} -v ON_ERROR_STOP=1 -o /dev/null -f {target}"
    if form != "plain":
        restore = f"pg_restore --no-owner -d {DATABASE} {jobs} {target}"
    script = f"""set -e
        {_PSQL} -c "$MAKE" 2>/dev/null; {digest}
        pg_dump --no-owner -n d -F {form[0]} {jobs} -f {target}
        {_PSQL} -c 'drop schema d cascade' 2>/dev/null; {restore}; {digest}"""
    done = way.run(["sh", "-c", script], env={"MAKE": make}, timeout=120)
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split()[:2], done.stdout.split()[2:]
    assert before == after
    assert before[1] == "9"


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(way: Session, mode: str) -> None:
    script = f"""pgbench -i -q -s 1 2>/dev/null && pgbench -n -M {mode} -c 4 -j 2 -t 50 &&
        pgbench -n -S -M {mode} -c 4 -j 2 -t 100"""
    done = way.run(["sh", "-c", script], env={"PATH": f"{binaries('15')}:/usr/bin:/bin"}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"actually processed: (\S+)", done.stdout) == ["200/200", "400/400"]
    assert re.findall(r"failed transactions: (\d+)", done.stdout) == ["0", "0"]


def test_psql_is_interrupted(way: Session) -> None:
    """Ctrl-C: psql cancels at the server, and goes on."""
    script = f"""{_PSQL} -f - <<'END' 2>&1 &
select pg_sleep(30);
\\echo :SQLSTATE
select 'still here';
END
        sleep 1; kill -INT $!; wait $!"""
    # a background job of a shell ignores the interrupt unless job control is on
    done = way.run(["bash", "-mc", script], timeout=60)
    assert "canceling statement due to user request" in done.stdout
    assert "pg_sleep" not in done.stdout
