"""The parameters and results of every call between the four processes. Each method's table is in the package map
of the process that serves it (`appliance.kernel`, `appliance.vault`, `appliance.control`)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.model.facts import ProcessFacts, SocketRecord
from appliance.model.ids import DestinationName, JobId, SecretName
from appliance.model.placeholder import LeasedPlaceholder, Narrowing, Slot

# ---- served by kernel ----


class Attested(Struct, frozen=True):
    record: SocketRecord
    facts: ProcessFacts


class JobCreate(Struct, frozen=True):
    job: JobId
    label: str
    launched_uid: int
    pid: int  # moved into the job's cgroup


class JobCreated(Struct, frozen=True):
    cgroup: str  # below the cgroup2 mount
    cgroup_id: int


class JobInfo(Struct, frozen=True):
    job: JobId
    label: str
    launched_uid: int
    cgroup: str
    cgroup_id: int
    managed: bool  # True: made by job_create; False: matched by a governed pattern
    populated: bool


class JobEvent(Struct, frozen=True):
    number: int
    kind: Literal["appeared", "emptied", "gone"]
    job: JobInfo


class EventBatch(Struct, frozen=True):
    last: int  # pass it as `after` next time
    events: tuple[JobEvent, ...]


class KernelState(Struct, frozen=True):
    kernel: str  # uname release
    cgroup_mount: str
    governed: tuple[str, ...]  # cgroup paths with hooks attached
    hooks: tuple[str, ...]
    missing_hooks: tuple[str, ...]  # optional ones that this kernel lacks
    flows: int  # entries of the flow map


# ---- served by vault ----


class LeaseAsk(Struct, frozen=True):
    token: str
    destination: DestinationName
    host: str
    port: int


class LeasedSecretWire(Struct, frozen=True):
    """`value` is the real credential: this message travels only on the vault's own socket."""

    name: SecretName
    value: bytes
    slots: tuple[Slot, ...]
    placeholders: tuple[LeasedPlaceholder, ...]

    def __repr__(self) -> str:
        return f"LeasedSecretWire({self.name!r}, …)"


class Lease(Struct, frozen=True):
    expires: float  # seconds since the epoch; ask again then
    secrets: tuple[LeasedSecretWire, ...]


class UseAsk(Struct, frozen=True):
    token: str
    digest: bytes  # SHA-256 of the placeholder's text
    destination: DestinationName
    host: str
    method: str
    path: str


class PlaceholderState(Struct, frozen=True):
    state: Literal["unknown", "live", "expired", "used-up", "revoked"]
    job: JobId = JobId("")
    secret: SecretName = SecretName("")


class GrantAsk(Struct, frozen=True):
    job: JobId
    label: str


class Granted(Struct, frozen=True):
    """`text` is the placeholder; it goes to the job's environment and nowhere else. If the secret cannot be had now,
    `problem` says why, and `text` and `env` are empty: the job starts without it, and may mint one later."""

    secret: SecretName
    env: str | None
    text: str
    problem: str = ""

    def __repr__(self) -> str:
        return f"Granted({self.secret!r}, {self.env!r}, …)"


class MintAsk(Struct, frozen=True):
    job: JobId
    secret: SecretName
    ttl: float | None
    uses: int | None
    narrowing: Narrowing


class Leaf(Struct, frozen=True):
    chain_pem: str
    key_pem: str
    not_after: float

    def __repr__(self) -> str:
        return f"Leaf(not_after={self.not_after!r}, …)"


class Head(Struct, frozen=True):
    """A checkpoint of the audit chain."""

    sequence: int
    hash: bytes  # SHA-256 of the record with that sequence
    time: float


class SignedHead(Struct, frozen=True):
    head: Head
    key_id: str
    signature: bytes


class VaultStatus(Struct, frozen=True):
    secrets: dict[str, str]  # name -> "ok" or what is wrong
    jobs: int
    placeholders: int
    leaves: int
    ca_not_after: float


# ---- served by control ----


class PolicyBundle(Struct, frozen=True):
    version: str
    modules: dict[str, str]  # file name -> Rego text
    data: str  # JSON


class Sample(Struct, frozen=True, array_like=True):
    """One Prometheus sample; counters and gauges are absolute values of that worker."""

    name: str
    labels: dict[str, str]
    value: float


class Family(Struct, frozen=True, array_like=True):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    documentation: str
    samples: tuple[Sample, ...]


class WorkerMetrics(Struct, frozen=True):
    worker: str
    families: tuple[Family, ...]
