"""What policy says of a session and of its statements' time and size: which it may be, and how it ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.canary import seen_in
from tests.postgres.scripts import assert_denied, seen_by
from tests.postgres.server import DATABASE, HOST, PASSWORD
from tests.postgres.spine import Spine
from tests.world.pki import Pair, TestAuthority

pytestmark = pytest.mark.world
_HBA_REPLICATION = """
local   all         all     trust
hostssl replication all all scram-sha-256
hostssl all         all all scram-sha-256
"""
_LIMITS: list[dict[str, Any]] = [
    {"name": "slowly", "commands": ["truncate"], "decision": "hold", "hold": "2s", "reason": "a person looks at it"},
    {"name": "long", "commands": ["update"], "decision": "hold", "hold": "10m", "reason": "a person looks at it"},
    {"name": "few", "commands": ["select", "copy-out", "declare"], "tables": ["public.t"], "max_rows": 5},
    {"name": "small", "commands": ["select"], "tables": ["public.wide"], "max_bytes": 100_000},
    {"name": "any"},
]


def _limits(config: dict[str, Any], destination: dict[str, Any]) -> None:
    destination["rules"] = _LIMITS


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_limits) as made:
        made.server.sql("""
            create table t (n int); insert into t select generate_series(1, 100);
            create table wide (word text); insert into wide select repeat('x', 1000) from generate_series(1, 1000);
            alter table t owner to app; grant all on wide to app;
        """)
        yield made


# --- A rule's hold and limits


def test_held_until_its_time_is_over(spine: Spine) -> None:
    """The client is told at once that it waits, and why; then it is denied as any."""
    done = spine.sql("truncate t;\n\\echo :SQLSTATE\nselect 'on it goes';\n", timeout=60)
    assert done.stdout == "42501\non it goes\n", done.stderr
    notice, _, error = done.stderr.partition("ERROR:")
    assert "NOTICE:" in notice
    assert "a person looks at it" in error
    assert spine.server.sql("select count(*) from t") == "100"
    spine.appliance.settle()
    records = [each for each in spine.appliance.audit() if each.get("command") == "truncate"]
    decided = [(each["operation"], each["decision"]) for each in records]
    number = decided[0][0]
    assert decided == [(number, "hold"), (number, "deny")]


def test_held_and_cancelled(spine: Spine) -> None:
    code = """
import threading
def notice(diagnostic):  # it waits: cancelled from another thread, as ^C would
    threading.Thread(target=connection.cancel_safe).start()
connection.add_notice_handler(notice)
go("update t set n = 0")
go("select 1")
"""
    held, after = seen_by(spine, code)
    assert held[0] == "57014", held
    assert after == [[1]]
    assert spine.server.sql("select count(*) from t where n = 0") == "0"


def test_max_rows(spine: Spine) -> None:
    code = """
go("select n from t order by n limit 5")
go("select n from t")
go("select n from t", binary=True)
go("select n from t", prepare=True)
arrived = []
try:
    with connection.cursor().copy("copy t to stdout") as copy:
        for row in copy.rows():
            arrived.append(row)
except psycopg.Error as error:
    seen.append([error.sqlstate, len(arrived)])
go("select word from wide limit 50")
go("select word from wide")
go("select 1")
arrived = []
try:
    with connection.transaction(), connection.cursor("portions") as portions:
        portions.execute("select n from t order by n")
        while got := portions.fetchmany(2):
            arrived += got
except psycopg.Error as error:
    seen.append([error.sqlstate, len(arrived)])
"""
    few, *more, copied, small, wide, after, portions = seen_by(spine, code)
    assert portions == ["54000", 4]
    assert few == [[n] for n in range(1, 6)]
    assert [got[0] for got in more] == ["54000"] * 3
    assert copied[0] == "54000"
    assert copied[1] <= 5
    assert len(small) == 50
    assert wide[0] == "54000"
    assert after == [[1]]


def _waited(spine: Spine) -> float:
    asked = ["curl", "-sSf", "--unix-socket", spine.appliance.environment["COATCHECK_SOCKET"], "http://x/metrics"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(float(line.split()[-1]) for line in found if line.startswith("coatcheck_statements_waited_total "))


def test_a_job_with_nothing_but_new_statements(spine: Spine) -> None:
    """It has used up its share of the worker's time after a second of reading, over however many connections: then it
    waits, and gets all its answers, in order."""
    many = ",".join(str(number) for number in range(10_000))  # tens of milliseconds, here; how many is the machine's
    waited = _waited(spine)
    for first in range(0, 1000, 20):
        texts = (f"select {number} where 0 in ({many});\n" for number in range(first, first + 20))
        done = spine.sql("".join(texts), timeout=120)
        assert done.stdout.split() == [str(number) for number in range(first, first + 20)], done.stderr
        if _waited(spine) > waited:  # workers report about once a second
            break
    else:
        pytest.fail("nothing has waited")


# --- What a session may be


def test_a_client_certificate() -> None:
    """The server asks for no password but for a certificate in the role's name; the job has neither."""
    files: list[Path] = []

    def pair(authority: TestAuthority) -> Pair:
        mine = authority.issue("certified")
        files.append(mine.chain.with_name("both.pem"))
        files[0].write_bytes(mine.chain.read_bytes() + mine.key.read_bytes())
        return authority.issue(HOST)

    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        secret = {"name": "db", "from": {"file": str(files[0])}, "destinations": ["db"], "hosts": [HOST]}
        config["secrets"] = [{**secret, "slots": [{"in": "upstream-certificate"}]}]
        destination["upstream_login"] = ["none"]

    with Spine(change, pair=pair, settings={"log_connections": "on"}) as spine:
        done = spine.shell("env; psql -XAtq -w -U certified -c 'select current_user'", timeout=60)
        assert done.stdout.splitlines()[-1] == "certified", done.stderr
        assert 'identity="CN=certified" method=cert' in spine.server.log()
        key = files[0].read_text().partition("PRIVATE KEY-----\n")[2][:60]
        assert key not in done.stdout
        # the server takes that certificate for nobody else
        done = spine.shell("psql -XAtq -w -U app -c 'select current_user'", timeout=60)
        assert done.returncode != 0
        assert "app" not in done.stdout.split()


def test_a_placeholder_that_is_one_users() -> None:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        config["secrets"][0]["slots"] = [{"in": "postgres", "name": "app"}]

    with Spine(change) as spine:
        assert spine.sql("select current_user;", timeout=60).stdout == "app\n"
        done = spine.shell("psql -XAtq -U owner -c 'select current_user'", timeout=60)
        assert done.returncode == 2
        assert "Coatcheck denied this" in done.stderr
        assert not seen_in(PASSWORD, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "statement",
    ["reset role", "set role none", "set role app", "set session authorization default", "reset all; reset role"],
)
def test_a_role_that_is_kept(role: Spine, statement: str) -> None:
    tried, who = seen_by(role, f"go({statement!r}); go('select current_user')")
    assert who == [["reader"]]
    if isinstance(tried, list):
        assert_denied(tried)


@pytest.fixture(scope="module")
def role() -> Iterator[Spine]:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination["role"] = "reader"

    with Spine(change) as made:
        yield made


def test_replication_where_the_policy_has_it() -> None:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination["replication"] = True

    with Spine(change, hba=_HBA_REPLICATION) as spine:
        spine.server.sql("alter role app replication; create table r (n int)")
        done = spine.shell("psql -XAtq replication=database -c IDENTIFY_SYSTEM -c 'select 7'", timeout=60)
        assert done.stdout.splitlines()[0].split("|")[3] == DATABASE, done.stderr
        assert done.stdout.splitlines()[1] == "7"
        done = spine.shell("psql -XAtq replication=true -c IDENTIFY_SYSTEM", timeout=60)
        assert done.stdout.count("|") == 3, done.stderr
        slot = f"pg_recvlogical -d {DATABASE} --slot s"
        done = spine.shell(f"{slot} --create-slot -P test_decoding", timeout=60)
        assert done.returncode == 0, done.stderr
        spine.server.sql("insert into r values (4242)")
        end = spine.server.sql("select pg_current_wal_insert_lsn()")
        done = spine.shell(f"{slot} --start --endpos {end} -f -", timeout=60)
        assert "table public.r: INSERT: n[integer]:4242" in done.stdout, done.stderr


# --- What a change of policy does to sessions that are open


_HOLDER = """
import sys, psycopg
connection = psycopg.connect("", autocommit=True)
print("open", flush=True)
for line in sys.stdin:
    try:
        print(connection.execute(line).fetchone()[0], flush=True)
    except psycopg.Error as error:
        print(error.sqlstate or "gone", " ".join(str(error).split()), flush=True)
"""


class _Holder:
    """A job with a session; `ask` runs a statement in it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return str(self.process.stdout.readline()).rstrip()

    def ask(self, statement: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{statement}\n")
        self.process.stdin.flush()
        return self.line()


@contextmanager
def _holder(spine: Spine) -> Iterator[_Holder]:
    process = spine.world.popen(
        spine.appliance.job_command([*spine.appliance.python, "-c", _HOLDER]),
        cwd="/",
        env={**spine.appliance.environment, "PGHOST": HOST, "PGUSER": "app", "PGDATABASE": DATABASE},
        uid=65534,
        groups=[spine.appliance.group],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    made = _Holder(process)
    try:
        assert made.line() == "open"
        yield made
    finally:
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def changing() -> Iterator[Spine]:
    with Spine(_judged) as made:
        yield made


def _judged(config: dict[str, Any], destination: dict[str, Any]) -> None:
    destination["rules"] = [{"name": "listen", "commands": ["listen"], "decision": "deny"}, {"name": "any"}]


def _reload(spine: Spine, **change: Any) -> None:
    spine.appliance.write_policy({"destinations": [{**spine.destination, **change}]})
    done = spine.appliance.cli("policy", "reload")
    assert done.returncode == 0, done.stderr


def _until_another(holder: _Holder, statement: str, answer: str) -> str:
    """A worker hears of a new policy a moment after the reload is done."""
    until = time.monotonic() + 20
    while (said := holder.ask(statement)) == answer:
        assert time.monotonic() < until
    return said


def test_changed_rules_count_at_once_in_the_same_session(changing: Spine) -> None:
    ask = "select count(*) from public.nothing where false"
    changing.server.sql("create table nothing (); grant select on nothing to app")
    _reload(changing)
    with _holder(changing) as holder:
        assert holder.ask(ask) == "0"
        _reload(changing, rules=[{"name": "now", "tables": ["public.*"], "decision": "deny"}, {"name": "any"}])
        assert _until_another(holder, ask, "0").startswith("42501 Coatcheck denied this")
        _reload(changing)
        assert _until_another(holder, "select 5", "") == "5"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"role": "reader"}, "57P01"),
        ({"masks": [{"name": "m", "detect": ["email"]}]}, "57P01"),
        ({"databases": ["other"]}, "57P01"),
        ({"principals": ["nobody"]}, "28000"),
    ],
    ids=["role", "masks", "databases", "principals"],
)
def test_a_changed_plan_ends_the_session(changing: Spine, change: dict[str, Any], state: str) -> None:
    _reload(changing)
    with _holder(changing) as holder:
        assert holder.ask("select 1") == "1"
        _reload(changing, **change)
        assert _until_another(holder, "select 1", "1").startswith(f"{state} Coatcheck denied this")
        assert holder.ask("select 1").startswith("gone")
        until = time.monotonic() + 20
        while changing.server.sql("select count(*) from pg_stat_activity where usename = 'app'") != "0":
            assert time.monotonic() < until
