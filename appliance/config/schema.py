"""The configuration file's shape (YAML). Unknown keys are errors. `docs/configuration.md` is the reference."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str | float) -> float:
    """ "1.5h", "30s", "250ms" to seconds; a bare number is seconds. Raises ValueError with what is allowed."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    match = _DURATION.fullmatch(str(text))
    if not match:
        raise ValueError(f"{text!r} is not a duration: write a number with ms, s, m, h or d, for example 30s")
    return float(match[1]) * _UNITS[match[2]]


Seconds = Annotated[float, BeforeValidator(seconds_of), Field(gt=0, allow_inf_nan=False)]

# as `appliance.wire.names` has it
_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{value!r} is not an address, such as 192.0.2.1 or 2001:db8::1") from None


def _host(value: str) -> str:
    value = value.lower().removesuffix(".")
    if value.startswith("[") and value.endswith("]"):
        _address(value[1:-1])
    elif len(value) > 253 or not _HOST_NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a host: write a whole name, such as api.example.com, or an address"
            " (IPv6 in brackets); there are no wildcards"
        )
    return value


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


def _cgroup_pattern(value: str) -> str:
    if not all(part not in ("", ".", "..") for part in value.strip("/").split("/")):
        raise ValueError(
            f"{value!r} is not a pattern of cgroups: write a path below the cgroup2 mount, `*` within a segment, for"
            " example system.slice/actions.runner.*.service"
        )
    return value


Host = Annotated[str, AfterValidator(_host)]
Address = Annotated[str, AfterValidator(_address)]
Regex = Annotated[str, AfterValidator(_regex)]
Digest = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
Glob = Annotated[str, Field(min_length=1, max_length=512)]  # as appliance.identity.globs has it
CgroupPattern = Annotated[str, AfterValidator(_cgroup_pattern)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(Part):
    """Ports on 127.0.0.1 and ::1 that governed traffic is turned to; under 1024, so that no user can squat them."""

    proxy_port: int = Field(1006, ge=1, le=65535)
    dns_port: int = Field(1007, ge=1, le=65535)


class Govern(Part):
    """Which cgroups are governed. `root` is where `coatcheck run` makes jobs, below the cgroup2 mount."""

    root: str = "coatcheck.slice"
    existing: tuple[GovernExisting, ...] = ()

    @field_validator("root")
    @classmethod
    def _root(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.@:-]+(/[A-Za-z0-9_.@:-]+)*", value) or ".." in value.split("/"):
            raise ValueError("a cgroup path below the cgroup2 mount, no leading slash, for example coatcheck.slice")
        return value


class GovernExisting(Part):
    """Cgroups that something else makes, for example `system.slice/actions.runner.*.service`.
    `*` matches within one path segment. Each matching cgroup is one job with this label."""

    pattern: CgroupPattern
    label: Name


class Processes(Part):
    """The account each process runs as: a user's name or a number. The kernel process runs as uid 0 with few
    capabilities (docs/threat-model.md)."""

    vault: str | int = "coatcheck-vault"
    proxy: str | int = "coatcheck-proxy"
    control: str | int = "coatcheck-control"
    workers: int = Field(1, ge=1, le=64)
    group: str | int = "coatcheck"  # members may start jobs with `coatcheck run`


class WorkloadMatch(Part):
    """All that is written must hold. Text patterns are globs anchored at both ends (`*` within a path segment,
    `**` across)."""

    uid: tuple[int, ...] | None = None
    gid: tuple[int, ...] | None = None  # primary or supplementary
    exe: Glob | None = None
    exe_sha256: tuple[Digest, ...] | None = None
    cmdline: Regex | None = None  # full match over the arguments joined by spaces
    cgroup: Glob | None = None
    unit: Glob | None = None
    label: Glob | None = None
    launched_uid: tuple[int, ...] | None = None
    ancestor_exe: Glob | None = None  # any ancestor


class Workload(Part):
    """The first workload whose match holds names the principal; no match, no principal, no connection."""

    name: Name
    match: WorkloadMatch
    groups: tuple[Name, ...] = ()


class FromFile(Part):
    file: str


class FromEnvironment(Part):
    environment: str  # a variable of the vault process


class FromCommand(Part):
    command: tuple[str, ...] = Field(min_length=1)
    timeout: Seconds = 10.0


class FromCredential(Part):
    credential: str  # systemd-creds: a file below $CREDENTIALS_DIRECTORY


class FromVault(Part):
    """HashiCorp Vault or OpenBao, KV version 1 or 2."""

    url: str
    path: str  # below the mount, without "data/"
    key: str
    mount: str = "secret"
    kv: Literal[1, 2] = 2
    token_file: str | None = None
    token_environment: str | None = None
    namespace: str | None = None
    ca_file: str | None = None

    @model_validator(mode="after")
    def _token(self) -> FromVault:
        if (self.token_file is None) == (self.token_environment is None):
            raise ValueError("exactly one of token_file and token_environment says where the token is")
        return self


class SlotSpec(Part):
    in_: Literal["header", "basic", "query", "postgres", "upstream-certificate"] = Field(alias="in")
    name: str = ""

    @model_validator(mode="after")
    def _name(self) -> SlotSpec:
        if self.in_ == "basic" and self.name not in ("user", "password"):
            raise ValueError('a basic slot has the name "user" or "password"')
        if self.in_ == "header" and not re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+", self.name):
            raise ValueError("a header slot has a header's name in lower case")
        if self.in_ == "query" and not self.name:
            raise ValueError("a query slot has the parameter's name")
        if self.in_ == "postgres" and len(self.name) > 63:
            raise ValueError("a postgres slot has a user's name, 63 characters at most, or none for every user")
        if self.in_ == "upstream-certificate" and self.name:
            raise ValueError("an upstream-certificate slot has no name")
        return self


class Shape(Part):
    """Where a placeholder's form comes from; neither: from the real value itself."""

    regex: Regex | None = None
    sample: str | None = None


class SecretSpec(Part):
    name: Name
    source: FromFile | FromEnvironment | FromCommand | FromCredential | FromVault = Field(alias="from")
    cache: Seconds = 60.0
    shape: Shape = Shape()
    env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")  # the job's variable for the placeholder
    labels: tuple[str, ...] = ("*",)  # labels (globs) of the jobs that are given a placeholder
    destinations: tuple[Name, ...] = Field(min_length=1)  # names in the policy's data
    hosts: tuple[Host, ...] = Field(min_length=1)  # exact; the vault itself checks them
    slots: tuple[SlotSpec, ...] = Field(min_length=1)
    ttl: Seconds = 3600.0
    uses: int | None = Field(None, ge=1)

    @property
    def has_placeholder(self) -> bool:
        """False for a certificate and its key, which jobs are given nothing for."""
        return any(slot.in_ != "upstream-certificate" for slot in self.slots)

    @model_validator(mode="after")
    def _certificate(self) -> SecretSpec:
        if any(slot.in_ == "upstream-certificate" for slot in self.slots):
            if len(self.slots) > 1:
                raise ValueError("an upstream-certificate is the only slot of its secret")
            if self.env is not None or self.shape != Shape() or self.uses is not None:
                raise ValueError("an upstream-certificate has no placeholder, so neither env, shape nor uses")
        return self


class Tls(Part):
    """`upstream_ca_files` are trusted beside the system's roots."""

    upstream_ca_files: tuple[str, ...] = ()
    system_roots: bool = True
    leaf_life: Seconds = 86400.0
    leaf_cache: int = Field(1000, ge=1)


class Dns(Part):
    """`servers` are asked in order (default: those of /etc/resolv.conf); `hosts` are answered here."""

    servers: tuple[str, ...] = ()
    hosts: dict[Host, tuple[Address, ...]] = {}
    timeout: Seconds = 3.0

    @field_validator("servers")
    @classmethod
    def _servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            host, _, port = server.rpartition("@") if "@" in server else (server, "", "53")
            ipaddress.ip_address(host)
            if not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError("a server is an address, or address@port")
        return value


class Audit(Part):
    checkpoint_records: int = Field(10_000, ge=1)
    checkpoint_interval: Seconds = 10.0


class Metrics(Part):
    """`listen`: "address:port" where Prometheus may read /metrics without the admin socket; anybody who can connect
    there can read them."""

    listen: str | None = None

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str | None) -> str | None:
        if value is not None:
            host, _, port = value.rpartition(":")
            try:
                ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
            except ValueError:
                host = ""
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError("an address and a port, for example 127.0.0.1:9464 or [::1]:9464")
        return value


class Limits(Part):
    """Seconds and bytes. Each phase of a flow has its own."""

    hello_timeout: Seconds = 10.0  # from accept to the first whole ClientHello or request line
    handshake_timeout: Seconds = 10.0
    connect_timeout: Seconds = 10.0
    head_timeout: Seconds = 30.0  # from a request's first byte to its last header
    body_idle_timeout: Seconds = 60.0
    response_timeout: Seconds = 300.0  # from the request's end to the response's head
    keepalive_timeout: Seconds = 75.0
    flows: int = Field(20000, ge=1)  # per worker
    flows_per_job: int = Field(2000, ge=1)
    kept_per_job: int = Field(256 << 20, ge=32 << 20)  # bytes, per worker, of PostgreSQL sessions
    head_bytes: int = Field(65536, ge=1024)
    headers: int = Field(200, ge=1)


class Config(Part):
    """The whole file."""

    state_dir: str = "/var/lib/coatcheck"
    run_dir: str = "/run/coatcheck"
    policy_dir: str = "/etc/coatcheck/policies"
    issuer: str = "coatcheck"
    listen: Listen = Listen()
    govern: Govern = Govern()
    processes: Processes = Processes()
    workloads: tuple[Workload, ...] = ()
    secrets: tuple[SecretSpec, ...] = ()
    tls: Tls = Tls()
    dns: Dns = Dns()
    audit: Audit = Audit()
    metrics: Metrics = Metrics()
    limits: Limits = Limits()
    ask: str = "ask whoever runs this host's Coatcheck to allow it in its policy"  # told with every denial

    @model_validator(mode="after")
    def _unique(self) -> Config:
        for kind, names in (
            ("workload", [w.name for w in self.workloads]),
            ("secret", [s.name for s in self.secrets]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"there are two {kind}s named {name}")
        return self
