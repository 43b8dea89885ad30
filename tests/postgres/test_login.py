"""Who gets a session: a placeholder of this job, for this destination, user and database; nobody else, and each is told
why in PostgreSQL's own way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.canary import seen_in
from tests.postgres.server import DATABASE, HOST, PASSWORD
from tests.postgres.session import AGENT_UID, variables
from tests.postgres.spine import Spine
from tests.world.pki import Pair, TestAuthority

pytestmark = pytest.mark.world
_SELECT = "psql -X -A -t -q -v VERBOSITY=verbose -c 'select current_user'"


def _change(config: dict[str, Any], destination: dict[str, Any]) -> None:
    destination["databases"] = [DATABASE]
    destination["users"] = ["app", "legacy", "plain"]


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change, settings={"log_connections": "on"}) as made:
        yield made


def _refused(spine: Spine, script: str, *words: str, **options: Any) -> str:
    """What a client says that must not get in; the credential is nowhere in it."""
    done = spine.shell(script, timeout=60, **options)
    assert done.returncode != 0, done.stdout
    assert "app" not in done.stdout.split()
    for word in words:
        assert word in done.stderr, done.stderr
    assert not seen_in(PASSWORD, done.stdout, done.stderr.replace(PASSWORD, "") if PASSWORD in script else done.stderr)
    return done.stderr


def test_the_placeholder_gets_in_and_only_the_server_sees_the_password(spine: Spine) -> None:
    done = spine.shell(f"{_SELECT}; env; cat /proc/self/environ", timeout=60)
    assert done.stdout.splitlines()[0] == "app", done.stderr
    assert not seen_in(PASSWORD, done.stdout, done.stderr)
    # the server took the real password, by SCRAM, for it has nothing else to check against
    assert 'connection authenticated: identity="app" method=scram-sha-256' in spine.server.log()


def test_what_the_server_says_at_the_login_has_no_secret_in_it(spine: Spine) -> None:
    spine.server.sql(f"alter role app set application_name = '{PASSWORD}'")
    try:
        code = "import psycopg; c = psycopg.connect(''); print(c.info.parameter_status('application_name'))"
        done = spine.run([*spine.appliance.python, "-c", code], timeout=60)
    finally:
        spine.server.sql("alter role app reset application_name")
    assert len(done.stdout) == len(PASSWORD) + 1, done.stderr
    assert not seen_in(PASSWORD, done.stdout, done.stderr)


@pytest.mark.parametrize("password", ["wrong", PASSWORD, ""], ids=["wrong", "real", "empty"])
def test_another_password_is_refused(spine: Spine, password: str) -> None:
    """The real one, too: an agent that has it must not be told that by being let in."""
    count = spine.server.log().count("connection authorized")
    done = spine.run(["sh", "-c", f"{_SELECT} -w"], env={"PGPASSWORD": password}, timeout=60)
    assert done.returncode == 2
    assert password == "" or "none of this job's live placeholders" in done.stderr, done.stderr
    assert spine.server.log().count("connection authorized") == count


@pytest.mark.parametrize(
    ("variables", "state"), [("PGPASSWORD=x", "28P01"), ("PGUSER=owner", "28000"), ("PGDATABASE=postgres", "28000")]
)
def test_the_sqlstate(spine: Spine, variables: str, state: str) -> None:
    """psql does not show that of a failed login; a driver's error has it."""
    code = """
import asyncio, asyncpg
try:
    asyncio.run(asyncpg.connect())
except asyncpg.PostgresError as error:
    print(error.sqlstate)
"""
    done = spine.run(["env", variables, *spine.appliance.python, "-c", code], timeout=60)
    assert done.stdout == f"{state}\n", done.stderr


def test_a_placeholder_of_another_job_is_refused(spine: Spine) -> None:
    """Taken while that job is still there."""
    from tests.e2e.agent import Agent

    with Agent(spine) as victim:
        stolen = victim.environment["PGPASSWORD"]
        _refused(spine, f"PGPASSWORD='{stolen}' {_SELECT}", "none of this job's live placeholders")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ("PGUSER=owner", ("user owner may not be used here",)),
        ("PGDATABASE=postgres", ("database postgres may not be used here",)),
        ("PGOPTIONS='-c database=postgres'", ("there is no setting database",)),
        ("PGOPTIONS='-c user=owner'", ("there is no setting user",)),
        ("PGPORT=5433", ()),
    ],
)
def test_another_user_database_or_port_is_refused(spine: Spine, variables: str, words: tuple[str, ...]) -> None:
    _refused(spine, f"{variables} {_SELECT}", *words)


@pytest.mark.parametrize("user", ["legacy", "plain"])
def test_what_the_policy_does_not_take_from_the_server(spine: Spine, user: str) -> None:
    """The server asks for MD5, or for the password itself; the policy's default is SCRAM alone."""
    _refused(spine, f"PGUSER={user} {_SELECT}", "Coatcheck")


@pytest.mark.parametrize("login", ["scram-sha-256", "md5", "password"])
def test_how_the_agent_and_we_log_in(login: str) -> None:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination["login"] = login
        destination["upstream_login"] = ["scram-sha-256-plus", "scram-sha-256", "md5", "password"]

    with Spine(change) as spine:
        for user in ("app", "legacy", "plain"):
            done = spine.shell(f"PGUSER={user} {_SELECT}", timeout=60)
            assert done.stdout == f"{user}\n", done.stderr
        refused = spine.run(["sh", "-c", _SELECT], env={"PGPASSWORD": "wrong"}, timeout=60)
        assert "none of this job's live placeholders" in refused.stderr
        if login == "password":
            _refused(spine, f"PGSSLMODE=disable {_SELECT}", "clear text")


def test_a_password_that_changes_while_a_job_runs_is_used_and_scrubbed(open_folder: Path) -> None:
    """With a placeholder that the worker does not know, which it asks the vault for in the middle of the login."""
    file, other = open_folder / "password", PASSWORD[::-1]
    file.write_text(PASSWORD)

    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        config["secrets"][0] |= {"from": {"command": ["/bin/cat", str(file)]}, "cache": 0.1}

    code = f"""
import os, subprocess, sys, psycopg
print(psycopg.connect("").execute("select 'old'").fetchone()[0], flush=True)
sys.stdin.readline()
minted = subprocess.run({{command!r}} + ["mint", "db"], stdout=-1, text=True, check=True)
connection = psycopg.connect(password=minted.stdout.strip())
print(connection.execute("select reverse('{PASSWORD}')").fetchone()[0])
"""
    environment = {name: value for name, value in variables("").items() if name != "PGPASSWORD"}
    with Spine(change) as spine:
        process = spine.world.popen(
            spine.appliance.job_command([*spine.appliance.python, "-c", code.format(command=spine.appliance.command)]),
            cwd="/",
            env={**spine.appliance.environment, **environment, "PYTHONPATH": str(spine.appliance.root)},
            uid=AGENT_UID,
            groups=[spine.appliance.group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "old\n"
        spine.server.sql(f"alter role app password '{other}'")
        file.write_text(other)
        said, _ = process.communicate("go\n", timeout=60)
    assert len(said) == len(other) + 1
    assert not seen_in(other, said)


def test_channel_binding(spine: Spine) -> None:
    """`prefer`, the default, works; `require` cannot, and says so."""
    done = spine.shell(f"PGCHANNELBINDING=prefer {_SELECT}", timeout=60)
    assert done.stdout == "app\n", done.stderr
    _refused(spine, f"PGCHANNELBINDING=require {_SELECT}", "channel binding")


def test_tls_at_once(spine: Spine) -> None:
    """sslnegotiation=direct, by the libpq 17 or later that psycopg's wheel brings."""
    code = (
        "import psycopg\nassert psycopg.pq.version() >= 170000\n"
        "c = psycopg.connect('sslnegotiation=direct sslmode=verify-full'); print(c.execute('select 1').fetchone())"
    )
    done = spine.run([*spine.appliance.python, "-c", code], timeout=60)
    assert done.stdout == "(1,)\n", done.stderr


def test_gss_encryption_is_not_offered(spine: Spine) -> None:
    done = spine.shell(f"PGGSSENCMODE=prefer {_SELECT}", timeout=60)
    assert done.stdout == "app\n", done.stderr
    _refused(spine, f"PGGSSENCMODE=require {_SELECT}")


@pytest.mark.parametrize("option", ["replication=database", "replication=true"])
def test_replication_is_refused(spine: Spine, option: str) -> None:
    _refused(spine, f"psql -X 'host={HOST} {option}' -c IDENTIFY_SYSTEM", "replication connections are not allowed")


@pytest.mark.parametrize("what", ["another name", "expired"])
def test_a_server_that_cannot_prove_its_name(what: str) -> None:
    def pair(authority: TestAuthority) -> Pair:
        return authority.issue("other.example.test") if what == "another name" else authority.issue(HOST, expired=True)

    with Spine(pair=pair) as spine:
        for sslmode in ("verify-full", "require", "disable"):
            _refused(spine, f"PGSSLMODE={sslmode} {_SELECT}", "the certificate was not accepted")


def test_a_server_without_tls_is_refused_unless_it_may_be() -> None:
    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        destination["protocol"] = "postgres"

    with Spine(change, tls=False) as spine:
        _refused(spine, _SELECT, "does not offer TLS")


@pytest.mark.parametrize("version", ["16", "18"])
def test_other_versions_in_clear_where_policy_says_so(version: Any) -> None:
    with Spine(version=version, tls=False) as spine:
        done = spine.shell(f"{_SELECT} -c 'show server_version'", timeout=60)
        assert done.stdout.splitlines()[0] == "app", done.stderr
        assert done.stdout.splitlines()[1].startswith(version)


def test_no_server() -> None:
    with Spine() as alone:
        alone.server.stop()
        _refused(alone, _SELECT, "connection refused")
