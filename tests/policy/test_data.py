"""Every key of data.yaml refuses what it must not be, and says where and what is allowed."""

from __future__ import annotations

import re
from itertools import product

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
        ("protocol: tunnel\n    rules: [{name: r}]", "tunnel"),
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


SQL = BASE + "    protocol: postgres\n"
SQL_RULE = SQL + "    rules:\n      - name: read\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("databases: shop", "databases"),
        ("users: ['']", "users"),
        ("login: scram", "login"),
        ("upstream_login: [kerberos]", "upstream_login"),
        ("upstream_login: []", "upstream_login"),
        ("search_path: public", "search_path"),
        ("role: 3", "role"),
        ("replication: [x]", "replication"),
        ("record: all", "record"),
        ("session: off", "session"),
        ("catalogue: maybe", "catalogue"),
        ("masks: [{name: m}]", "columns, names or detect"),
        ("masks: [{name: m, columns: [email]}]", "masks"),
        ("masks: [{name: m, columns: [public.t.*]}]", "no pattern"),
        ("masks: [{name: m, names: [a], how: blur}]", "how"),
        ("masks: [{name: m, detect: [emails]}]", "no detector 'emails'"),
        ("masks: [{name: m, names: [a], expressions: allow}]", "expressions"),
        ("masks: [{name: m, names: [a], probing: mask}]", "probing"),
        ("masks: [{name: m, names: [a], unless_group: [x]}]", "unless_groups"),
        ("masks: [{name: m, names: [a]}, {name: m, names: [b]}]", "two masks named m"),
        ("opaque_functions: [f]", "opaque_functions"),
        ("allow_range: true", "allow_range is not for protocol postgres"),
        ("upgrade: [websocket]", "upgrade is not for protocol postgres"),
    ],
)
def test_postgres_keys(line: str, says: str) -> None:
    assert says in refusal(f"{SQL}    {line}\n")
    if "not for" not in says and ": [{" not in line:
        assert "destinations" in refusal(f"{BASE}    {line}\n")  # and of HTTP in no form


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("commands: select", "commands"),
        ("commands: [selct]", "did you mean select?"),
        ("commands: [crate-*]", "not a command"),
        ("commands: [reads]", "did you mean read?"),
        ("tables: [orders]", "public.orders"),
        ("tables: [a.b.c]", "tables"),
        ("tables: [a..b]", "tables"),
        ("tables: ['?.a']", "tables"),
        ("reads: ['a.%zz']", "reads"),
        ("writes: public.a", "writes"),
        ("columns: [public.a]", "columns"),
        ("functions: [now]", "functions"),
        ("functions: ['oid:x']", "functions"),
        ("marks: [dynamics]", "marks"),
        ("where: [true]", "where"),
        ("databases: shop", "databases"),
        ("hold: 5m", "decision is hold"),
        ("decision: hold\n        hold: 0s", "hold"),
        ("decision: hold\n        hold: 2d", "hold"),
        ("max_rows: 0", "max_rows"),
        ("decision: deny\n        max_bytes: 1", "for a rule that allows"),
        ("methods: [GET]", "methods, which protocol postgres does not know"),
        ("paths: [/a]", "paths, which protocol postgres does not know"),
    ],
)
def test_keys_of_rules_about_statements(line: str, says: str) -> None:
    message = refusal(f"{SQL_RULE}        {line}\n")
    assert re.match(r"data\.yaml:\d+: ", message)
    assert says in message


@pytest.mark.parametrize("line", ["commands: [select]", "tables: ['*']", "where: true", "max_rows: 3", "users: [a]"])
def test_a_request_has_no_statement(line: str) -> None:
    assert "which protocol http does not know" in refusal(f"{RULE}        {line}\n")


def test_a_password_is_not_sent_in_the_clear() -> None:
    text = f"{SQL}    upstream_login: [password]\n"
    assert parse_data(text).destinations[0].ports == (5432,)
    assert "clear" in refusal(text.replace("postgres", "plain-postgres"))


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


PATHS = st.lists(st.sampled_from(["a", "b", "/", "%2F", ";"]), max_size=6).map("".join).map("/".__add__)
GLOBS = st.lists(st.sampled_from(["a", "b", "/", "%2F", "*", "**"]), max_size=5).map("".join).map("/".__add__)


def readings(path: str) -> set[str]:
    """What servers may make of a path: each `%2F` a slash or a character, what follows a `;` there or not."""
    slashes = {""}
    for part in re.findall("%2F|.", path):
        slashes = {head + end for head in slashes for end in (("/", "\x01") if part == "%2F" else (part,))}
    bare = {"/".join(segment.partition(";")[0] for segment in each.split("/")) for each in slashes}
    mixed = {"/".join(chosen) for each in slashes for chosen in product(*map(cuts, each.split("/")))}
    return slashes | bare | mixed


def cuts(segment: str) -> set[str]:
    return {segment, *(segment[:at] for at, character in enumerate(segment) if character == ";")}


@given(GLOBS, PATHS)
def test_a_glob_that_refuses_fits_in_any_reading_and_one_that_allows_in_the_strict_one(glob: str, path: str) -> None:
    glob = re.sub(r"\*{3,}", "**", glob)
    try:
        allowing, refusing = path_pattern(glob), path_pattern(glob, refuses=True)
    except ValueError:
        return
    strict = path.replace("%2F", "\x01")
    assert bool(re.match(allowing, path)) is glob_fits_strictly(glob.replace("%2F", "\x01"), strict)
    worst = any(glob_fits(glob.replace("%2F", "/"), reading) for reading in readings(path))
    assert bool(re.match(refusing, path)) is worst
    if re.match(allowing, path):
        assert re.match(refusing, path)


def glob_fits_strictly(glob: str, path: str) -> bool:
    """As glob_fits, but `*` does not go across an escaped slash either."""
    if not glob:
        return not path
    if glob.startswith("**"):
        return any(glob_fits_strictly(glob[2:], path[n:]) for n in range(len(path) + 1))
    if glob[0] == "*":
        end = re.search("[/\x01]|$", path)
        return end is not None and any(glob_fits_strictly(glob[1:], path[n:]) for n in range(end.start() + 1))
    return path[:1] == glob[0] and glob_fits_strictly(glob[1:], path[1:])


@pytest.mark.parametrize(
    ("glob", "says"),
    [
        ("/a//b", "empty segment"),
        ("/a/../b", "dot segment"),
        ("/a%2F../b", "dot segment"),
        ("/a%2fb", "write it as /a%2Fb"),
        ("/%61", "write it as /a"),
        ("**/[a]", "write it as **/%5Ba%5D"),
        ("/a?b=c", "write it as /a"),
        ("/a b", "not allowed"),
        ("/%zz", "percent"),
        ("/a\\\\b", "backslash"),
    ],
)
def test_a_glob_that_no_path_fits_is_refused(glob: str, says: str) -> None:
    assert says in refusal(f'{RULE}        paths: ["{glob}"]\n')


@given(st.text(alphabet="ab.+()$!~;", min_size=1, max_size=8))
def test_a_path_glob_has_no_other_special_character(text: str) -> None:
    literal = "/x" + text
    assert re.match(path_pattern(literal), literal)
    assert not re.match(path_pattern(literal), literal + "x")
    assert not re.match(path_pattern(literal), "x" + literal)


def test_a_dot_in_a_host_is_a_dot() -> None:
    assert re.match(host_pattern("a.example.com"), "a.example.com")
    assert not re.match(host_pattern("a.example.com"), "aXexample.com")
