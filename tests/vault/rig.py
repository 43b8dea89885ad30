"""The parts that the vault's tests are made of: a clock, a kernel process that answers, a vault in this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from appliance.config.places import Accounts
from appliance.config.schema import Config, SecretSpec, Tls, Workload, WorkloadMatch
from appliance.identity.workloads import compile_workloads
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Attested, JobInfo
from appliance.ipc.server import IpcServer, Peer
from appliance.metrics.tally import Tally
from appliance.model.errors import Denied
from appliance.model.facts import ProcessFacts, SocketRecord
from appliance.model.ids import JobId
from appliance.vault.authority import Authority
from appliance.vault.cloakroom import Cloakroom, Maker
from appliance.vault.heads import HeadSigner
from appliance.vault.issuer import Issuer
from appliance.vault.kernel import Kernel
from appliance.vault.keys import Keys
from appliance.vault.ledger import Ledger
from appliance.vault.making import make_placeholder
from appliance.vault.placeholders import Registry
from appliance.vault.service import Service
from appliance.vault.stores import store_of
from appliance.vault.stores.cache import SecretCache
from tests.identity.facts import facts

T = TypeVar("T")
JOB = JobId("j-00112233445566aa")
OTHER_JOB = JobId("j-ffeeddccbbaa9988")
CANARY = "ghp_C4n4ryC4n4ryC4n4ryC4n4ryC4n4ry123456"
KEY = b"flow-of-job"
OTHER_KEY = b"flow-of-other"
_ME = os.getuid()
EVERYONE = Accounts(_ME, _ME, _ME, _ME, os.getgid())  # this process plays all parts


class Clock:
    """Seconds since the epoch (`now`) and since nothing in particular (`ticks`), moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds

    def ticks(self) -> float:
        return self.seconds - 1_700_000_000.0

    def move(self, seconds: float) -> None:
        self.seconds += seconds


def record(**_: Any) -> SocketRecord:
    return SocketRecord(
        cookie=1, netns=1, task_cgroup=1, socket_job=1, task_job=1, start_ns=1, connect_ns=1, exe_inode=1,
        exe_device=1, pid=1, tid=1, uid=1000, gid=1000, parent=1, address=b"\0" * 16, port=443, family=2,
        protocol=6, comm="curl", exe_name="curl",
    )  # fmt: skip


class FakeKernel:
    """kernel.sock, as far as the vault asks: two flows of two jobs, and the jobs there are."""

    def __init__(self) -> None:
        self.flows: dict[bytes, ProcessFacts] = {KEY: facts(job=JOB), OTHER_KEY: facts(job=OTHER_JOB, pid=4712)}
        self.alive: dict[JobId, str] = {JOB: "ci", OTHER_JOB: "ci"}
        self.asked = 0

    def register(self, server: IpcServer, uids: frozenset[int]) -> None:
        server.method("attest", bytes, self.attest, uids)
        server.method("attest_pid", int, self.attest_pid, uids)
        server.method("jobs", None, self.jobs, uids)

    async def attest(self, peer: Peer, key: bytes) -> Attested:
        self.asked += 1
        if key not in self.flows:
            raise Denied("no-record", "no governed process made this connection")
        return Attested(record(), self.flows[key])

    async def attest_pid(self, peer: Peer, pid: int) -> ProcessFacts:
        for found in self.flows.values():
            if found.pid == pid:
                return found
        raise Denied("no-facts", "there is no such process")

    async def jobs(self, peer: Peer, nothing: None) -> list[JobInfo]:
        return [JobInfo(job, label, 1000, f"/c/{job}", 1, True, True) for job, label in self.alive.items()]


def spec(**changes: Any) -> SecretSpec:
    """A secret of the configuration; `from` and whatever a test needs may be changed."""
    values: dict[str, Any] = {
        "name": "github",
        "from": {"environment": "COATCHECK_TEST_CANARY"},
        "env": "GITHUB_TOKEN",
        "destinations": ("github",),
        "hosts": ("api.github.test",),
        "slots": ({"in": "header", "name": "authorization"},),
    }
    return SecretSpec.model_validate(values | changes)


WORKLOADS = (Workload(name="ci", match=WorkloadMatch(uid=(1000,)), groups=("builders",)),)


class Vault:
    """The vault's parts, with all that a test may look into."""

    def __init__(
        self, state: Path, clock: Clock, specs: Iterable[SecretSpec], make: Maker, config: Config, kernel_path: str
    ) -> None:
        self.clock = clock
        self.kernel = Kernel(IpcClient("kernel", kernel_path, _ME), clock.ticks)
        self.keys = Keys(state, clock.now, 360.0)
        self.authority = Authority(state, Tls(), clock.now, "host.test")
        self.ledger = Ledger(state)
        self.registry = Registry(self.ledger)
        self.issuer = Issuer(compile_workloads(config.workloads), config.issuer, self.kernel, self.keys, clock.now)
        self.heads = HeadSigner(self.keys, self.ledger)
        caches = [(each, SecretCache(store_of(each, {}), each.cache, clock.ticks)) for each in specs]
        self.cloakroom = Cloakroom(caches, self.registry, self.issuer, self.kernel, make, clock.now, clock.ticks)
        self.tally = Tally("vault")
        self.bugs: list[str] = []
        self.service = Service(
            self.issuer, self.cloakroom, self.registry, self.authority, self.keys, self.heads, self.tally, clock.now
        )


@asynccontextmanager
async def vault_at(
    state: Path,
    clock: Clock,
    *specs: SecretSpec,
    make: Maker = make_placeholder,
    kernel: FakeKernel | None = None,
    who: Accounts = EVERYONE,
) -> AsyncIterator[tuple[Vault, IpcClient, FakeKernel]]:
    """A vault served on a socket in `state`'s parent, with a client of it and its kernel process."""
    kernel = kernel or FakeKernel()
    kernel_path, path = str(state.parent / "kernel.sock"), str(state.parent / "vault.sock")
    config = Config(workloads=WORKLOADS)
    kernel_server = IpcServer(lambda method, error: None)
    kernel.register(kernel_server, frozenset({_ME}))
    await kernel_server.start(kernel_path)
    vault = Vault(state, clock, specs, make, config, kernel_path)
    server = IpcServer(lambda method, error: vault.bugs.append(f"{method}: {error!r}"))
    vault.service.register(server, who)
    await server.start(path, mode=0o666)
    client = IpcClient("vault", path, _ME)
    try:
        yield vault, client, kernel
    finally:
        await client.close()
        await server.stop()
        await kernel_server.stop()
        await vault.ledger.close()
    assert not vault.bugs


def run(scenario: Callable[[], Awaitable[T]]) -> T:
    """Plays an async scenario to its end."""

    async def play() -> T:
        return await scenario()

    return asyncio.run(play())
