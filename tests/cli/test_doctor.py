"""`coatcheck doctor`: says what is missing, where it is missing, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.hot import HOT, interpreted
from tests.cli.conftest import Run
from tests.e2e.spine import AGENT_UID, Spine

pytestmark = pytest.mark.world

Checks = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def stopped() -> Iterator[Spine]:
    """A world with everything but the appliance running."""
    with Spine(start=False) as made:
        yield made


def examine(spine: Spine, *, status: int = 0, config: str = "", **options: Any) -> Checks:
    """The checks by name."""
    done = spine.appliance.cli("doctor", "--json", "--config", config or str(spine.appliance.config_file), **options)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert set(report) == {"ok", "checks"}
    assert report["ok"] is (status == 0)
    for check in report["checks"]:
        assert set(check) == {"name", "state", "detail", "mend"}
        assert check["state"] in ("ok", "missing", "optional", "not checked")
        assert check["detail"]
        assert check["mend"] or check["state"] in ("ok", "not checked")
    assert any(check["state"] == "missing" for check in report["checks"]) is (status == 1)
    return {check["name"]: check for check in report["checks"]}


def changed(spine: Spine, **keys: Any) -> str:
    file = spine.world.dir / "changed.yaml"
    file.write_text(json.dumps({**spine.appliance.config, **keys}))
    return str(file)


def test_a_host_that_has_what_is_needed(stopped: Spine) -> None:
    checks = examine(stopped)
    for name in ("root", "kernel", "cgroup2", "BTF", "bpffs", "libbpf", "compiled hooks", "hooks", "loopback"):
        assert checks[name]["state"] == "ok", name
    for name in ("tcp port 1006", "udp port 1007", "configuration", "policy", "policy and configuration", "CA"):
        assert checks[name]["state"] == "ok", name
    assert checks["daemon"]["state"] == "optional"


def test_it_says_whether_the_hot_modules_are_compiled(stopped: Spine) -> None:
    check = examine(stopped)["compiled modules"]
    assert check["state"] == ("optional" if interpreted() else "ok")
    assert check["detail"].startswith(f"{len(HOT)} ")


def test_it_changes_nothing(stopped: Spine) -> None:
    def seen() -> tuple[list[str], list[Path]]:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in mounts if stopped.world.name in line], sorted(stopped.world.dir.iterdir())

    before = seen()
    examine(stopped)
    assert seen() == before


def test_the_table_says_the_same(stopped: Spine) -> None:
    done = stopped.appliance.cli("doctor", "--config", "/nowhere")
    assert done.returncode == 1
    assert "MISSING      configuration" in done.stdout
    assert "To mend:" in done.stdout
    assert "--config" in done.stdout


def test_without_a_configuration_the_rest_is_checked(stopped: Spine) -> None:
    checks = examine(stopped, status=1, config="/nowhere")
    assert checks["configuration"]["state"] == "missing"
    assert checks["ports"]["state"] == "not checked"
    assert checks["kernel"]["state"] == "ok"


def test_a_mistake_in_the_configuration_is_shown_with_its_line(stopped: Spine) -> None:
    checks = examine(stopped, status=1, config=changed(stopped, run_dri="/x"))
    assert "run_dri: there is no such key" in checks["configuration"]["detail"]


def test_without_root_what_can_be_checked_is(stopped: Spine) -> None:
    checks = examine(stopped, uid=AGENT_UID)
    assert checks["hooks"] == {
        "name": "hooks",
        "state": "not checked",
        "detail": "the kernel shows its hook types to root alone",
        "mend": "run it as root",
    }
    assert checks["root"]["state"] == "not checked"
    assert checks["policy"]["state"] == "ok"


@pytest.mark.parametrize(("key", "kind"), [("proxy_port", "tcp"), ("dns_port", "udp")])
def test_a_port_that_somebody_has(stopped: Spine, key: str, kind: str) -> None:
    import socket

    how = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    port = stopped.world.listener("host", "127.0.0.1", kind=how).getsockname()[1]
    check = examine(stopped, status=1, config=changed(stopped, listen={key: port}))[f"{kind} port {port}"]
    assert check["state"] == "missing"
    assert f"listen.{key}" in check["mend"]


def test_a_port_that_any_user_may_take(stopped: Spine) -> None:
    check = examine(stopped, config=changed(stopped, listen={"proxy_port": 20006}))["tcp port 20006"]
    assert check["state"] == "optional"


def test_loopback_that_is_down(stopped: Spine) -> None:
    stopped.world.ip("host", "link", "set", "lo", "down")
    try:
        assert "lo is down" in examine(stopped, status=1)["loopback"]["detail"]
    finally:
        stopped.world.ip("host", "link", "set", "lo", "up")


def test_loopback_without_ipv6(stopped: Spine) -> None:
    stopped.world.ip("host", "addr", "del", "::1/128", "dev", "lo")
    try:
        assert examine(stopped)["IPv6"]["state"] == "optional"
    finally:
        stopped.world.ip("host", "addr", "add", "::1/128", "dev", "lo")


@pytest.mark.parametrize(
    ("keys", "name", "state", "what"),
    [
        ({"workloads": []}, "configuration", "optional", "no job may connect"),
        ({"workloads": []}, "policy and configuration", "optional", "principal agent"),
        ({"policy_dir": "/nowhere"}, "policy", "missing", "No such file"),
        ({"limits": {"flows": 10**8}}, "descriptors", "optional", "200000256"),
        ({"dns": {"servers": ["192.0.2.53@5353"]}}, "name servers", "ok", "192.0.2.53 (dns.servers)"),
        ({"processes": {"vault": 61001, "proxy": 61002, "control": 61003, "group": 61004}}, "accounts", "ok", ""),
    ],
)
def test_what_follows_from_the_configuration(
    stopped: Spine, keys: dict[str, Any], name: str, state: str, what: str
) -> None:
    check = examine(stopped, status=int(state == "missing"), config=changed(stopped, **keys))[name]
    assert (check["state"], what in check["detail"]) == (state, True), check


def test_secrets_from_systemd_where_it_does_not_run(stopped: Spine) -> None:
    secret = {**stopped.appliance.config["secrets"][0], "from": {"credential": "token"}}
    systemd = Path("/run/systemd/system").is_dir()
    checks = examine(stopped, status=0 if systemd else 1, config=changed(stopped, secrets=[secret]))
    assert checks["systemd credentials"]["state"] == ("ok" if systemd else "missing")


@pytest.mark.parametrize(("folder", "what"), [("vault", "it belongs to uid"), ("control", "it belongs to uid")])
def test_a_state_folder_of_somebody_else(stopped: Spine, folder: str, what: str) -> None:
    state = stopped.world.dir / f"state-{folder}"
    (state / folder).mkdir(parents=True)
    checks = examine(stopped, status=1, config=changed(stopped, state_dir=str(state)))
    check = checks[f"folder {state / folder}"]
    assert what in check["detail"]
    assert "wider than 0700" in check["detail"]
    assert "chown" in check["mend"]


def test_where_it_runs_everything_is_ours_and_well(spine: Spine) -> None:
    checks = examine(spine)
    assert spine.appliance.process is not None
    for name in ("tcp port 1006", "udp port 1007"):
        assert f"pid {spine.appliance.process.pid}" in checks[name]["detail"]
    for name in ("daemon", "status", "CA"):
        assert checks[name]["state"] == "ok"
    assert all(check["state"] == "ok" for name, check in checks.items() if name.startswith("folder "))


def test_a_part_that_is_not_well_is_named(spine: Spine, cli: Callable[..., Run]) -> None:
    data = spine.appliance.policy_dir / "data.yaml"
    good = data.read_text()
    data.write_text("nonsense: 1\n")
    try:
        assert cli("policy", "reload").returncode == 1
        checks = examine(spine, status=1)
        assert "nonsense: there is no such key" in checks["policy"]["detail"]
        assert checks["status"]["detail"] == "not well: policy"
    finally:
        data.write_text(good)
        cli("policy", "reload")
