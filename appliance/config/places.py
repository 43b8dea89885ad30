"""Where files and sockets are, and who the processes run as: derived from the configuration, nothing else."""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass
from pathlib import Path

from appliance.config.schema import Config

# Used where the configured account does not exist (laptop, demo, tests). The range 1879048192-2147483647 is
# given to nobody by systemd's table of uids (UIDS-GIDS); systemd's own users get real accounts (sysusers).
_FALLBACK = {
    "coatcheck-vault": 1879110001,
    "coatcheck-proxy": 1879110002,
    "coatcheck-control": 1879110003,
    "coatcheck": 1879110004,
}


@dataclass(frozen=True)
class Accounts:
    """Numeric ids. `group` is the gid whose members may start jobs."""

    kernel: int
    vault: int
    proxy: int
    control: int
    group: int


def _uid(account: str | int) -> int:
    if isinstance(account, int):
        return account
    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        if account in _FALLBACK:
            return _FALLBACK[account]
        raise ValueError(f"there is no user named {account!r}") from None


def _gid(group: str | int) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group in _FALLBACK:
            return _FALLBACK[group]
        raise ValueError(f"there is no group named {group!r}") from None


def accounts(config: Config) -> Accounts:
    """Raises ValueError if a configured account does not exist, or two processes would share one."""
    p = config.processes
    found = Accounts(0, _uid(p.vault), _uid(p.proxy), _uid(p.control), _gid(p.group))
    if len({0, found.vault, found.proxy, found.control}) != 4:
        raise ValueError("processes.vault, .proxy and .control must be three different accounts, none of them root")
    return found


def group_of(uid: int) -> int:
    """The account's own group; for a number without an account, the same number."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


class Places:
    """Every path of one installation."""

    def __init__(self, config: Config) -> None:
        self.run = Path(config.run_dir)
        self.state = Path(config.state_dir)
        # sockets between the four processes
        self.kernel_socket = str(self.run / "kernel" / "kernel.sock")
        self.handover_socket = str(self.run / "kernel" / "handover.sock")
        self.vault_socket = str(self.run / "vault" / "vault.sock")
        self.control_socket = str(self.run / "control" / "control.sock")
        self.record_pipes = self.run / "control" / "records"  # a named pipe for each worker's audit records
        # the admin socket: HTTP, for people and jobs; 0666, rights by peer credentials
        self.admin_socket = str(self.run / "coatcheck.sock")
        self.pins = self.run / "bpf"  # a bpffs mount of our own
        # what a job's process may read
        self.ca_bundle = str(self.run / "ca" / "bundle.pem")  # our CA and the system's roots
        self.ca_file = str(self.run / "ca" / "coatcheck-ca.pem")  # our CA alone
        self.ca_java = str(self.run / "ca" / "truststore.p12")  # PKCS#12, password "changeit"
        # state, one folder a process
        self.vault_state = self.state / "vault"
        self.control_state = self.state / "control"
        self.audit_log = self.state / "control" / "audit.jsonl"
