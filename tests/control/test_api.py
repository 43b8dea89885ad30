"""The admin API with real peers: who they are is the kernel's word, and what they may follows from it alone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from appliance.control import peers
from appliance.ipc.server import Peer
from appliance.model.errors import EnvironmentFailed
from appliance.model.facts import ProcessFacts
from appliance.model.ids import FlowId, JobId
from appliance.model.record import (
    FlowClosed,
    FlowOpened,
    OperationDecided,
    SessionStarted,
    StatementDecided,
    StatementEnded,
)
from tests.control.caller import Caller, Reply, call, call_as, exchange
from tests.control.fakes import PLACEHOLDER
from tests.control.rig import GROUP, Rig, rigged

USER = 61500
JOB = "j-00000000000000aa"


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: callers of other uids are started")


OPERATOR_ROUTES = [
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("DELETE", f"/jobs/{JOB}"),
    ("GET", "/flows"),
    ("GET", "/flows?follow=1"),
    ("GET", "/status"),
    ("GET", "/policy"),
    ("POST", "/policy/reload"),
    ("POST", "/policy/explain"),
    ("GET", "/audit/show"),
    ("GET", "/audit/verify"),
    ("GET", "/metrics"),
]


def test_a_stranger_may_look_at_health_and_keys_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            before = rig.audit()
            assert (await call_as(rig.admin, USER, USER, (), "GET", "/health")).json["ok"] is True
            assert (await call_as(rig.admin, USER, USER, (), "GET", "/jwks")).json["keys"]
            for method, path in [*OPERATOR_ROUTES, ("GET", "/whoami"), ("POST", "/mint")]:
                reply = await call_as(rig.admin, USER, USER, (), method, path, {"label": "x"})
                assert reply.status == 403, (method, path, reply)
                assert reply.kind == "application/problem+json"
                assert reply.json["code"] == "rights"
            assert rig.audit() == before
            assert not rig.vault.granted

    uvloop.run(main())


def test_a_member_by_primary_or_supplementary_group_may(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            for gid, groups in ((GROUP, ()), (USER, (7, GROUP, 9))):
                assert (await call_as(rig.admin, USER, gid, groups, "GET", "/jobs")).json == {"jobs": []}
            assert (await call_as(rig.admin, USER, USER, (7, 9), "GET", "/jobs")).status == 403

    uvloop.run(main())


@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (USER, GROUP)])
def test_inside_a_job_root_and_members_have_a_jobs_rights(tmp_path: Path, uid: int, gid: int) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:

            async def inside(method: str, path: str, body: object = None) -> Reply:
                caller = Caller(uid, gid)
                real = rig.kernel.attest_pid

                async def attest(peer: Peer, pid: int) -> ProcessFacts:
                    assert caller.process is not None
                    assert pid == caller.process.pid
                    rig.kernel.inside[pid] = JOB
                    return await real(peer, pid)

                rig.kernel._server._methods["attest_pid"] = rig.kernel._server._methods["attest_pid"]._replace(
                    handler=attest
                )
                try:
                    return await caller.call(rig.admin, method, path, body)
                finally:
                    await caller.leave()

            for method, path in OPERATOR_ROUTES:
                reply = await inside(method, path)
                assert reply.status == 403, (method, path)
            reply = await inside("GET", "/whoami")
            assert reply.json["claims"]["sub"] == "ci"
            assert reply.json["token"] == "a.b.c"
            reply = await inside("POST", "/mint", {"secret": "demo", "ttl": 60, "uses": 1, "host": "API.example.com"})
            assert reply.json == {"job": JOB, "secret": "demo", "placeholder": PLACEHOLDER}
            assert rig.vault.minted[0].job == JOB
            assert rig.vault.minted[0].narrowing.host == "api.example.com"
            reply = await inside("POST", "/mint", {"secret": "demo", "job": "j-00000000000000bb"})
            assert reply.status == 403
            assert len(rig.vault.minted) == 1
            assert b'"placeholder.minted"' in rig.audit()
            assert PLACEHOLDER.encode() not in rig.audit()

    uvloop.run(main())


def test_if_the_kernel_process_is_away_only_root_sees_the_status(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path, watch=False) as rig:
            await rig.kernel.stop()
            assert (await call(rig.admin, "GET", "/jobs")).status == 503
            assert (await call(rig.admin, "POST", "/jobs", {})).status == 503
            assert (await call_as(rig.admin, USER, GROUP, (), "GET", "/status")).status == 503
            status = (await call(rig.admin, "GET", "/status")).json
            assert status["ok"] is False
            assert "cannot be reached" in status["kernel"]["error"] or "ended" in status["kernel"]["error"]
            assert status["vault"]["ok"] is True
            assert status["audit"]["ok"] is True

    uvloop.run(main())


async def settled(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_job_from_start_to_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            caller = Caller(USER, GROUP)
            reply = await caller.call(rig.admin, "POST", "/jobs", {"label": "agent"})
            assert reply.status == 201
            started = reply.json
            assert started["env"] == {"DEMO_TOKEN": PLACEHOLDER}
            assert started["problems"] == {"away": "its file is missing"}
            assert started["socket"] == rig.admin
            job = started["job"]
            made = rig.kernel.made[job]
            assert (made.label, made.launched_uid) == ("agent", USER)
            assert rig.kernel.inside == {reply.pid: job}
            view = (await call(rig.admin, "GET", "/jobs")).json["jobs"][0]
            assert (view["job"], view["uid"], view["pid"], view["secrets"]) == (job, USER, reply.pid, ["demo"])
            await caller.leave()  # the main process exits
            await settled(lambda: not rig.jobs.views())
            assert rig.kernel.ended == [job]
            assert rig.vault.forgotten == [job]
            kinds = [json.loads(line)["record"]["type"] for line in rig.audit().splitlines()]
            assert kinds == ["policy.changed", "job.started", "job.ended"]
            assert PLACEHOLDER.encode() not in rig.audit()
            assert PLACEHOLDER not in str(rig.troubles)

    uvloop.run(main())


def test_only_who_started_it_or_root_ends_a_job(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            caller = Caller(USER, GROUP)
            job = (await caller.call(rig.admin, "POST", "/jobs", {})).json["job"]
            other = await call_as(rig.admin, USER + 1, GROUP, (), "DELETE", f"/jobs/{job}")
            assert other.status == 403
            assert rig.kernel.ended == []
            assert (await call(rig.admin, "DELETE", f"/jobs/{job}")).json == {"job": job}
            assert rig.kernel.ended == [job]
            assert (await call(rig.admin, "DELETE", f"/jobs/{job}")).status == 404
            await caller.leave()

    uvloop.run(main())


@pytest.mark.parametrize("where", ["grant", "job_create", "audit"])
def test_a_start_that_fails_leaves_nothing(tmp_path: Path, where: str) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            error = EnvironmentFailed("broken", "it is broken")
            if where == "grant":
                rig.vault.fail["grant"] = error
            elif where == "job_create":
                rig.kernel.fail["job_create"] = error
            else:
                rig.committer.log.break_off("No space left on device")
            caller = Caller(USER, GROUP)
            reply = await caller.call(rig.admin, "POST", "/jobs", {})
            await caller.leave()
            assert reply.status == 503
            assert reply.kind == "application/problem+json"
            assert PLACEHOLDER.encode() not in reply.body
            assert rig.jobs.views() == []
            assert len(rig.vault.forgotten) == 1
            assert not rig.kernel.made
            if where == "audit":
                assert "job_create" not in rig.kernel.calls  # nothing happens that is not on record
            if where == "job_create":
                assert [json.loads(x)["record"]["type"] for x in rig.audit().splitlines()][1:] == [
                    "job.started",
                    "job.ended",
                ]

    uvloop.run(main())


def test_a_caller_that_dies_before_it_is_moved_is_not_taken_for_another(tmp_path: Path) -> None:
    """The pid may be another process's by then: what was moved is ended again."""

    async def main() -> None:
        async with rigged(tmp_path, watch=False) as rig:
            process = await asyncio.create_subprocess_exec("sleep", "100")
            pidfd = os.pidfd_open(process.pid)
            process.kill()
            await process.wait()
            from appliance.model.errors import Denied

            with pytest.raises(Denied, match="caller-gone"):
                await rig.jobs.start(process.pid, pidfd, USER, "x")
            os.close(pidfd)
            assert len(rig.kernel.ended) == 1
            assert rig.jobs.views() == []

    uvloop.run(main())


def opened(n: int) -> FlowOpened:
    return FlowOpened(
        1.0, FlowId(f"f-{n}"), JobId(JOB), "ci", "jti", 1, 1, "/bin/x", "00", "192.0.2.1", 443, "api.example.com",
        "tls", "allow", "rule",
    )  # fmt: skip


def test_flows_are_listed_and_followed(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            rig.flows.observe([opened(1)])
            reader, writer = await asyncio.open_unix_connection(rig.admin)
            writer.write(b"GET /flows?follow=1 HTTP/1.1\r\nhost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")

            async def event() -> dict[str, Any]:
                size = int(await reader.readline(), 16)
                line = await reader.readexactly(size)
                await reader.readline()
                read: dict[str, Any] = json.loads(line)
                return read

            assert (await event())["event"] == "open"
            rig.flows.observe([OperationDecided(2.0, FlowId("f-1"), 1, "GET", "api.example.com", "/x", "allow", "r")])
            seen = await event()
            assert seen["event"] == "operation"
            assert seen["flow"]["last"] == "GET api.example.com/x"
            assert seen["record"]["path"] == "/x"
            flow = FlowId("f-1")
            rig.flows.observe([SessionStarted(2.0, flow, "shop", "app", "15.4", True, ("db",))])
            assert (await event())["event"] == "session"
            rig.flows.observe([StatementDecided(2.0, flow, 2, "select", "select $1", "hold", "db/ask")])
            seen = await event()
            assert (seen["flow"]["operations"], seen["flow"]["denied"]) == (1, 0)
            rig.flows.observe([StatementDecided(2.0, flow, 2, "select", "select $1", "deny", "db/default-deny")])
            seen = await event()
            assert seen["event"] == "operation"
            assert {key: seen["flow"][key] for key in ("last", "operations", "denied", "swapped")} == {
                "last": "select $1",
                "operations": 2,
                "denied": 1,
                "swapped": 1,
            }
            rig.flows.observe([StatementEnded(2.5, flow, 2, 0, 0, 0.5, "42501")])
            assert (await event())["event"] == "answered"
            rig.flows.observe([FlowClosed(3.0, FlowId("f-1"), 10, 20, 1, "eof")])
            assert (await event())["event"] == "closed"
            writer.close()
            listed = (await call(rig.admin, "GET", "/flows")).json
            assert listed["open"] == []
            assert listed["closed"][0]["received"] == 20
            await settled(lambda: not rig.flows._followers)

    uvloop.run(main())


def test_policy_reload_is_atomic(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            before = (await call(rig.admin, "GET", "/policy")).json
            assert before["ok"]
            client = rig.client()
            from appliance.ipc.messages import PolicyBundle

            waiting = asyncio.create_task(client.call("policy", before["version"], result=PolicyBundle, timeout=30))
            (tmp_path / "policies" / "a.rego").write_text("broken")
            reply = await call(rig.admin, "POST", "/policy/reload")
            assert reply.status == 422
            assert "a.rego:1: it is broken" in reply.json["detail"]
            after = (await call(rig.admin, "GET", "/policy")).json
            assert (after["ok"], after["version"], after["modules"]) == (False, before["version"], before["modules"])
            assert (await call(rig.admin, "GET", "/status")).json["policy"]["error"]
            assert not waiting.done()
            (tmp_path / "policies" / "a.rego").write_text("package a\n# better\n")
            assert (await call(rig.admin, "POST", "/policy/reload")).json["ok"] is True
            told = await waiting
            assert told.version == rig.policy.version != before["version"]
            assert told.modules == {"a.rego": "package a\n# better\n"}
            at_once = await client.call("policy", "", result=PolicyBundle)
            assert at_once == told
            records = [json.loads(line)["record"] for line in rig.audit().splitlines()]
            assert [(r["type"], r["ok"]) for r in records] == [
                ("policy.changed", True),
                ("policy.changed", False),
                ("policy.changed", True),
            ]
            rig.committer.log.break_off("No space left on device")
            (tmp_path / "policies" / "a.rego").write_text("package a\n# unrecorded\n")
            assert (await call(rig.admin, "POST", "/policy/reload")).status == 503
            assert rig.policy.version == told.version  # a change that cannot be recorded does not happen
            await client.close()

    uvloop.run(main())


def test_explain_goes_to_the_policy_in_force(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            reply = await call(rig.admin, "POST", "/policy/explain", {"principal": "ci", "url": "https://x/"})
            assert reply.json == {"version": rig.policy.version, "principal": "ci"}
            assert (await call(rig.admin, "POST", "/policy/explain", {"principal": "ci", "evil": 1})).status == 400

    uvloop.run(main())


def test_the_audit_log_is_shown_and_judged(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            for n in range(30):
                rig.committer.record(FlowClosed(float(n), FlowId("f"), n, 0, 0, "eof"))
            lines = rig.audit().splitlines()
            shown = await call(rig.admin, "GET", "/audit/show?after=3&limit=5")
            assert shown.body.splitlines() == lines[3:8]
            assert (await call(rig.admin, "GET", "/audit/show?limit=2")).body.splitlines() == lines[-2:]
            for bad in ("after=x", "limit=-1", "limit=99999999", "after=" + "9" * 30):
                assert (await call(rig.admin, "GET", f"/audit/show?{bad}")).status == 400
            await rig.committer._checkpoint()
            report = (await call(rig.admin, "GET", "/audit/verify")).json
            assert report["ok"] is True
            assert report["signed_through"] == 31
            text = rig.audit()
            with open(tmp_path / "audit.jsonl", "r+b") as file:
                file.write(text.replace(b'"sent":7,', b'"sent":8,'))
            report = (await call(rig.admin, "GET", "/audit/verify")).json
            assert report["ok"] is False
            assert [(f["problem"], f["sequence"]) for f in report["findings"]] == [("edited", 9)]

    uvloop.run(main())


def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            reply = await call(rig.admin, "GET", "/metrics")
            assert reply.kind.startswith("text/plain")
            read = {
                (s.name, *s.labels.values()): s.value
                for f in text_string_to_metric_families(reply.body.decode())
                for s in f.samples
            }
            assert read[("coatcheck_hook_events_total", "flow-written")] == 3
            assert read[("coatcheck_audit_sequence",)] == 1
            assert read[("coatcheck_secret_ok", "demo")] == 1
            assert read[("coatcheck_policy_info", rig.policy.version)] == 1
            assert read[("coatcheck_memory_bytes", "control")] > 1e6
            assert PLACEHOLDER.encode() not in reply.body

    uvloop.run(main())


HOSTILE = {
    "not JSON": ("POST", "/jobs", b"{", 400),
    "an unknown field": ("POST", "/jobs", b'{"label":"x","uid":0}', 400),
    "a label that is a path": ("POST", "/jobs", b'{"label":"../x"}', 400),
    "too large": ("POST", "/jobs", b'{"label":"' + b"x" * 100_000 + b'"}', 413),
    "no such route": ("GET", "/../etc/passwd", b"", 404),
    "another method": ("PUT", "/jobs", b"", 405),
    "a negative life": ("POST", "/mint", b'{"secret":"demo","ttl":-1,"job":"x"}', 400),
    "no such job": ("POST", "/mint", b'{"secret":"demo","job":"j-0"}', 404),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bad_requests_are_answered_in_one_form(name: str, tmp_path: Path) -> None:
    method, path, body, status = HOSTILE[name]

    async def main() -> None:
        async with rigged(tmp_path) as rig:
            from tests.control.caller import reply_of, request_of

            raw = await asyncio.get_running_loop().run_in_executor(
                None, exchange, rig.admin, request_of(method, path, body)
            )
            reply = reply_of(raw)
            assert (reply.status, reply.kind) == (status, "application/problem+json"), reply
            assert not rig.kernel.made

    uvloop.run(main())


def test_connections_are_limited_by_uid_and_by_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_CONNECTIONS_PER_UID", 5)
    monkeypatch.setattr(peers, "HEAD_TIMEOUT", 0.3)
    script = (
        "import os,socket,sys\n"
        f"os.setgroups([]); os.setgid({USER}); os.setuid({USER})\n"
        "socks=[]\n"
        "for _ in range(8):\n"
        "    s=socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]); socks.append(s)\n"
        "shut=[]\n"
        "for s in socks[5:]:\n"
        "    try: shut.append(s.recv(1))\n"
        "    except ConnectionResetError: shut.append(b'')\n"
        "print(shut==[b'']*3, flush=True)\n"
        "late=[s.recv(1) for s in socks[:5]]\n"
        "print(late==[b'']*5, flush=True)\n"
    )

    async def main() -> None:
        import sys

        async with rigged(tmp_path) as rig:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, rig.admin, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            assert (await process.stdout.readline()).strip() == b"True"
            assert (await call_as(rig.admin, USER + 1, USER, (), "GET", "/health")).status == 200
            assert (await process.stdout.readline()).strip() == b"True"
            await process.wait()
            assert (await call_as(rig.admin, USER, USER, (), "GET", "/health")).status == 200

    uvloop.run(main())


def test_peer_credentials_are_those_of_the_connection(tmp_path: Path) -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    peer = peers.admin_peer(left)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert set(peer.groups) == set(os.getgroups())
    fd = peer.pidfd()
    assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{fd}").read_text()
    os.close(fd)
    left.close()
    right.close()


def test_the_rig_is_clean(tmp_path: Path) -> None:
    async def main() -> Rig:
        async with rigged(tmp_path) as rig:
            return rig

    rig = uvloop.run(main())
    assert rig.troubles == []
