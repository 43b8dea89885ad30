"""What is asked of a running appliance: every command, for people and for programs, and who may."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest

from tests.cli.conftest import Run, sentence
from tests.e2e.spine import AGENT_UID, HOST, POLICY, Spine

pytestmark = pytest.mark.world

Cli = Callable[..., Run]
AsJson = Callable[..., Any]
OPERATORS = ["status", "jobs", "flows", "flows --follow", "policy reload", "audit show", "audit verify"]


def fetch(spine: Spine, path: str = "/x") -> str:
    return f'curl -sS -o /dev/null -w "%{{http_code}} " -H "X-Api-Key: $DEMO_TOKEN" https://{HOST}{path}'


def inside(spine: Spine, command: str) -> Run:
    """`coatcheck COMMAND` in a job."""
    return spine.job([*spine.appliance.command, *command.split()])


@contextmanager
def sleeping(spine: Spine, as_json: AsJson) -> Iterator[dict[str, Any]]:
    """A job that only waits, as `jobs` shows it."""
    appliance = spine.appliance
    process = spine.world.popen(
        appliance.job_command(["sh", "-c", "echo up; exec sleep 100"]),
        cwd="/",
        env=appliance.environment,
        uid=AGENT_UID,
        groups=[appliance.group],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield next(job for job in as_json("jobs") if job["pid"] == process.pid)
    finally:
        process.kill()
        process.wait(20)


# ---- who may ----


@pytest.mark.parametrize("command", OPERATORS)
def test_strangers_and_jobs_may_not(spine: Spine, cli: Cli, command: str) -> None:
    assert f"uid {AGENT_UID}, outside" in sentence(cli(*command.split(), uid=AGENT_UID), 77)


def test_a_job_may_not_look_at_others(spine: Spine) -> None:
    assert "inside the job" in sentence(inside(spine, "flows"), 77)


# ---- whoami, mint ----


def test_whoami_outside_a_job(cli: Cli) -> None:
    assert "being inside a job" in sentence(cli("whoami"), 77)


def test_whoami_is_the_tokens_claims(spine: Spine) -> None:
    command = " ".join(spine.appliance.command)
    socket = spine.appliance.run_dir / "coatcheck.sock"
    done = spine.shell(f"{command} whoami; echo ,; {command} whoami --token")
    printed, _, token = done.stdout.rpartition(",")
    claims = json.loads(printed)
    assert (claims["sub"], claims["groups"], claims["iss"]) == ("agent", ["ci"], "coatcheck")
    assert claims["facts"]["uid"] == AGENT_UID
    assert claims["facts"]["cmdline"][-1] == "whoami"
    keys = json.loads(spine.world.run(["curl", "-sS", "--unix-socket", str(socket), "http://localhost/jwks"]).stdout)
    head = jwt.get_unverified_header(token.strip())
    key = next(key for key in keys["keys"] if key["kid"] == head["kid"])
    assert key["purpose"] == "identity"
    verified = jwt.decode(token.strip(), jwt.PyJWK(key), algorithms=[head["alg"]], options={"verify_aud": False})
    assert (verified["sub"], verified["job"]) == (claims["sub"], claims["job"])


def test_a_minted_placeholder_is_narrower(spine: Spine) -> None:
    mint = f"DEMO_TOKEN=$({' '.join(spine.appliance.command)} mint demo"
    before = len(spine.received())
    done = spine.shell(f"{mint} --ttl 90s --uses 1); {fetch(spine, '/one')}; {fetch(spine, '/two')}")
    assert done.stdout.split()[0] == "200", done.stderr
    swapped = [
        r["path"]
        for r in spine.received()[before:]
        if ["X-Api-Key", "ghp_RealCredential0fTheService4242424242"] in r["headers"]
    ]
    assert swapped == ["/one"]


@pytest.mark.parametrize(
    ("option", "fits", "fits_not"),
    [("--path /a/**", "/a/b", "/b"), ("--method GET", "/m", "/m -X DELETE"), ("--host service.test", "/h", None)],
)
def test_a_minted_placeholder_holds_where_it_says(spine: Spine, option: str, fits: str, fits_not: str | None) -> None:
    mint = f"set -f; DEMO_TOKEN=$({' '.join(spine.appliance.command)} mint demo {option})"
    before = len(spine.received())
    spine.shell("; ".join([mint, *(fetch(spine, path) for path in (fits, fits_not) if path)]))
    seen = [
        r["path"] for r in spine.received()[before:] if "ghp_RealCredential0fTheService4242424242" in str(r["headers"])
    ]
    assert seen == [fits]


def test_mint_as_json_says_for_which_job(spine: Spine) -> None:
    answer = json.loads(inside(spine, "mint demo --json").stdout)
    assert answer["job"].startswith("j-")
    assert answer["secret"] == "demo"
    assert answer["placeholder"].startswith("ghp_")


@pytest.mark.parametrize(
    "command", ["mint demo --host other.test", "mint unknown", "mint demo --job j-0123456789abcdef"]
)
def test_mint_gives_nothing_wider(spine: Spine, command: str) -> None:
    done = inside(spine, command)
    assert done.returncode in (1, 77)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_an_operator_mints_for_a_job_that_is_there(spine: Spine, cli: Cli, as_json: AsJson) -> None:
    sentence(cli("mint", "demo"), 1)
    with sleeping(spine, as_json) as job:
        assert as_json("mint", "demo", "--job", job["job"])["job"] == job["job"]


# ---- jobs, flows, status ----


def test_jobs(spine: Spine, cli: Cli, as_json: AsJson) -> None:
    with sleeping(spine, as_json) as job:
        assert (job["label"], job["uid"], job["managed"], job["secrets"]) == ("agent", AGENT_UID, True, ["demo"])
        table = cli("jobs").stdout.splitlines()
        assert table[0].split()[:3] == ["JOB", "LABEL", "UID"]
        assert any(line.split()[:3] == [job["job"], "agent", str(AGENT_UID)] for line in table[1:])


def test_flows(spine: Spine, cli: Cli, as_json: AsJson) -> None:
    spine.shell(fetch(spine, "/listed"))
    flow = next(f for f in as_json("flows")["closed"] if f["last"] == f"GET {HOST}/listed")
    assert (flow["principal"], flow["host"], flow["swapped"], flow["decision"]) == ("agent", HOST, 1, "allow")
    line = next(line for line in cli("flows").stdout.splitlines() if line.startswith(flow["flow"]))
    assert f"{HOST}:443" in line
    assert "1 asked, 1 swapped" in line


def following(spine: Spine, *options: str) -> subprocess.Popen[str]:
    appliance = spine.appliance
    return spine.world.popen(
        [*appliance.command, "flows", "--follow", *options],
        env=appliance.environment,
        cwd=str(appliance.root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first(process: subprocess.Popen[str], spine: Spine, word: str) -> str:
    """The first line with `word`; something happens until it is there."""
    assert process.stdout is not None
    with sleeping_traffic(spine):
        return next(line for line in process.stdout if word in line)


@contextmanager
def sleeping_traffic(spine: Spine) -> Iterator[None]:
    """A job that asks the service again and again."""
    appliance = spine.appliance
    loop = f"while :; do {fetch(spine, '/again')}; sleep 0.1; done"
    process = spine.world.popen(
        appliance.job_command(["sh", "-c", loop]),
        cwd="/",
        env=appliance.environment,
        uid=AGENT_UID,
        groups=[appliance.group],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(20)


def test_following_says_what_happens_until_interrupted(spine: Spine) -> None:
    process = following(spine)
    line = first(process, spine, " operation ")
    assert f"GET {HOST}/again allow service/any, swapped demo" in line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")


def test_following_as_json_is_one_object_a_line(spine: Spine) -> None:
    process = following(spine, "--json")
    event = json.loads(first(process, spine, '"event": "closed"'))
    assert (event["event"], event["record"]["type"], event["flow"]["principal"]) == ("closed", "flow.closed", "agent")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == ""


def test_a_follower_whose_reader_goes_away_ends_quietly(spine: Spine) -> None:
    process = following(spine)
    first(process, spine, "opened")
    assert process.stdout is not None
    process.stdout.close()
    with sleeping_traffic(spine):
        assert process.wait(20) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_programs_name_moves_no_cursor(spine: Spine, cli: Cli) -> None:
    folder = spine.world.dir / "bin"
    folder.mkdir()
    hostile = folder / "curl\x1b[2J\x9b31m"
    spine.world.run(["cp", "/usr/bin/curl", str(hostile)], check=True)
    spine.job([str(hostile), "-sS", "-o", "/dev/null", f"https://{HOST}/hostile\x1b[3J"])
    for command in ("flows", "flows --json", "audit show"):
        said = cli(*command.split()).stdout
        assert "curl" in said
        assert said.replace("\n", "").isprintable(), command


def test_status(cli: Cli, as_json: AsJson) -> None:
    status = as_json("status")
    assert status["ok"] is True
    assert {"kernel", "vault", "proxy", "control", "audit", "policy"} <= set(status)
    lines = cli("status").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [part, "ok"] for part in ("kernel", "vault", "proxy", "control", "audit", "policy")
    ]


# ---- policy ----


@contextmanager
def broken_policy(spine: Spine, text: str) -> Iterator[None]:
    (spine.appliance.policy_dir / "data.yaml").write_text(text)
    try:
        yield
    finally:
        spine.appliance.write_policy({**POLICY})
        assert spine.appliance.cli("policy", "reload").returncode == 0


def test_a_broken_policy_leaves_the_old_one_in_force(spine: Spine, cli: Cli, as_json: AsJson) -> None:
    before = as_json("status")["policy"]["version"]
    with broken_policy(spine, "destinations:\n- name: service\n  host: [x.test]\n"):
        said = sentence(cli("policy", "reload"), 1)
        assert "data.yaml:3" in said
        assert "did you mean hosts" in said
        assert before in said
        status = as_json("status", status=1)
        assert (status["ok"], status["policy"]["ok"], status["policy"]["version"]) == (False, False, before)
        assert "last reload failed" in cli("status").stdout
        assert spine.shell(fetch(spine)).stdout.split() == ["200"]


def test_a_reload_says_what_is_in_force_and_warns(spine: Spine, cli: Cli) -> None:
    odd = json.dumps({"destinations": [{**POLICY["destinations"][0], "groups": ["nobodys"]}]})
    with broken_policy(spine, odd):
        done = cli("policy", "reload")
        assert done.returncode == 0
        assert done.stdout.startswith("in force: ")
        assert "nobodys" in done.stderr
        assert done.stderr.startswith("coatcheck: warning: ")


def test_explain(cli: Cli, as_json: AsJson) -> None:
    done = cli("policy", "explain", "agent", f"https://{HOST}/x", "-X", "POST", "--credential", "demo")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "allow by service/any")
    answer = as_json("policy", "explain", "stranger", f"https://{HOST}/x", "--group", "a", "--group", "b")
    assert answer["plan"]["decision"] == "deny"
    assert answer["verdict"] is None
    assert "stranger is neither" in str(answer["destinations"])
    assert "ASCII" in sentence(cli("policy", "explain", "agent", "https://ü.test/"), 1)
