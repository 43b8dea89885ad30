"""Every key of the configuration refuses what it must not be, in one sentence with file, line and key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from appliance.config.load import load
from appliance.config.places import accounts
from appliance.config.schema import Config, seconds_of
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
                "kept_per_job",
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
        ("in: header, name: authorization", "in: upstream-certificate, name: x", "slots"),
        ("{in: header, name: authorization}", "{in: upstream-certificate}, {in: postgres}", "secrets"),
        ("{in: header, name: authorization}]", "{in: upstream-certificate}]\n    env: X", "secrets"),
        ("in: header, name: authorization", f"in: postgres, name: {'a' * 64}", "slots"),
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


def keys_of(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, bool]]:
    """Every key of the file, with dots, and whether it holds parts of its own."""
    for name, field in model.model_fields.items():
        path = above + (field.alias or name)
        parts = [each for each in parts_of(field.annotation) if issubclass(each, BaseModel)]
        yield path, bool(parts)
        for part in parts:
            yield from keys_of(part, path + ("[0]." if "tuple" in str(field.annotation) else "."))


def parts_of(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [part for each in get_args(annotation) if each is not Ellipsis for part in parts_of(each)]


def written(path: str, value: str) -> str:
    """YAML with nothing but this key, each level on a line of its own."""
    lines, indent = [], ""
    for step in path.split("."):
        name, in_list = step.removesuffix("[0]"), step.endswith("[0]")
        lines.append(f"{indent}{name}:")
        indent += "  "
        if in_list:
            lines.append(f"{indent}-")
            indent += "  "
    return "\n".join(lines) + f" {value}\n"


@pytest.mark.parametrize(("path", "has_parts"), sorted(set(keys_of(Config))))
def test_every_key_that_there_is_refuses_what_it_cannot_be(tmp_path: Path, path: str, has_parts: bool) -> None:
    """Generated from the schema: a key that is added is tried too. Of unions the message may name what is above."""
    text = written(path, "12.5.1" if has_parts else "{there: [is, no, such]}")
    message = refusal(tmp_path, text)
    line = int(message.split(":")[1])
    assert 1 <= line <= text.count("\n")
    assert message.split(":")[2].strip().split(".")[0].split("[")[0] == path.split(".")[0].split("[")[0]
    assert len(message.split(": ", 2)[2]) > 10  # what is allowed


@pytest.mark.parametrize("path", sorted({path for path, has_parts in keys_of(Config) if has_parts}))
def test_every_mapping_names_the_key_that_it_does_not_have(tmp_path: Path, path: str) -> None:
    for name, _ in keys_of(Config):
        assert "no_such_key" not in name
    message = refusal(tmp_path, written(path, "{no_such_key: 1}"))
    assert path.split(".")[0].split("[")[0] in message


@pytest.mark.parametrize("value", [".inf", ".nan", "-1", "0", "soon", "1 s", "true", "[1]", "10m5s", "-5s"])
@pytest.mark.parametrize("key", ["limits.head_timeout", "dns.timeout", "audit.checkpoint_interval", "tls.leaf_life"])
def test_seconds_are_a_number_or_a_duration(tmp_path: Path, key: str, value: str) -> None:
    message = refusal(tmp_path, written(key, value))
    assert message.startswith(":2: ")
    assert key in message


def test_seconds_may_be_written_as_durations_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "coatcheck.yaml"
    file.write_text("limits: {head_timeout: 1m}\ndns: {timeout: 250ms}\naudit: {checkpoint_interval: 5}\n")
    config = load(file)
    assert (config.limits.head_timeout, config.dns.timeout, config.audit.checkpoint_interval) == (60.0, 0.25, 5.0)


def test_durations() -> None:
    assert [seconds_of(text) for text in ("1.5h", "30s", "250ms", 7, "2d")] == [5400, 30, 0.25, 7, 172800]
    for text in ("", "1", "h", "-1s", "1 s", "1w", "1e3s", True):
        with pytest.raises(ValueError, match="duration"):
            seconds_of(text)
