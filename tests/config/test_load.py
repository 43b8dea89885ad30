"""Every key of the configuration refuses what it must not be, in one sentence with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.load import load
from appliance.config.places import accounts
from appliance.config.schema import seconds_of
from appliance.model.errors import EnvironmentFailed

WORKLOAD = "workloads:\n  - name: w\n    match: {uid: [1]}\n"
SECRET = """secrets:
  - name: token
    from: {file: /x}
    destinations: [api]
    hosts: [api.example.com]
    slots: [{in: header, name: authorization}]
"""


def refusal(folder: Path, text: str | bytes) -> str:
    file = folder / "coatcheck.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EnvironmentFailed) as caught:
        load(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(str(file))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("state_dir: [a]", "state_dir"),
        ("run_dir: 3", "run_dir"),
        ("policy_dir: {a: b}", "policy_dir"),
        ("issuer: []", "issuer"),
        ("ask: []", "ask"),
        ("listen: {proxy_port: 0}", "listen.proxy_port"),
        ("listen: {dns_port: 70000}", "listen.dns_port"),
        ("govern: {root: /a}", "govern.root"),
        ("govern: {root: a/../b}", "govern.root"),
        ("govern: {existing: [{pattern: a}]}", "label"),
        ("govern: {existing: [{label: a}]}", "pattern"),
        ("govern: {existing: [{pattern: a, label: A}]}", "label"),
        ("govern: {existing: [{pattern: '', label: a}]}", "pattern"),
        ("govern: {existing: [{pattern: a//b, label: a}]}", "pattern"),
        ("govern: {existing: [{pattern: a/.., label: a}]}", "pattern"),
        ("processes: {vault: []}", "processes.vault"),
        ("processes: {proxy: {}}", "processes.proxy"),
        ("processes: {control: []}", "processes.control"),
        ("processes: {workers: 0}", "processes.workers"),
        ("processes: {group: []}", "processes.group"),
        ("workloads: [{name: A, match: {}}]", "name"),
        ("workloads: [{name: a}]", "match"),
        ("workloads: [{name: a, match: {uid: 1}}]", "uid"),
        ("workloads: [{name: a, match: {gid: x}}]", "gid"),
        ("workloads: [{name: a, match: {exe: []}}]", "exe"),
        ("workloads: [{name: a, match: {exe_sha256: ab}}]", "exe_sha256"),
        ("workloads: [{name: a, match: {exe_sha256: [ab]}}]", "exe_sha256"),
        ("workloads: [{name: a, match: {exe: ''}}]", "exe"),
        ("workloads: [{name: a, match: {cmdline: '('}}]", "cmdline"),
        ("dns: {hosts: {'a b': [192.0.2.1]}}", "hosts"),
        ("dns: {hosts: {a.test: [b]}}", "dns.hosts.a.test"),
        ("workloads: [{name: a, match: {cmdline: []}}]", "cmdline"),
        ("workloads: [{name: a, match: {cgroup: []}}]", "cgroup"),
        ("workloads: [{name: a, match: {unit: []}}]", "unit"),
        ("workloads: [{name: a, match: {label: []}}]", "label"),
        ("workloads: [{name: a, match: {launched_uid: 1}}]", "launched_uid"),
        ("workloads: [{name: a, match: {ancestor_exe: []}}]", "ancestor_exe"),
        ("workloads: [{name: a, match: {}, groups: g}]", "groups"),
        ("tls: {upstream_ca_files: x}", "upstream_ca_files"),
        ("tls: {system_roots: []}", "system_roots"),
        ("tls: {leaf_life: soon}", "leaf_life"),
        ("tls: {leaf_cache: 0}", "leaf_cache"),
        ("dns: {servers: [a.example]}", "servers"),
        ("dns: {servers: [1.1.1.1@0]}", "servers"),
        ("dns: {hosts: {a: 1.1.1.1}}", "hosts"),
        ("dns: {timeout: -1}", "timeout"),
        ("audit: {checkpoint_records: 0}", "checkpoint_records"),
        ("audit: {checkpoint_interval: 0}", "checkpoint_interval"),
        ("metrics: {listen: 9464}", "metrics.listen"),
        ("metrics: {listen: 'host:9464'}", "metrics.listen"),
        *[
            (f"limits: {{{name}: 0}}", f"limits.{name}")
            for name in (
                "hello_timeout",
                "handshake_timeout",
                "connect_timeout",
                "head_timeout",
                "body_idle_timeout",
                "response_timeout",
                "keepalive_timeout",
                "flows",
                "flows_per_job",
                "head_bytes",
                "headers",
            )
        ],
    ],
)
def test_every_key(tmp_path: Path, text: str, key: str) -> None:
    message = refusal(tmp_path, text + "\n")
    assert message.startswith(":1: ")
    assert key in message


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("name: token", "name: Token", "name"),
        ("    from: {file: /x}\n", "", "from"),
        ("{file: /x}", "{fil: /x}", "from"),
        ("{file: /x}", "{file: [x]}", "from"),
        ("{file: /x}", "{environment: 1}", "from"),
        ("{file: /x}", "{command: []}", "from"),
        ("{file: /x}", "{credential: []}", "from"),
        ("{file: /x}", "{url: u, path: p, key: k}", "from"),
        ("destinations: [api]", "destinations: []", "destinations"),
        ("hosts: [api.example.com]", "hosts: []", "hosts"),
        ("hosts: [api.example.com]", "hosts: ['*.example.com']", "no wildcards"),
        ("hosts: [api.example.com]", "hosts: ['[::g]']", "hosts"),
        ("slots: [{in: header, name: authorization}]", "slots: []", "slots"),
        ("name: authorization", "name: Authorization", "lower case"),
        ("in: header, name: authorization", "in: basic, name: x", "basic"),
        ("in: header, name: authorization", "in: query", "query"),
        ("in: header", "in: body", "slots"),
        ("    from:", "    cache: soon\n    from:", "cache"),
        ("    from:", "    ttl: -1\n    from:", "ttl"),
        ("    from:", "    uses: 0\n    from:", "uses"),
        ("    from:", "    env: 1A\n    from:", "env"),
        ("    from:", "    labels: x\n    from:", "labels"),
        ("    from:", "    shape: x\n    from:", "shape"),
        ("    from:", "    shape: {regx: x}\n    from:", "regex"),
        ("    from:", "    shape: {regex: '('}\n    from:", "shape.regex"),
        ("    from:", "    host: [a]\n    from:", "hosts"),
    ],
)
def test_every_key_of_a_secret(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in SECRET
    assert key in refusal(tmp_path, SECRET.replace(old, new))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("state_dir: a\nstate_dir: b\n", ":2: "),
        ("listen:\n\tproxy_port: 1\n", ":2: "),
        ("listen: [\n", "YAML"),
        ("- a\n", "mapping"),
        ("lisen: {}\n", "listen"),
        ("tls:\n  leaf_lif: 3s\n", ":2: "),
        (WORKLOAD + WORKLOAD[10:], "two workloads named w"),
        ("a: 1\n---\nb: 2\n", "YAML"),
        (b"issuer: \xff\n", "UTF-8"),
        ("issuer: a\0b\n", ""),
        ("processes: {vault: no-such-user}\n", "no-such-user"),
        ("processes: {vault: 0}\n", "processes"),
        ("processes: {vault: 12, proxy: 12}\n", "different"),
    ],
)
def test_the_file(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="cannot be read"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(EnvironmentFailed, match="cannot be read"):
        load(tmp_path)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(EnvironmentFailed, match="bytes"):
        load("/dev/zero")


def test_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "coatcheck.yaml"
    file.write_text(WORKLOAD + SECRET + "limits: {flows: 5}\n")
    config = load(file)
    assert (config.secrets[0].name, config.workloads[0].match.uid, config.limits.flows) == ("token", (1,), 5)
    file.write_text("")
    assert len(set(vars(accounts(load(file))).values())) == 5


def test_durations() -> None:
    assert [seconds_of(text) for text in ("1.5h", "30s", "250ms", 7, "2d")] == [5400, 30, 0.25, 7, 172800]
    for text in ("", "1", "h", "-1s", "1 s", "1w", "1e3s", True):
        with pytest.raises(ValueError, match="duration"):
            seconds_of(text)
