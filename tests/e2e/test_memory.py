"""What connections leave behind in a worker: nothing that grows with their number."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from appliance.config.load import load
from appliance.config.places import accounts
from tests.e2e.spine import HOST, Spine

pytestmark = pytest.mark.world

MANY = f"""
import os, ssl, socket
from concurrent.futures import ThreadPoolExecutor
context = ssl.create_default_context()
request = "GET /bytes?n=1 HTTP/1.1\\r\\nHost: {HOST}\\r\\nAuthorization: Bearer %s\\r\\nConnection: close\\r\\n\\r\\n"
request = (request % os.environ["DEMO_TOKEN"]).encode()
def ask(_):
    with socket.create_connection(("{HOST}", 443)) as plain:
        with context.wrap_socket(plain, server_hostname="{HOST}") as tls:
            tls.sendall(request)
            assert tls.recv(64).startswith(b"HTTP/1.1 200")
            while tls.recv(4096):
                pass
with ThreadPoolExecutor(8) as pool:
    list(pool.map(ask, range(COUNT)))
print("done")
"""


def worker_kb(spine: Spine) -> int:
    """Private memory of the proxy's worker, in KiB (proc(5), smaps_rollup)."""
    uid = accounts(load(spine.appliance.config_file)).proxy
    ours = str(spine.appliance.config_file).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not (entry.name.isdigit() and entry.exists() and entry.stat().st_uid == uid):
            continue
        if ours in (entry / "cmdline").read_bytes():  # another appliance may run beside
            memory = (entry / "smaps_rollup").read_text()
            found.append(sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", memory, re.MULTILINE))))
    assert len(found) == 1, os.listdir("/proc")
    return found[0]


def connect(spine: Spine, count: int) -> int:
    done = spine.job([*spine.appliance.python, "-c", MANY.replace("COUNT", str(count))], timeout=60)
    assert done.stdout == "done\n", done.stderr
    return worker_kb(spine)


def test_a_thousand_connections_leave_nothing(spine: Spine) -> None:
    """2 kB a connection are allowed for what settles late; a TLS session that is lost takes 6, a context 30."""
    before = connect(spine, 600)
    grown = connect(spine, 1000) - before
    assert grown < 2000
