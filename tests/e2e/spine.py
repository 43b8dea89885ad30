"""A world with the appliance in it, one HTTPS service outside, and one secret that it knows.

    agent (uid 65534, in a job)  --  Coatcheck  --  https://service.test (OUTSIDE4:443, tests.world.echo_service)

`service.test` is a destination named `service` of the principal `agent`, with the secret `demo` in the Authorization
header (bearer or basic password), in the header X-Api-Key and in the query parameter `key`.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.world import OUTSIDE4, World
from tests.world.appliance import TOKEN, Appliance
from tests.world.pki import Pair, TestAuthority
from tests.world.world import REPOSITORY

HOST = "service.test"
AGENT_UID = 65534

CONFIG: dict[str, Any] = {
    "workloads": [{"name": "agent", "match": {"uid": [AGENT_UID]}, "groups": ["ci"]}],
    "secrets": [
        {
            "name": "demo",
            "from": {"environment": "SERVICE_CREDENTIAL"},
            "shape": {"sample": TOKEN},
            "env": "DEMO_TOKEN",
            "destinations": ["service"],
            "hosts": [HOST],
            "slots": [
                {"in": "header", "name": "authorization"},
                {"in": "header", "name": "x-api-key"},
                {"in": "basic", "name": "password"},
                {"in": "query", "name": "key"},
            ],
        }
    ],
    "dns": {"hosts": {HOST: [OUTSIDE4]}},
}

POLICY: dict[str, Any] = {
    "destinations": [
        {
            "name": "service",
            "hosts": [HOST],
            "principals": ["agent"],
            "secrets": ["demo"],
            "addresses": [f"{OUTSIDE4}/32"],
            "rules": [{"name": "any"}],
        }
    ]
}


class Spine:
    """`with Spine() as spine:`. `change(config, policy)` may edit both (copies) before anything starts."""

    def __init__(self, change: Any = None, *, start: bool = True, environment: dict[str, str] | None = None) -> None:
        self._change = change
        self._start = start
        self._environment = {"SERVICE_CREDENTIAL": TOKEN, **(environment or {})}
        self.world = World()

    def __enter__(self) -> Spine:
        self.world.__enter__()
        try:
            self.authority = TestAuthority(self.world.dir)
            self.log = self.world.dir / "service.jsonl"
            self.serve(self.authority.issue(HOST), 443, self.log)
            config, policy = copy.deepcopy(CONFIG), copy.deepcopy(POLICY)
            config["tls"] = {"upstream_ca_files": [str(self.authority.file)], "system_roots": False}
            if self._change is not None:
                self._change(config, policy)
            self.appliance = Appliance(self.world, config, policy, environment=self._environment)
            if self._start:
                self.appliance.start()
        except BaseException:
            self.world.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.appliance.stop()
        finally:
            self.world.close()

    def serve(self, pair: Pair | None, port: int, log: Path) -> subprocess.Popen[Any]:
        """Another echo service outside, on all its addresses: with TLS if there is a certificate."""
        tls = [str(pair.chain), str(pair.key)] if pair else []
        service = self.world.popen(
            ["python3", str(REPOSITORY / "tests" / "world" / "echo_service.py"), str(port), str(log), *tls],
            where="outside",
            env={**os.environ, "SERVICE_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
        )
        assert service.stdout is not None
        assert service.stdout.readline() == b"ready\n"
        return service

    def received(self, log: Path | None = None) -> list[dict[str, Any]]:
        """What the service got, in order: {method, path, headers: [[name, value]], body}."""
        return [json.loads(line) for line in (log or self.log).read_text().splitlines()]

    def job(self, argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return self.appliance.job(argv, **options)

    def shell(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`script` by sh in a job of the agent."""
        return self.job(["sh", "-c", script], **options)
