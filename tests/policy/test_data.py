"""Every key of data.yaml refuses what it must not be, and says where and what is allowed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import EnvironmentFailed
from appliance.policy.bundle import parse_data
from appliance.policy.globs import host_pattern, path_pattern
from tests.policy.test_oracle import glob_fits

BASE = "destinations:\n  - name: api\n    hosts: [api.example.com]\n"
RULE = BASE + "    rules:\n      - name: read\n"
REST = {"name": "name: ok", "hosts": "hosts: [ok.example]"}


def refusal(text: str) -> str:
    with pytest.raises(EnvironmentFailed) as caught:
        parse_data(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ports: 443", "ports"),
        ("ports: [0]", "ports"),
        ("ports: [65536]", "ports"),
        ("ports: [https]", "ports"),
        ("protocol: https", "protocol"),
        ("addresses: [10.0.0.0/33]", "addresses"),
        ("addresses: [10.0.0.1/8]", "network"),
        ("principals: deploy", "principals"),
        ("principals: [De]", "principals"),
        ("groups: [a b]", "groups"),
        ("labels: [-x]", "labels"),
        ("secrets: [S]", "secrets"),
        ("allow_range: [1]", "allow_range"),
        ("upgrade: websocket", "upgrade"),
        ("rules: all", "rules"),
        ("rules: [x]", "rules"),
        ("rulez: []", "rules"),
        ("principal: [deploy]", "principals"),
        ("protocol: tunnel\n    secrets: [s]", "tunnel"),
        ("protocol: tunnel\n    rules: []", "tunnel"),
    ],
)
def test_destination_keys(line: str, says: str) -> None:
    message = refusal(f"{BASE}    {line}\n")
    assert message.startswith("data.yaml:")
    assert says in message


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("methods: GET", "methods"),
        ("methods: [get]", "methods"),
        ("paths: /a", "paths"),
        ("paths: [a]", "starts with /"),
        ("paths: [/ä]", "ASCII"),
        ("content_types: a/b", "content_types"),
        ("credentials: a", "credentials"),
        ("credentials: [A]", "credentials"),
        ("query: q", "query"),
        ("decision: permit", "decision"),
        ("reason: [x]", "reason"),
        ("ask: {a: b}", "ask"),
        ("method: [GET]", "methods"),
        ("path: [/a]", "paths"),
    ],
)
def test_rule_keys(line: str, says: str) -> None:
    message = refusal(f"{RULE}        {line}\n")
    assert re.match(r"data\.yaml:\d+: ", message)
    assert says in message


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "*.",
        "a*.example.com",
        "*.*.example.com",
        "a.*.com",
        "API.example.com",
        "api.example.com.",
        "a..b",
        ".example.com",
        "api.example.com:443",
        "https://a.example",
        "a/b",
        "a b",
        "user@a",
        "exämple.com",
        "a\\0b",
    ],
)
def test_hosts(host: str) -> None:
    message = refusal(f'destinations:\n  - name: api\n    hosts: ["{host}"]\n')
    assert "destinations[0].hosts" in message


@pytest.mark.parametrize("missing", ["name", "hosts"])
def test_what_is_needed(missing: str) -> None:
    (there,) = [line for key, line in REST.items() if key != missing]
    assert missing in refusal(f"destinations:\n  - {there}\n")
    assert "name" in refusal(f"{BASE}    rules:\n      - methods: [GET]\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("destinations: []\ndestinations: []\n", ":2: "),
        ("destination: []\n", "destinations"),
        ("- a\n", "mapping"),
        ("destinations:\n\t- name: a\n", ":2: "),
        ("destinations: [\n", "data.yaml:"),
        ("destinations: 3\n", "destinations"),
        (BASE + BASE.partition("\n")[2], "two destinations named api"),
        ("destinations: []\n---\na: 1\n", "data.yaml"),
        (BASE + "    ports: [443]\n    ports: [80]\n", ":5: "),
        (BASE + "    hosts: []\n", ":4: "),
        ("destinations:\n  - !!python/object/apply:os.system [id]\n", "data.yaml"),
    ],
)
def test_the_file(text: str, says: str) -> None:
    assert says in refusal(text)


def test_an_empty_file_is_no_destinations() -> None:
    assert parse_data("").destinations == ()
    assert parse_data("# nothing\n").destinations == ()


SEGMENTS = st.text(alphabet="ab/*", max_size=6)


@given(SEGMENTS, st.text(alphabet="ab/", max_size=8))
def test_path_globs_match_the_whole_path_and_nothing_else(rest: str, path: str) -> None:
    glob = re.sub(r"/+", "/", "/" + re.sub(r"\*{3,}", "**", rest))
    assert bool(re.fullmatch(path_pattern(glob)[1:-1], "/" + path)) is glob_fits(glob, "/" + path)


@given(st.text(alphabet="ab.+()$!~;", min_size=1, max_size=8))
def test_a_path_glob_has_no_other_special_character(text: str) -> None:
    literal = "/x" + text
    assert re.match(path_pattern(literal), literal)
    assert not re.match(path_pattern(literal), literal + "x")
    assert not re.match(path_pattern(literal), "x" + literal)


def test_a_dot_in_a_host_is_a_dot() -> None:
    assert re.match(host_pattern("a.example.com"), "a.example.com")
    assert not re.match(host_pattern("a.example.com"), "aXexample.com")
