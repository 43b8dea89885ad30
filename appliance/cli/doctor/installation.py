"""The configuration, and what follows from it: policy, accounts, folders, the CA, limits, the clock."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.cli.clock import length, moment
from appliance.cli.doctor.findings import NEEDS_ROOT, Finding, unknown
from appliance.cli.doctor.kernel import lacking
from appliance.config.load import FileError, load
from appliance.config.places import Accounts, Places, accounts
from appliance.config.schema import Config, FromCredential
from appliance.hot import HOT, interpreted

_DAY = 86400.0
_CA_SOON = 30 * _DAY  # a successor should long be there
_BUILT = 1735689600.0  # 2025-01-01: no clock that is right is before it
_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


def read(path: str) -> tuple[Config | None, Finding]:
    """The configuration, if it can be had."""
    try:
        config = load(path)
    except FileError as error:
        if not os.access(path, os.R_OK) and os.path.exists(path) and os.geteuid() != 0:
            return None, unknown("configuration", f"{path} is not ours to read", NEEDS_ROOT)
        mend = "mend the file" if os.path.exists(path) else "write it, or name another with --config"
        return None, Finding("configuration", "missing", str(error), f"{mend}; docs/configuration.md has its keys")
    said = f"{path}: {len(config.workloads)} workloads, {len(config.secrets)} secrets"
    if not config.workloads:
        return config, Finding(
            "configuration", "optional", f"{said}: without a workload no job may connect", "write workloads"
        )
    return config, Finding("configuration", "ok", said)


def compiled() -> Finding:
    """Whether the hot modules are."""
    without = interpreted()
    if not without:
        return Finding("compiled modules", "ok", f"{len(HOT)} modules of the hot path run as machine code")
    return Finding(
        "compiled modules",
        "optional",
        f"{len(without)} of {len(HOT)} modules of the hot path run from their source: all works, requests cost more",
        "install a C compiler and Python's headers (gcc, libc6-dev, python3-dev), then install anew "
        "(in a checkout: ./dev setup) and start anew",
    )


def installation(config: Config) -> Iterator[Finding]:
    places, who = Places(config), accounts(config)
    yield from _policy(config)
    yield from _accounts(config)
    yield from _folders(places, who)
    yield _ca(places)
    if any(isinstance(secret.source, FromCredential) for secret in config.secrets):
        yield _credentials()
    yield _descriptors(config)
    yield _clock(places)


def _policy(config: Config) -> Iterator[Finding]:
    from appliance.control.checking import check_policy
    from appliance.control.policy_files import read_folder
    from appliance.model.errors import CoatcheckError

    folder = Path(config.policy_dir)
    if not os.access(folder, os.R_OK | os.X_OK) and folder.exists():
        yield unknown("policy", f"{folder} is not ours to read", NEEDS_ROOT)
        return
    try:
        checked = check_policy(config, *read_folder(folder))
    except CoatcheckError as error:
        yield Finding("policy", "missing", str(error), "mend it, and ask `coatcheck policy check`")
        return
    yield Finding("policy", "ok", f"{folder}: {len(checked.data.destinations)} destinations, its tests pass")
    if checked.warnings:
        yield Finding(
            "policy and configuration",
            "optional",
            "; ".join(checked.warnings),
            "write the same names in both; until then they grant nothing",
        )
    else:
        yield Finding("policy and configuration", "ok", "they name the same things")


def _accounts(config: Config) -> Iterator[Finding]:
    lacking = []
    processes = config.processes
    for account in (processes.vault, processes.proxy, processes.control):
        try:
            if isinstance(account, str):
                pwd.getpwnam(account)
        except KeyError:
            lacking.append(account)
    try:
        if isinstance(processes.group, str):
            grp.getgrnam(processes.group)
    except KeyError:
        lacking.append(f"group {processes.group}")
    if not lacking:
        yield Finding("accounts", "ok", "each process has an account of its own")
        return
    yield Finding(
        "accounts",
        "optional",
        f"there is no {', '.join(map(str, lacking))}: numbers that nobody has are used; only root may start jobs"
        if f"group {processes.group}" in lacking
        else f"there is no {', '.join(map(str, lacking))}: numbers that nobody has are used",
        "useradd --system --user-group NAME for each, groupadd --system for the group, before the first start",
    )


def _folders(places: Places, who: Accounts) -> Iterator[Finding]:
    """Owner and mode of what is there; what is not will be made."""
    for path, owner, mode, what in (
        (places.state, 0, 0o755, "state_dir"),
        (places.vault_state, who.vault, 0o700, "the vault's state"),
        (places.control_state, who.control, 0o700, "control's state, with the audit log"),
        (places.run, 0, 0o755, "run_dir"),
        (places.pins, 0, 0o700, "the hooks' pins"),
    ):
        yield _folder(path, owner, mode, what)


def _folder(path: Path, owner: int, mode: int, what: str) -> Finding:
    name = f"folder {path}"
    try:
        found = path.stat()
    except FileNotFoundError:
        return Finding(name, "ok", f"{what}: it is made at the first start")
    except OSError as error:
        return unknown(name, f"{what}: {error.strerror}", NEEDS_ROOT)
    if not stat.S_ISDIR(found.st_mode):
        return Finding(name, "missing", f"{what}: it is not a folder", "move what is there away")
    wrong = []
    if found.st_uid != owner:
        wrong.append(f"it belongs to uid {found.st_uid}, not {owner}")
    if stat.S_IMODE(found.st_mode) & ~mode & 0o777:
        wrong.append(f"its mode is {stat.S_IMODE(found.st_mode):04o}, wider than {mode:04o}")
    if not wrong:
        return Finding(name, "ok", f"{what}: uid {owner}, mode {stat.S_IMODE(found.st_mode):04o}")
    mend = f"if what is in it can still be trusted: chown {owner} {path}; chmod {mode:o} {path}"
    return Finding(name, "missing", f"{what}: {' and '.join(wrong)}", mend)


def _ca(places: Places) -> Finding:
    """By the public file that jobs trust: the vault's own is nobody else's to read."""
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(Path(places.ca_file).read_bytes())
    except FileNotFoundError:
        return Finding("CA", "ok", "the host's authority is made at the first start")
    except (OSError, ValueError) as error:
        return Finding("CA", "missing", f"{places.ca_file} cannot be read: {error}", "restart the appliance")
    now = time.time()
    starts = min(each.not_valid_before_utc.timestamp() for each in certificates)
    ends = max(each.not_valid_after_utc.timestamp() for each in certificates)
    if ends <= now:
        return Finding("CA", "missing", f"it ended {moment(ends)}", "restart the appliance, which makes a new one")
    if starts > now:
        return Finding("CA", "missing", f"it begins only at {moment(starts)}: is the clock right?", "set the clock")
    if ends - now < _CA_SOON:
        return Finding(
            "CA", "missing", f"it ends in {length(ends - now)} and has no successor", "restart the appliance"
        )
    return Finding("CA", "ok", f"{places.ca_file}, until {moment(ends)}")


def _credentials() -> Finding:
    name = "systemd credentials"
    if not Path("/run/systemd/system").is_dir():
        return Finding(
            name, "missing", "secrets come from systemd credentials, but systemd does not run here", "use from: {file}"
        )
    if shutil.which("systemd-creds") is None:
        return Finding(name, "missing", "secrets come from them, but systemd is older than 250", "use from: {file}")
    return Finding(name, "ok", "systemd has them")


def _descriptors(config: Config) -> Finding:
    from appliance.daemon.supervisor import descriptors_for

    wanted = descriptors_for(config.limits.flows)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if os.geteuid() != 0 or "CAP_SYS_RESOURCE" not in lacking(("CAP_SYS_RESOURCE",)):
        try:
            most = int(Path("/proc/sys/fs/nr_open").read_text())  # root raises its own limit up to here
        except (OSError, ValueError):
            pass
    if wanted <= most:
        return Finding("descriptors", "ok", f"limits.flows needs {wanted}, a process may have {most}")
    return Finding(
        "descriptors",
        "optional",
        f"limits.flows needs {wanted} for each worker, but a process may have {most}: connections are refused earlier",
        f"raise fs.nr_open and the hard limit of open files to {wanted}, or set limits.flows to {(most - 256) // 2}",
    )


def _clock(places: Places) -> Finding:
    """Tokens, certificates and the record's times are as right as the clock."""
    import ctypes

    now = time.time()
    try:
        written = places.audit_log.stat().st_mtime
    except OSError:
        written = 0.0
    if now < max(_BUILT, written - 60):
        return Finding(
            "clock", "missing", f"it says {moment(now)}, which has been before", "set it: timedatectl set-ntp 1"
        )
    buffer = ctypes.create_string_buffer(512)  # struct timex with modes 0: only read
    if ctypes.CDLL(None).adjtimex(buffer) == _NOT_SYNCHRONISED:
        return Finding(
            "clock",
            "optional",
            f"it says {moment(now)}, but nothing keeps it right: certificates and tokens may be refused",
            "timedatectl set-ntp 1, or run chrony",
        )
    return Finding("clock", "ok", f"it says {moment(now)} and is kept right")
