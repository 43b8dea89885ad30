"""psycopg in a job: a few lines of code, and what it saw."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.canary import seen_in
from tests.postgres.server import PASSWORD
from tests.postgres.spine import Spine


def seen_by(spine: Spine, code: str) -> Any:
    """`code` in a job; it leaves what it saw in `seen`. Errors of psycopg come as [SQLSTATE, message, hint]."""
    whole = f"""
import json, psycopg
seen = []
connection = psycopg.connect("", autocommit=True)
def go(statement, parameters=None, on=connection, **options):
    try:
        cursor = on.execute(statement, parameters, **options)
        seen.append(cursor.fetchall() if cursor.description else cursor.statusmessage)
    except psycopg.Error as error:
        seen.append([error.sqlstate, error.diag.message_primary, error.diag.message_hint])
{code}
print(json.dumps(seen, default=str))
"""
    done = spine.run([*spine.appliance.python, "-c", whole], timeout=60)
    assert done.returncode == 0, done.stderr
    assert not seen_in(PASSWORD, done.stdout, done.stderr)
    return json.loads(done.stdout)


def assert_denied(got: Any, *words: str) -> None:
    assert got[0] == "42501", got
    for word in words:
        assert word in f"{got[1]} {got[2]}", got
