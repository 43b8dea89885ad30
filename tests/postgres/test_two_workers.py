"""Two workers are one appliance: a CancelRequest reaches its session in whichever worker that is, once, and nothing but
what was under way; a connection without a server's name is known by what either worker has answered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.postgres.server import DATABASE
from tests.postgres.spine import Spine

pytestmark = pytest.mark.world

# For each line: a statement that lasts, so many requests to cancel it at once, then others
_JOB = """
import json, sys, threading, time, psycopg
connection = psycopg.connect("", autocommit=True)
print("open", flush=True)
def ask():  # by libpq's older function: without TLS, and so without a server name
    connection.cancel()
def wait():
    try:
        connection.execute("select pg_sleep(60)")
        seen.append("through")
    except psycopg.Error as error:
        seen.append(error.sqlstate)
seen = []
for line in sys.stdin:
    count = int(line)
    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    asking = [threading.Thread(target=ask) for _ in range(count)]
    for each in asking: each.start()
    for each in asking: each.join()
    print("asked", flush=True)
    waiting.join()
    for _ in range(20):
        seen.append(connection.execute("select 1, pg_sleep(0.01)").fetchone()[0])
    print(json.dumps(seen), flush=True)
    seen.clear()
"""

# For each line: looks the server up, or connects to where it was before; without TLS, and so without a server name
_NAMELESS = """
import sys, psycopg
address = ""
print("open", flush=True)
for line in sys.stdin:
    try:
        with psycopg.connect(f"host=db.example.test sslmode=disable hostaddr='{address}'") as connection:
            address = connection.info.hostaddr
            said = connection.execute("select 'through'").fetchone()[0]
        print(said, flush=True)
    except psycopg.Error as error:
        print(repr(str(error)), flush=True)
"""


def _change(config: dict[str, Any], destination: dict[str, Any]) -> None:
    config["processes"] = {**config.get("processes", {}), "workers": 2}


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        yield made


class _Holder:
    def __init__(self, spine: Spine, program: str = _JOB) -> None:
        appliance = spine.appliance
        self.process = spine.world.popen(
            appliance.job_command([*appliance.python, "-c", program]),
            cwd="/",
            env={**appliance.environment, "PGHOST": "db.example.test", "PGUSER": "app", "PGDATABASE": DATABASE},
            uid=65534,
            groups=[appliance.group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "open\n"

    def line(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        assert line, "the job ended"
        return line

    def ask(self, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)


def _workers(spine: Spine) -> list[int]:
    config = os.fsencode(str(spine.appliance.config_file))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if config in words and b"proxy" in words:
                found.append(int(entry.name))
    return sorted(found)


def _sockets(pid: int) -> int:
    return sum(os.readlink(each).startswith("socket:") for each in Path(f"/proc/{pid}/fd").iterdir())


def test_many_requests_are_one_and_what_follows_is_not_hit(spine: Spine) -> None:
    """Forty at once: each would be a connection to the server, and might stop what the agent does next."""
    holder = _Holder(spine)
    try:
        before = spine.server.log().count("connection received") + spine.server.log().count("canceling statement")
        for count in (1, 40):
            holder.ask(count)
            assert holder.line() == "asked\n"
            assert json.loads(holder.line()) == ["57014", *[1] * 20]
        assert spine.server.log().count("canceling statement") == before + 2
    finally:
        holder.end()


def test_a_request_that_another_worker_takes(spine: Spine) -> None:
    """The worker with the session is stopped while the request comes, so that it is the other one that takes it."""
    workers = _workers(spine)
    assert len(workers) == 2
    before = {pid: _sockets(pid) for pid in workers}
    holder = _Holder(spine)
    (mine,) = [pid for pid in workers if _sockets(pid) >= before[pid] + 2]
    try:
        holder.ask(1)
        until = time.monotonic() + 20
        while "pg_sleep(60)" not in spine.server.sql("select query from pg_stat_activity where state = 'active'"):
            assert time.monotonic() < until
        os.kill(mine, signal.SIGSTOP)
        assert holder.line() == "asked\n"
        os.kill(mine, signal.SIGCONT)
        assert json.loads(holder.line()) == ["57014", *[1] * 20]
    finally:
        os.kill(mine, signal.SIGCONT)
        holder.end()


def test_a_name_that_another_worker_answered(spine: Spine) -> None:
    """One worker is stopped while the other answers and takes the connection; then the other way round."""
    one, other = _workers(spine)
    holder = _Holder(spine, _NAMELESS)
    try:
        os.kill(one, signal.SIGSTOP)
        holder.ask(1)
        assert holder.line() == "through\n"
        os.kill(one, signal.SIGCONT)
        os.kill(other, signal.SIGSTOP)
        holder.ask(1)
        assert holder.line() == "through\n"
    finally:
        os.kill(one, signal.SIGCONT)
        os.kill(other, signal.SIGCONT)
        holder.end()
