"""PostgreSQL rows that no other test tries."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import IO, Any

import pytest

from tests.bypass.rows import tries
from tests.e2e.canary import seen_in
from tests.postgres.server import HOST, PASSWORD, PORT
from tests.postgres.spine import Spine
from tests.world import HOST4, OUTSIDE4

pytestmark = pytest.mark.world

_SELECT = "psql -X -A -t -q -c 'select current_user'"
_RAW = """
import os, socket, struct, sys
SSL, GSS = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)
HELLO = struct.pack("!II", 41, 196608) + b"user\\0app\\0database\\0app\\0\\0".ljust(33, b"\\0")
def all_of(data, more=b""):
    with socket.create_connection((os.environ["PGHOST"], 5432)) as sock:
        sock.settimeout(8)
        sock.sendall(data)
        got = b""
        try:
            while piece := sock.recv(9999):
                got += piece
                if more:
                    sock.sendall(more)
                    more = b""
        except OSError as error:
            got += b"!" + type(error).__name__.encode()
        return got
"""


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine() as made:
        yield made


def _logins(spine: Spine) -> int:
    return spine.server.log().count("connection received")


def _raw(spine: Spine, code: str) -> str:
    done = spine.run([*spine.appliance.python, "-c", _RAW + code], timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@tries("the server's address under another name")
@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_the_address_under_another_name(spine: Spine, sslmode: str) -> None:
    """Also under none: where the job has not asked for the name, the address is what it goes by."""
    before = _logins(spine)
    for script in (f"PGHOST=other.example.test PGHOSTADDR={OUTSIDE4}", f"PGHOST={OUTSIDE4}"):
        done = spine.shell(f"{script} PGSSLMODE={sslmode} {_SELECT}", timeout=60)
        assert done.returncode == 2
        assert "no destination in the policy has this host" in done.stderr, done.stderr
    assert _logins(spine) == before


@tries("another address under the server's name")
def test_the_name_at_another_address(spine: Spine) -> None:
    """A server of the agent's own, say, that would ask for the password in clear."""
    sock = spine.world.listener("host", HOST4, PORT)
    done = spine.shell(f"PGHOSTADDR={HOST4} PGSSLMODE=require {_SELECT}", timeout=60)
    assert done.returncode == 2
    assert "is not among the addresses" in done.stderr, done.stderr
    sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        sock.accept()


@tries("what comes right behind SSLRequest, in clear, to be taken for what came within TLS")
def test_stuffing(spine: Spine) -> None:
    """A startup packet in the same segment, or before the answer was waited for: no session comes of it, and nothing
    of it is answered."""
    before = _logins(spine)
    for send in ("all_of(SSL + HELLO)", "all_of(SSL, HELLO)", "all_of(GSS + SSL + HELLO)"):
        said = _raw(spine, f"print({send})")
        assert said.startswith(("b'S", "b'N")), said
        assert "R\\x00" not in said, said  # no Authentication message
    assert _logins(spine) == before


@tries("SSLRequest and GSSENCRequest over and over")
def test_over_and_over(spine: Spine) -> None:
    for send in ("all_of(SSL * 50)", "all_of(GSS * 50)", "all_of((GSS + SSL) * 50)"):
        said = _raw(spine, f"print({send})")
        assert said.count("N") <= 2, said  # one answer, and perhaps that of an error's name
        assert said.count("S") <= 2, said
        assert "Reset" in said, said


_VICTIM = """
import asyncio, asyncpg, sys
async def main():
    connection = await asyncpg.connect()
    print(connection._protocol.backend_pid, connection._protocol.backend_secret, flush=True)
    try:
        print(await connection.fetchval("select pg_sleep(4)::text || 'through'"), flush=True)
    except asyncpg.QueryCanceledError:
        print("cancelled", flush=True)
asyncio.run(main())
"""
_CANCEL = "print(all_of(struct.pack('!IIIi', 16, 80877102, {}, {})))"


def _victim(spine: Spine) -> tuple[str, str, IO[str]]:
    """A job whose statement takes 4 s: what its session may be cancelled with, and where it says how that went."""
    process = spine.world.popen(
        spine.appliance.job_command([*spine.appliance.python, "-c", _VICTIM]),
        cwd="/",
        env={**spine.appliance.environment, "PGHOST": HOST, "PGUSER": "app", "PGDATABASE": "app"},
        uid=65534,
        groups=[spine.appliance.group],
        stdout=-1,
        text=True,
    )
    assert process.stdout is not None
    pid, key = process.stdout.readline().split()
    return pid, key, process.stdout


def _canceled(spine: Spine, *, same_job: bool) -> str:
    """What becomes of a session when somebody sends its CancelRequest."""
    if same_job:
        code = f"""
import subprocess
victim = subprocess.Popen([sys.executable, "-c", {_VICTIM!r}], stdout=-1, text=True)
pid, key = victim.stdout.readline().split()
__import__("time").sleep(1)
all_of(struct.pack("!IIIi", 16, 80877102, int(pid), int(key)))
print(victim.stdout.read())
"""
        return _raw(spine, code)
    pid, key, end = _victim(spine)
    assert _raw(spine, _CANCEL.format(pid, key)) == "b''"  # nobody is told whether it worked (55.2.8)
    return end.read().strip()


@tries("a CancelRequest from another job, with the very key")
def test_cancel_from_another_job(spine: Spine) -> None:
    assert _canceled(spine, same_job=True) == "cancelled"
    assert _canceled(spine, same_job=False) == "through"


@tries("the server's own key for a cancel")
def test_the_server_s_key_stays_here(spine: Spine) -> None:
    """The pid that an agent is told is the server's own, the key is not: sent to the server it cancels nothing."""
    pid, key, end = _victim(spine)
    with spine.world.inside("host", lambda: socket.create_connection((OUTSIDE4, 5432))) as straight:
        straight.sendall(struct.pack("!IIIi", 16, 80877102, int(pid), int(key)))
        assert straight.recv(1) == b""
    assert end.read().strip() == "through"


@tries("a tunnel rule for the server's port, to log in unread")
def test_a_tunnel_does_not_take_it() -> None:
    """Bytes that are PostgreSQL's are no tunnel's, with and without TLS; not for the real password either."""

    def change(config: dict[str, Any], destination: dict[str, Any]) -> None:
        for key in ("secrets", "rules"):
            del destination[key]
        destination["protocol"] = "tunnel"

    with Spine(change) as spine:
        for sslmode in ("disable", "require"):
            for env in ({}, {"PGPASSWORD": PASSWORD}):
                done = spine.run(["env", f"PGSSLMODE={sslmode}", "sh", "-c", _SELECT], env=env, timeout=60)
                assert done.returncode == 2
                assert "no destination in the policy has this host, port and protocol" in done.stderr, done.stderr
        assert _logins(spine) == 0


@tries("a password of one's own choice for the role (ALTER ROLE … PASSWORD), where every statement is allowed")
def test_a_password_of_its_own(spine: Spine) -> None:
    for text in (
        "alter role app password 'chosen'",
        "ALTER USER app WITH ENCRYPTED PASSWORD 'chosen'",
        "create role other login password 'chosen'",
        "select 1; alter role current_user password null",
        "select 2; /* */ alter role app valid until 'infinity' password 'chosen'",
    ):
        done = spine.run(["psql", "-X", "-c", text])
        assert "a role's password" in done.stderr, text
    assert spine.run(["psql", "-X", "-A", "-t", "-c", "select 1"]).stdout == "1\n"


_KNOWN = f"""
create table known (word text); insert into known values ('{PASSWORD}'); grant all on known to app;
create function tell() returns void language plpgsql as $$
declare w text;
begin
    select word into w from known;
    raise notice 'it is %', w;
    raise exception 'it was %', w using detail = w, hint = w;
end $$;
"""  # noqa: S608  # it is this test's own


@tries("the password where the database has it: in rows, COPY, notices, errors, encoded")
def test_the_password_in_what_comes_back(spine: Spine) -> None:
    spine.server.sql(_KNOWN)
    statements = [
        "select word from known",
        "select 'x' || word || 'y', array[word], to_json(word) from known",
        "select encode(word::bytea, 'hex') from known",
        "select word::bytea from known",
        "select encode(word::bytea, 'base64') from known",
        "copy known to stdout",
        "copy known to stdout csv",
        "select tell()",
        "select word::int from known",
        "insert into known (word) select word from known returning word",
    ]
    done = spine.sql(";\n".join([*statements, ""]), timeout=60)
    assert "it is" in done.stderr
    assert "it was" in done.stderr
    assert "invalid input syntax" in done.stderr
    assert len(done.stdout.splitlines()) >= 8
    assert not seen_in(PASSWORD, done.stdout, done.stderr), done.stdout + done.stderr
    code = "import psycopg\nc = psycopg.connect('')\n"
    code += "print(c.execute('select word from known limit 1', binary=True).fetchone())"
    binary = spine.run([*spine.appliance.python, "-c", code], timeout=60)
    assert binary.returncode == 0, binary.stderr
    assert not seen_in(PASSWORD, binary.stdout, json.dumps(spine.appliance.audit()))
