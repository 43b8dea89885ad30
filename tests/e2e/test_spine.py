"""The sentence that the spine is for: the job holds a placeholder, only the service sees the credential."""

from __future__ import annotations

import pytest

from tests.e2e.spine import HOST, Spine
from tests.world import OUTSIDE4
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world


def test_only_the_service_sees_the_credential(spine: Spine) -> None:
    done = spine.shell(
        'echo "$DEMO_TOKEN"; curl -sSi -H "Authorization: Bearer $DEMO_TOKEN" '
        f"https://{HOST}/echo --data body=$DEMO_TOKEN"
    )
    assert done.returncode == 0, done.stderr
    placeholder = done.stdout.split("\n", 1)[0]
    assert placeholder.startswith("ghp_")
    assert len(placeholder) == len(TOKEN)
    assert TOKEN not in done.stdout
    assert f"X-Echo-Authorization: Bearer {placeholder}" in done.stdout  # put back, in the head and in the body
    assert f'"Authorization", "Bearer {placeholder}"' in done.stdout
    seen = spine.received()[-1]
    assert ["Authorization", f"Bearer {TOKEN}"] in seen["headers"]
    assert seen["body"] == f"body={placeholder}"  # no slot: left as it is


def test_what_no_rule_names_is_denied_with_the_reason(spine: Spine) -> None:
    done = spine.shell(f"curl -sS -k https://{OUTSIDE4}/")
    assert "urn:coatcheck:denied:default-deny" in done.stdout, (done.stdout, done.stderr)
    assert all(record["path"] != "/" for record in spine.received())


def test_a_first_connection_that_is_closed_at_once_spoils_it_for_no_other(spine: Spine) -> None:
    """Many clients try whether they can connect before they go to work (wrk, health checks, happy eyeballs)."""
    code = f"""
import socket, ssl
socket.create_connection(({OUTSIDE4!r}, 443)).close()
plain = [socket.create_connection(({OUTSIDE4!r}, 443)) for _ in range(8)]
context = ssl.create_default_context()
for sock in plain:
    with context.wrap_socket(sock, server_hostname={HOST!r}) as tls:
        tls.sendall(b"GET /echo HTTP/1.1\\r\\nHost: {HOST}\\r\\nConnection: close\\r\\n\\r\\n")
        assert tls.recv(12) == b"HTTP/1.1 200"
print("all served")
"""
    for _ in range(6):
        done = spine.job([*spine.appliance.python, "-c", code])
        assert done.stdout == "all served\n", (done.stdout, done.stderr)
