"""Control's parts put together as the daemon does it, in this process, between the two fakes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.audit.committer import Committer
from appliance.audit.log import open_log
from appliance.config.places import Accounts
from appliance.control.admin import admin_server, bind_admin
from appliance.control.api import Api, Parts
from appliance.control.checking import Checked
from appliance.control.explaining import ExplainAsk
from appliance.control.flows import Flows
from appliance.control.jobs import Jobs
from appliance.control.neighbours import Kernel, Vault
from appliance.control.overview import Overview
from appliance.control.peers import Doors
from appliance.control.policy_files import PolicyFiles
from appliance.control.rights import Rights
from appliance.control.service import ControlService
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import PolicyBundle
from appliance.ipc.server import IpcServer
from appliance.metrics.merge import Merged
from appliance.metrics.tally import Tally
from appliance.model.errors import EnvironmentFailed
from appliance.model.record import Record
from appliance.policy.data import Data
from tests.control.fakes import FakeKernel, FakeVault, raise_bug

GROUP = 54321
# the peers that tests play: the kernel process is uid 0 as in life, the proxy is too (tests run as root)
VAULT_UID, CONTROL_UID = 61001, 61003


def fake_check(modules: dict[str, str], data: str) -> Checked:
    """Refuses a policy that holds the word "broken"."""
    import hashlib

    if any("broken" in text for text in (*modules.values(), data)):
        raise EnvironmentFailed("policy", "a.rego:1: it is broken")
    text = repr(sorted(modules.items())) + data
    return Checked(PolicyBundle(hashlib.sha256(text.encode()).hexdigest(), modules, "{}"), Data())


def fake_explain(checked: Checked, ask: ExplainAsk) -> Any:
    return {"version": checked.bundle.version, "principal": ask.principal}


@dataclass
class Rig:
    folder: Path
    kernel: FakeKernel
    vault: FakeVault
    committer: Committer
    flows: Flows
    policy: PolicyFiles
    jobs: Jobs
    admin: str
    control: str
    troubles: list[str]
    record_troubles: list[str]  # with what workers write

    def audit(self) -> bytes:
        return (self.folder / "audit.jsonl").read_bytes()

    def client(self) -> IpcClient:
        return IpcClient("control", self.control, os.geteuid())


@asynccontextmanager
async def rigged(folder: Path, *, proxy_uid: int | None = None, watch: bool = True) -> AsyncIterator[Rig]:
    folder.chmod(0o755)
    kernel_fake, vault_fake = FakeKernel(), FakeVault()
    await kernel_fake.start(folder / "kernel.sock")
    await vault_fake.start(folder / "vault.sock")
    kernel_client = IpcClient("kernel", str(folder / "kernel.sock"), os.geteuid())
    vault_client = IpcClient("vault", str(folder / "vault.sock"), os.geteuid())
    kernel, vault = Kernel(kernel_client), Vault(vault_client)
    troubles: list[str] = []
    committer = Committer(
        open_log(folder / "audit.jsonl", None), vault.sign_head, time.time,
        checkpoint_records=1000, checkpoint_interval=100.0, trouble=troubles.append,
    )  # fmt: skip
    committer.start(None)
    flows, merged, tally = Flows(), Merged(), Tally("control")
    record_troubles: list[str] = []

    async def record(what: Record) -> int:
        last = committer.record(what)
        flows.observe([what])
        return last

    policies = folder / "policies"
    policies.mkdir()
    (policies / "a.rego").write_text("package a\n")
    policy = PolicyFiles(policies, fake_check, record, time.time)
    await policy.reload()
    jobs = Jobs(
        kernel, vault, record,
        root="coatcheck.slice", clock=time.time, random=os.urandom, trouble=troubles.append,
    )  # fmt: skip
    overview = Overview(kernel, vault, jobs, policy, committer, merged, tally, time.monotonic, time.time)
    server = IpcServer(raise_bug)
    who = Accounts(-1, VAULT_UID, os.geteuid() if proxy_uid is None else proxy_uid, CONTROL_UID, GROUP)
    pipes = folder / "records"
    pipes.mkdir()
    pipes.chmod(0o2710)
    service = ControlService(
        who, committer, flows, policy, merged, tally, time.monotonic, pipes, record_troubles.append
    )  # fmt: skip
    service.start(server)
    await server.start(str(folder / "control.sock"), mode=0o666)
    admin_path = str(folder / "admin.sock")
    parts = Parts(
        Rights(kernel, GROUP), jobs, vault, flows, policy, fake_explain, committer, overview, time.time, admin_path,
        raise_bug,
    )  # fmt: skip
    admin = admin_server(Api(parts).app(), bind_admin(admin_path), Doors())
    await admin.start()
    watching = asyncio.create_task(jobs.watch()) if watch else None
    try:
        yield Rig(
            folder, kernel_fake, vault_fake, committer, flows, policy, jobs, admin_path, str(folder / "control.sock"),
            troubles, record_troubles,
        )  # fmt: skip
    finally:
        if watching is not None:
            watching.cancel()
        await jobs.stop()
        await admin.stop()
        await server.stop()
        service.stop()
        await committer.stop()
        await kernel_client.close()
        await vault_client.close()
        await kernel_fake.stop()
        await vault_fake.stop()
