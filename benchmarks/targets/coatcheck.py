"""The appliance itself, with everything on: hooks, attestation, policy, swap, scrub, audit.

Its clients are jobs: `coatcheck run -- …`, which gives them a placeholder in BENCH_TOKEN.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from appliance.config.load import load
from appliance.config.places import accounts
from benchmarks import accounting
from benchmarks.setting import TARGET_CPU, Ground
from benchmarks.targets.base import Target
from benchmarks.upstream import CREDENTIAL, HOST
from tests.world import OUTSIDE4
from tests.world.appliance import Appliance

_CONNECTIONS = 9000


def configuration(setting: Ground, client_uid: int, secret: dict[str, Any]) -> dict[str, Any]:
    """One principal, one secret: `secret` says where it belongs."""
    return {
        "workloads": [{"name": "bench", "match": {"uid": [client_uid]}}],
        "secrets": [
            {
                "name": "bench",
                "from": {"environment": "UPSTREAM_CREDENTIAL"},
                "shape": {"regex": "bench-[A-Za-z0-9]{32}"},
                **secret,
            }
        ],
        "tls": {"upstream_ca_files": [str(setting.upstream_ca.pem)], "system_roots": False},
        "limits": {"flows": _CONNECTIONS, "flows_per_job": _CONNECTIONS, "keepalive_timeout": 600},
    }


class Coatcheck(Target):
    name = "coatcheck"
    client_uid = 21004

    def __init__(self, setting: Ground) -> None:
        super().__init__(setting)
        self.appliance = Appliance(
            setting.world,
            configuration(setting, self.client_uid, self.secret()),
            {"destinations": [self.destination(name, host) for name, host in self.hosts().items()]},
            environment={"UPSTREAM_CREDENTIAL": CREDENTIAL},
        )

    def hosts(self) -> dict[str, str]:
        """The name of each destination, and its host."""
        return {"upstream": HOST}

    def secret(self) -> dict[str, Any]:
        """Only in the Authorization header, only for the upstream."""
        slots = [{"in": "header", "name": "authorization"}]
        return {"env": "BENCH_TOKEN", "destinations": ["upstream"], "hosts": [HOST], "slots": slots}

    def destination(self, name: str, host: str) -> dict[str, Any]:
        """One rule that the verdict comes from."""
        return {
            "name": name,
            "hosts": [host],
            "ports": [self.setting.port],
            "addresses": [f"{OUTSIDE4}/32"],
            "principals": ["bench"],
            "secrets": ["bench"],
            "rules": [{"name": "read", "decision": "allow", "methods": ["GET"], "paths": ["/*"]}],
        }

    def start(self) -> None:
        self.appliance.start()
        self.process = self.appliance.process
        if self.root is not None:
            accounting.pin(self.root, TARGET_CPU)

    @property
    def trust(self) -> Path:
        return self.appliance.run_dir / "ca" / "coatcheck-ca.pem"

    def client(self, script: str, **options: Any) -> subprocess.Popen[str]:
        return super().client(script, groups=[self.appliance.group], **options)

    def client_command(self, script: str) -> list[str]:
        return self.appliance.job_command(super().client_command(script), workload="bench")

    def client_environment(self) -> dict[str, str]:
        """No credential: the job is given a placeholder and the CA's place."""
        path = f"{os.environ['PATH']}:/usr/sbin:/usr/bin:/sbin:/bin"
        return {**self.appliance.environment, "PATH": path}

    def worker(self) -> int | None:
        """The proxy's worker: the one of the proxy's account that is largest."""
        if self.root is None:
            return None
        account = accounts(load(self.appliance.config_file)).proxy
        mine = [pid for pid in accounting.tree(self.root) if _uid(pid) == account]
        return max(mine, key=accounting.pss_kb, default=None)

    def log(self) -> str:
        return self.appliance.log()[-4000:]


def _uid(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return None
