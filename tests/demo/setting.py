"""What the demo plays on: a world, the appliance in it, a real service outside, and ways to ask what they saw."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.world import OUTSIDE4, World
from tests.world.appliance import Appliance
from tests.world.pki import TestAuthority
from tests.world.world import REPOSITORY

HOST, OTHER = "service.test", "other.test"
ELSEWHERE = "10.77.0.3"  # a second address outside
CREDENTIAL = "demo_RealCredentialOfSvc4242"
AGENT = 65534
SINK_PORT = 9000  # outside: takes whatever comes by UDP or TCP, and answers
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # of jobs: nothing of this shell's own
WAIT = 5.0  # seconds for what happens on its own, such as the last record of a flow

CONFIG: dict[str, Any] = {
    "workloads": [{"name": "demo-agent", "match": {"label": "demo", "uid": [AGENT]}, "groups": ["agents"]}],
    "secrets": [
        {
            "name": "demo",
            "from": {"environment": "SERVICE_CREDENTIAL"},
            "env": "DEMO_TOKEN",
            "labels": ["demo"],
            "destinations": ["service"],
            "hosts": [HOST],
            "slots": [
                {"in": "header", "name": "authorization"},
                {"in": "basic", "name": "password"},
                {"in": "query", "name": "key"},
            ],
        }
    ],
    "dns": {"hosts": {HOST: [OUTSIDE4], OTHER: [ELSEWHERE]}},
}
POLICY: dict[str, Any] = {
    "destinations": [
        {
            "name": "service",
            "hosts": [HOST],
            "groups": ["agents"],
            "secrets": ["demo"],
            "rules": [
                {
                    "name": "no-deletion",
                    "methods": ["DELETE"],
                    "decision": "deny",
                    "reason": "deleting is for people",
                    "ask": "open an issue for the platform team",
                },
                {"name": "use", "methods": ["GET", "HEAD", "POST"]},
            ],
        }
    ]
}
# what --break lets in, to show that the demo notices
TOO_MUCH: dict[str, Any] = {"name": "other", "hosts": [OTHER], "groups": ["agents"], "rules": [{"name": "any"}]}


class Setting:
    """`with Setting(policy) as setting:`. Raises RuntimeError, with what to do, if something needed is missing."""

    label = "demo"

    def __init__(self, policy: dict[str, Any]) -> None:
        self._policy = policy
        self._closed = False
        self.world = World()
        for program, package in (("curl", "curl"), ("python3", "python3"), ("node", "nodejs")):
            if shutil.which(program, path=PATH) is None:
                raise RuntimeError(f"{program} is not in {PATH}: apt-get install {package}")

    def __enter__(self) -> Setting:
        self.world.__enter__()
        try:
            self._make()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """May be called twice. Signals wait until it is done: half of it would leave the rest behind."""
        world, appliance = self.world, getattr(self, "appliance", None)
        if self._closed or not hasattr(world, "dir"):
            return
        self._closed = True
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            if appliance is not None:
                appliance.stop()
        finally:
            try:
                world.close()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _make(self) -> None:
        self.world.ip("outside", "addr", "add", f"{ELSEWHERE}/24", "dev", "v1")
        authority = TestAuthority(self.world.dir)
        pair = authority.issue(HOST, OTHER)
        self._service_log = self.world.dir / "service.jsonl"
        self._sink_log = self.world.dir / "sink.log"
        self._sink_taken = 0
        echo = str(REPOSITORY / "tests" / "world" / "echo_service.py")
        sink = str(REPOSITORY / "tests" / "demo" / "sink.py")
        services = [
            self._serve(echo, "443", str(self._service_log), str(pair.chain), str(pair.key)),
            self._serve(sink, OUTSIDE4, str(SINK_PORT), str(self._sink_log)),
        ]
        config = {**CONFIG, "tls": {"upstream_ca_files": [str(authority.file)], "system_roots": False}}
        self.appliance = Appliance(
            self.world, config, self._policy, environment={"SERVICE_CREDENTIAL": CREDENTIAL, "PATH": PATH}
        )
        self.appliance.start()
        for service in services:
            assert service.stdout is not None
            if service.stdout.readline() != b"ready\n":
                raise RuntimeError("a service outside did not start")

    def _serve(self, *argv: str) -> subprocess.Popen[bytes]:
        return self.world.popen(
            ["python3", *argv],
            where="outside",
            env={"PATH": PATH, "SERVICE_TOKEN": CREDENTIAL},
            stdout=subprocess.PIPE,
            start_new_session=True,  # ^C is for the demo, which ends it
        )

    @property
    def clients(self) -> Path:
        """The folder of the agent's programs, by a path that it can use."""
        return self.appliance.root / "tests" / "demo" / "clients"

    @property
    def job_environment(self) -> dict[str, str]:
        return {**self.appliance.environment, "PATH": PATH}

    # ---- what was seen ----

    def received(self) -> list[dict[str, Any]]:
        """What the service got, in order."""
        return [json.loads(line) for line in self._service_log.read_text().splitlines()]

    def reached(self) -> list[str]:
        """What came to the sink since the last call."""
        lines = self._sink_log.read_text().splitlines()
        new, self._sink_taken = lines[self._sink_taken :], len(lines)
        return new

    def records(self, enough: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
        """The audit records, once `enough` of them or WAIT seconds later: the last of a flow come after the answer."""
        end = time.monotonic() + WAIT
        while True:
            found = self.appliance.audit()
            if enough(found) or time.monotonic() > end:
                return found
            time.sleep(0.05)

    def count(self, event: str, over: float = -1.0) -> float:
        """The kernel's counter of that name, from /metrics, once it is over `over` or WAIT seconds later."""
        end = time.monotonic() + WAIT
        while True:
            for line in self.admin("/metrics").splitlines():
                if line.startswith(f'coatcheck_hook_events_total{{event="{event}"}}'):
                    value = float(line.rpartition(" ")[2])
                    break
            else:
                value = 0.0
            if value > over or time.monotonic() > end:
                return value
            time.sleep(0.1)

    def admin(self, path: str) -> str:
        """GET on the admin socket. Raises RuntimeError; what was wrong was printed then."""
        os.environ["COATCHECK_SOCKET"] = str(self.appliance.run_dir / "coatcheck.sock")
        from appliance.cli import admin

        try:
            return admin.text(path)
        except SystemExit as end:
            raise RuntimeError(f"GET {path} on the admin socket failed (see above), status {end.code}") from None
