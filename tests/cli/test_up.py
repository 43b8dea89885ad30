"""`coatcheck up` and `release`: what keeps them from starting is one sentence, before anything is touched."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.daemon.supervisor import descriptors_for
from tests.cli.conftest import Run, sentence
from tests.e2e.spine import AGENT_UID, Spine

Alone = Callable[..., Run]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("run_dir: /run/x\nrun_dri: /y\n", ":2: run_dri: there is no such key; did you mean run_dir?"),
        ("listen:\n  proxy_port: many\n", ":2: listen.proxy_port: 'many': input should be a valid integer"),
        ("run_dir: /a\nrun_dir: /b\n", ':2: found duplicate key "run_dir"; each key may be written once'),
        ("a: [1\nb: }", ":2: this is not YAML: "),
        ("[]", ":1: the file must be a mapping"),
        ("workloads:\n- name: x\n  match: {cmdline: '(('}\n", ":3: workloads[0].match.cmdline: '((' is not a regular"),
        ("dns:\n  hosts:\n    a.test: [b]\n", ":3: dns.hosts.a.test"),
        ("processes: {vault: 0}\n", "must be three different accounts, none of them root"),
        ("processes: {vault: nobody-here}\n", "there is no user named 'nobody-here'"),
        (b"\xff\xfe".decode("latin-1"), "not UTF-8"),
    ],
)
@pytest.mark.parametrize("command", ["up", "release"])
def test_a_bad_configuration(alone: Alone, tmp_path: Path, command: str, text: str, what: str) -> None:
    file = tmp_path / "coatcheck.yaml"
    file.write_bytes(text.encode("latin-1"))
    said = sentence(alone(command, "--config", str(file)), 78)
    assert said.startswith(str(file))
    assert what in said


def test_a_configuration_that_is_not_there(alone: Alone, tmp_path: Path) -> None:
    assert "No such file or directory" in sentence(alone("up", "--config", str(tmp_path / "none")), 78)
    assert "Is a directory" in sentence(alone("up", "--config", str(tmp_path)), 78)


@pytest.mark.world
def test_a_second_one_is_refused_and_the_first_goes_on(spine: Spine) -> None:
    appliance = spine.appliance
    config = str(appliance.config_file)
    assert f"another coatcheck runs on {appliance.run_dir}" in sentence(appliance.cli("up", "--config", config), 1)
    assert "another coatcheck runs" in sentence(appliance.cli("release", "--config", config), 1)
    assert appliance.cli("status").returncode == 0
    assert spine.job(["true"]).returncode == 0


@pytest.mark.world
def test_another_installation_on_the_same_ports_is_refused(spine: Spine) -> None:
    other = changed(spine, run_dir="run2", state_dir="state2")
    said = [line for line in spine.appliance.cli("up", "--config", other).stderr.splitlines() if line[:1] != "{"]
    assert said == [
        "coatcheck: 127.0.0.1 port 1006 cannot be had: Address already in use; free it, or set listen in the file"
    ]


@pytest.mark.world
@pytest.mark.parametrize("key", ["run_dir", "state_dir"])
def test_a_folder_that_cannot_be_made(spine: Spine, key: str) -> None:
    (spine.world.dir / "file").write_text("")
    said = sentence(spine.appliance.cli("up", "--config", changed(spine, **{key: "file"})), 1)
    assert said == f"{spine.world.dir / 'file'} cannot be made: File exists"


@pytest.mark.world
@pytest.mark.parametrize("command", ["up", "release"])
def test_it_needs_root(spine: Spine, command: str) -> None:
    done = spine.appliance.cli(command, "--config", str(spine.appliance.config_file), uid=AGENT_UID)
    assert f"{command} needs root" in sentence(done, 77)


@pytest.mark.world
def test_its_processes_may_have_the_descriptors_that_their_flows_need(spine: Spine) -> None:
    process = spine.appliance.process
    assert process is not None
    limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    soft = int(next(line for line in limits if line.startswith("Max open files")).split()[3])
    assert soft >= min(descriptors_for(20_000), resource.getrlimit(resource.RLIMIT_NOFILE)[1])


@pytest.mark.world
def test_what_is_released_is_governed_no_more(spine: Spine) -> None:
    """Last of the module: nothing is governed afterwards."""
    appliance = spine.appliance
    appliance.stop()
    config = str(appliance.config_file)
    done = appliance.cli("release", "--config", config)
    assert (done.returncode, done.stdout) == (0, "released: nothing is governed any more\n")
    assert not (appliance.run_dir / "bpf").exists()
    assert appliance.cli("release", "--config", config).returncode == 0  # once more does no harm
    nowhere = changed(spine, run_dir="never")
    assert appliance.cli("release", "--config", nowhere).stdout == "nothing is governed\n"
    assert not (spine.world.dir / "never").exists()


def changed(spine: Spine, **folders: str) -> str:
    """Another configuration file, with other folders."""
    config: dict[str, Any] = dict(spine.appliance.config)
    config |= {key: str(spine.world.dir / name) for key, name in folders.items()}
    file = spine.world.dir / "changed.yaml"
    file.write_text(json.dumps(config))
    return str(file)
