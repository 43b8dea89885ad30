"""Something changes or stalls under way: policy, a secret's source, the record."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.processes import pids
from tests.e2e.spine import HOST, POLICY, Spine
from tests.guard.client import Client, ask_until_refused
from tests.guard.test_killed import until
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world

SIZE = 30_000_000
URL = f"https://{HOST}/bytes?n={SIZE}"


def change(config: dict[str, Any], _policy: dict[str, Any]) -> None:
    secret = config["secrets"][0]
    file = Path(config["tls"]["upstream_ca_files"][0]).parent / "credential"
    file.write_text(TOKEN)
    file.chmod(0o644)
    secret["from"] = {"file": str(file)}
    secret["cache"] = 1


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(change) as made:
        yield made


@pytest.fixture
def client(spine: Spine) -> Iterator[Client]:
    made = Client(spine)
    until(made, "200", "get", "/secret")
    yield made
    made.end()


def reload(spine: Spine, policy: dict[str, Any]) -> int:
    spine.appliance.write_policy(policy)
    return spine.appliance.cli("policy", "reload").returncode


def test_reload_in_the_middle_of_a_response(spine: Spine, client: Client) -> None:
    """What is under way was allowed and ends as it began; what begins afterwards is judged anew, also on a connection
    that was opened before."""
    assert client.ask("keep", "/secret") == "200"
    slow = spine.world.popen(
        spine.appliance.job_command(
            ["curl", "-sS", "--limit-rate", "15M", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", URL]
        ),
        cwd="/",
        env=spine.appliance.environment,
        uid=65534,
        groups=[spine.appliance.group],
        stdout=-1,
        text=True,
    )
    while not any(each["path"].startswith("/bytes") for each in spine.received()):
        time.sleep(0.01)
    denying = copy.deepcopy(POLICY)
    denying["destinations"][0]["rules"] = []
    try:
        assert reload(spine, denying) == 0
        assert slow.poll() is None
        got = len(spine.received())
        answers = until(client, "403 urn:coatcheck:denied:service/default-deny", "keep", "/secret")
        assert len(spine.received()) == got + len(answers) - 1
        assert slow.communicate(timeout=30)[0] == f"200 {SIZE}"
    finally:
        assert reload(spine, POLICY) == 0
    until(client, "200", "keep", "/secret")


@pytest.mark.parametrize(
    "broken",
    [
        '{"destinations": [',
        '{"destinations": [{"name": "x", "host": ["a.test"]}]}',
        "[]",
        '{"destinations": [{"name": "serv',
    ],
)
def test_a_broken_policy_changes_nothing(spine: Spine, client: Client, broken: str) -> None:
    file = spine.appliance.policy_dir / "data.yaml"
    file.write_text(broken)
    try:
        done = spine.appliance.cli("policy", "reload")
        assert done.returncode != 0
        assert "data.yaml" in done.stderr, done.stderr
        assert client.ask("get", "/secret") == "200"
        changes = [r for r in spine.appliance.audit() if r["type"] == "policy.changed"]
        assert changes[-1]["ok"] is False
    finally:
        assert reload(spine, POLICY) == 0


def test_a_source_that_dies(spine: Spine, client: Client) -> None:
    """Past the value's life there is none: 502, and nothing is forwarded, neither secret nor placeholder."""
    source = Path(spine.appliance.config["secrets"][0]["from"]["file"])
    source.unlink()
    try:
        failed = until(client, "502 urn:coatcheck:unavailable:secret-unavailable", "keep", "/secret")
        got = len(spine.received())
        assert client.ask("get", "/secret") == failed[-1]
        assert len(spine.received()) == got
    finally:
        source.write_text(TOKEN)
    until(client, "200", "keep", "/secret")
    assert all(client.placeholder not in str(each) for each in spine.received())


def test_a_control_that_stalls(spine: Spine, client: Client) -> None:
    """With control stopped (SIGSTOP) requests go on for as long as their records have room; then they wait; past the
    patience they fail; none passes unrecorded."""
    assert client.ask("keep", "/secret") == "200"
    waiting = Client(spine)
    until(waiting, "200", "keep", "/secret")
    control = pids(spine.appliance)["control"]
    got = len(spine.received())
    os.kill(control, signal.SIGSTOP)
    try:
        answers = ask_until_refused(client, "/stalled")  # the last one has waited
        assert answers[-1].startswith("503 ")
        assert len(answers) > 10
        assert len(spine.received()) == got + len(answers) - 1
        assert waiting.ask("keep", "/stalled/waiting").startswith("503 ")  # nobody waits once more
        assert len(spine.received()) == got + len(answers) - 1
    finally:
        os.kill(control, signal.SIGCONT)
    until(waiting, "200", "keep", "/secret")
    until(client, "200", "get", "/secret")
    waiting.end()
    on_record = {r["path"] for r in spine.appliance.audit() if r["type"] == "operation.decided"}
    assert {each["path"] for each in spine.received()[got:]} - on_record == set()
    assert "/stalled/waiting" not in {each["path"] for each in spine.received()}
    assert spine.appliance.cli("audit", "verify").returncode == 0
