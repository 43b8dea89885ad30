"""The two neighbours, played: enough of each to see what control asks of them, and in what order."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from appliance.ipc.messages import (
    EventBatch,
    GrantAsk,
    Granted,
    Head,
    JobCreate,
    JobCreated,
    JobEvent,
    JobInfo,
    KernelState,
    MintAsk,
    SignedHead,
    VaultStatus,
)
from appliance.ipc.server import IpcServer, Peer
from appliance.model.errors import CoatcheckError, Denied
from appliance.model.facts import ProcessFacts
from appliance.model.identity import Claims, Identity
from appliance.model.ids import JobId, PrincipalName, SecretName
from tests.audit.signer import FakeVaultSigner

ME = frozenset({os.geteuid()})
PLACEHOLDER = "ph-canary-0123456789abcdef"


def raise_bug(method: str, error: BaseException) -> None:
    raise AssertionError(f"a bug in {method}") from error


def facts_of(pid: int, job: str, label: str = "default") -> ProcessFacts:
    return ProcessFacts(
        pid=pid, start_ticks=1, uid=1, gid=1, groups=(), exe="/bin/x", exe_inode=1, exe_device=1, exe_sha256="00",
        cmdline=("x",), comm="x", cgroup="/x", cgroup_id=1, unit="", netns=1, ancestors=(), job=JobId(job),
        job_label=label, launched_uid=1, complete=True,
    )  # fmt: skip


class FakeKernel:
    """`inside`: pid -> job of processes that are in one. `fail`: method -> the error that it answers."""

    def __init__(self, callers: frozenset[int] = ME) -> None:
        self._callers = callers
        self.inside: dict[int, str] = {}
        self.made: dict[str, JobInfo] = {}
        self.ended: list[str] = []
        self.events: list[JobEvent] = []
        self.fail: dict[str, CoatcheckError] = {}
        self.calls: list[str] = []
        self.on_create: Any = None
        self._server = IpcServer(raise_bug)

    async def start(self, path: Path) -> None:
        for name, params, handler in (
            ("attest_pid", int, self.attest_pid),
            ("job_create", JobCreate, self.job_create),
            ("job_end", JobId, self.job_end),
            ("jobs", None, self.jobs),
            ("next_events", int, self.next_events),
            ("counters", None, self.counters),
            ("state", None, self.state),
        ):
            self._server.method(name, params, handler, self._callers)
        await self._server.start(str(path), mode=0o666)

    async def stop(self) -> None:
        await self._server.stop()

    def happen(self, kind: Any, job: JobInfo) -> None:
        self.events.append(JobEvent(len(self.events) + 1, kind, job))

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]

    async def attest_pid(self, _: Peer, pid: int) -> ProcessFacts:
        self._called("attest_pid")
        if pid not in self.inside:
            raise Denied("no-job", f"process {pid} is in no job")
        return facts_of(pid, self.inside[pid])

    async def job_create(self, _: Peer, ask: JobCreate) -> JobCreated:
        self._called("job_create")
        path = f"/coatcheck.slice/{ask.job}"
        self.made[ask.job] = JobInfo(ask.job, ask.label, ask.launched_uid, path, 7, True, True)
        self.inside[ask.pid] = ask.job
        if self.on_create is not None:
            self.on_create(ask)
        return JobCreated(path, 7)

    async def job_end(self, _: Peer, job: JobId) -> None:
        self._called("job_end")
        self.ended.append(job)
        self.made.pop(job, None)
        self.inside = {pid: j for pid, j in self.inside.items() if j != job}

    async def jobs(self, _: Peer, __: None) -> list[JobInfo]:
        self._called("jobs")
        return list(self.made.values())

    async def next_events(self, _: Peer, after: int) -> EventBatch:
        import asyncio

        self._called("next_events")
        for _unused in range(40):
            if len(self.events) > after:
                break
            await asyncio.sleep(0.005)
        return EventBatch(len(self.events), tuple(self.events[after:]))

    async def counters(self, _: Peer, __: None) -> dict[str, int]:
        self._called("counters")
        return {"flow-written": 3, "refused-udp": 1}

    async def state(self, _: Peer, __: None) -> KernelState:
        self._called("state")
        return KernelState("6.18", "/sys/fs/cgroup", ("/coatcheck.slice",), ("connect4",), (), 2)


class FakeVault:
    def __init__(self, callers: frozenset[int] = ME) -> None:
        self._callers = callers
        self.signer = FakeVaultSigner()
        self.granted: list[GrantAsk] = []
        self.minted: list[MintAsk] = []
        self.forgotten: list[str] = []
        self.fail: dict[str, CoatcheckError] = {}
        self._server = IpcServer(raise_bug)

    async def start(self, path: Path) -> None:
        for name, params, handler in (
            ("identify_pid", int, self.identify_pid),
            ("grant", GrantAsk, self.grant),
            ("mint", MintAsk, self.mint),
            ("forget_job", JobId, self.forget_job),
            ("jwks", None, self.jwks),
            ("sign_head", Head, self.sign_head),
            ("last_head", None, self.last_head),
            ("status", None, self.status),
        ):
            self._server.method(name, params, handler, self._callers)
        await self._server.start(str(path), mode=0o666)

    async def stop(self) -> None:
        await self._server.stop()

    def _called(self, name: str) -> None:
        if name in self.fail:
            raise self.fail[name]

    async def identify_pid(self, _: Peer, pid: int) -> Identity:
        now = int(time.time())
        facts = facts_of(pid, "j-00000000000000aa")
        return Identity("a.b.c", Claims("coatcheck", PrincipalName("ci"), (), facts.job, facts, now, now + 300, "x"))

    async def grant(self, _: Peer, ask: GrantAsk) -> list[Granted]:
        self._called("grant")
        self.granted.append(ask)
        return [
            Granted(SecretName("demo"), "DEMO_TOKEN", PLACEHOLDER),
            Granted(SecretName("away"), None, "", "its file is missing"),
        ]

    async def mint(self, _: Peer, ask: MintAsk) -> str:
        self._called("mint")
        self.minted.append(ask)
        return PLACEHOLDER

    async def forget_job(self, _: Peer, job: JobId) -> None:
        self._called("forget_job")
        self.forgotten.append(job)

    async def jwks(self, _: Peer, __: None) -> dict[str, Any]:
        import base64

        x = base64.urlsafe_b64encode(self.signer.keys["audit-1"].public_bytes_raw()).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "audit-1", "x": x, "purpose": "audit"}]}

    async def sign_head(self, _: Peer, head: Head) -> SignedHead:
        return self.signer.sign_now(head)

    async def last_head(self, _: Peer, __: None) -> SignedHead | None:
        return self.signer.last

    async def status(self, _: Peer, __: None) -> VaultStatus:
        self._called("status")
        return VaultStatus({"demo": "ok"}, 1, 2, 3, 4e9)
