"""What an agent puts into a statement may be long: the statement is on record all the same, or it does not happen."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon.processes import pids
from tests.postgres.scripts import seen_by
from tests.postgres.session import AGENT_UID, variables
from tests.postgres.spine import Spine

pytestmark = pytest.mark.world


def _change(config: dict[str, Any], destination: dict[str, Any]) -> None:
    destination |= {"rules": [{"name": "any"}], "record": "values", "login": "password"}


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        made.server.sql("create table public.kept (word text, size int); grant all on public.kept to app")
        yield made


OPEN = """
import os
os.environ["PGSSLROOTCERT"] = os.environ["SSL_CERT_FILE"]
from appliance.wire.postgres import write
from tests.postgres.raw import Line
line, other = Line(), Line()
print("open", flush=True)
input()
"""
FLOOD = """
line.send(write.query(b"select length('" + b"x" * 8000 + b"')") * 400)
line._sock.settimeout(3)
try:
    line.send(write.copy_data(bytes(200_000)) * 320)
    print("is taken")
except TimeoutError:
    print("waits")
"""


GOODBYE = """
import time
line.send(b"".join(write.query(b"select %d, '" % number + b"x" * 8000 + b"'") for number in range(110)))
time.sleep(2)  # now there is no room
other.send(write.query(b"insert into kept values ('goodbye')") + write.terminate())
other.close()
time.sleep(1)  # now it is seen that nobody is there
print("gone")
"""


def _said_while_control_is_stopped(spine: Spine, code: str) -> str:
    """Soon there is no room for a record."""
    appliance = spine.appliance
    control = pids(appliance)["control"]
    job = spine.world.popen(
        appliance.job_command([*appliance.python, "-c", OPEN + code]),
        cwd="/",
        env={**appliance.environment, **variables(""), "PYTHONPATH": str(appliance.root)},
        uid=AGENT_UID,
        groups=[appliance.group],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "open\n"
    os.kill(control, signal.SIGSTOP)
    try:
        said, _ = job.communicate("go\n", timeout=60)
    finally:
        os.kill(control, signal.SIGCONT)
    return str(said)


def test_what_waits_for_its_record_is_bounded(spine: Spine) -> None:
    """What the agent sends waits with it."""
    assert _said_while_control_is_stopped(spine, FLOOD) == "waits\n"
    assert seen_by(spine, "go('select 8')") == [[[8]]]


def test_what_is_said_before_a_goodbye_is_carried_out(spine: Spine) -> None:
    """As by the server itself, which reads it before it sees that nobody waits."""
    assert _said_while_control_is_stopped(spine, GOODBYE) == "gone\n"
    until = time.monotonic() + 20
    while spine.server.sql("select count(*) from kept where word = 'goodbye'") != "1":
        assert time.monotonic() < until
        time.sleep(0.1)


LONG = {
    # as many as one message may hold and still have its parameters on record; below 0x20 a character is six in JSON
    "parameters": "go('insert into kept select $$parameters$$, ' + ' + '.join(['length(%s)'] * 9), ('x' * 8192,) * 9)",
    "escapes": "go('insert into kept select $$escapes$$, ' + ' + '.join(['length(%s)'] * 30), ('\\x01' * 8192,) * 30)",
    # a byte that is no UTF-8 is three in the record
    "bytes": """
text = 'insert into kept select $$bytes$$, ' + ' + '.join(['length(%b)'] * 31) + ' -- ' + '\\u20ac' * 8192
go(text, (b'\\xff' * 8400,) * 31)
""",
    # so are those of a name, and all names are in the record
    "tables": """
names = ['"' + '\\x01' * 55 + str(number) + '"' for number in range(3000)]
go('insert into kept select $$tables$$, 1')
go('drop table if exists ' + ','.join(names) + ',dropped')
""",
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_statement_is_on_record_or_does_not_happen(spine: Spine, name: str) -> None:
    """And whoever comes after it is served."""
    spine.server.sql("drop table if exists dropped; create table dropped (n int); alter table dropped owner to app")
    seen_by(spine, LONG[name])
    assert seen_by(spine, "go('select 8')") == [[[8]]]
    decided = [r for r in spine.appliance.audit() if r["type"] == "statement.decided" and r["decision"] == "allow"]
    if name == "tables":
        happened = spine.server.sql("select to_regclass('dropped') is null") == "t"
        on_record = any(r["command"].startswith("drop") for r in decided)
    else:
        happened = spine.server.sql(f"select count(*) from kept where word = '{name}'") != "0"
        on_record = any(f"$${name}$$" in r["statement"] for r in decided)
    assert happened == on_record
