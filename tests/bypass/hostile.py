"""A running appliance with hostile jobs in it, and eyes outside that would see anything that got past.

job "one", job "two"   uid 65534, started by `coatcheck run`; each takes attempts (tests.bypass.driver)
outside                service.test (policy allows it), and listeners that nobody may reach: TCP 80 and 7777
                       on both addresses, UDP 53, 443 and 7777
the host               a service of another user on 127.0.0.1:7779, and AF_UNIX daemons outside of any job
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.spine import Spine
from tests.kernel.governed import Eyes
from tests.world import OUTSIDE4, OUTSIDE6

DRIVER = "tests/bypass/driver.py"
CLOSED = "closed.test"  # a name that resolves, at an address that policy does not allow
CURL_ONLY = "curl-only.test"  # a destination for the workload `curl` alone
HASH_ONLY = "hash-only.test"  # a destination for the workload `hashed` alone


class Driver:
    """One job, waiting for attempts."""

    def __init__(self, spine: Spine, workload: str = "agent", *, uid: int = 65534) -> None:
        appliance = spine.appliance
        self.process = spine.world.popen(
            appliance.job_command([*appliance.python, str(appliance.root / DRIVER)], workload),
            cwd="/",
            env=appliance.environment,
            uid=uid,
            groups=[appliance.group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid: int = json.loads(self._line())["pid"]
        self.job = self.run("say(os.environ['COATCHECK_JOB'])")

    def run(self, code: str) -> str:
        """The outcome of `code` in a process of this job."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        return str(json.loads(self._line()))

    def _line(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the job ended with {self.process.wait(10)}")
        return line

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


class Hostile:
    def __init__(self) -> None:
        self.spine = Spine(self._change)

    def _change(self, config: dict[str, Any], policy: dict[str, Any]) -> None:
        self.allowed = self.spine.world.dir / "allowed-curl"
        self.allowed.write_bytes(Path("/usr/bin/curl").read_bytes())
        self.allowed.chmod(0o755)
        digest = subprocess.run(["sha256sum", "/usr/bin/openssl"], capture_output=True, text=True, check=True)
        config["workloads"] = [
            {"name": "curl", "match": {"uid": [65534], "exe": str(self.allowed)}},
            {"name": "hashed", "match": {"uid": [65534], "exe_sha256": [digest.stdout.split()[0]]}},
            *config["workloads"],
        ]
        config["dns"] = {"hosts": {**config["dns"]["hosts"], CURL_ONLY: [OUTSIDE4], HASH_ONLY: [OUTSIDE4]}}
        config["dns"]["servers"] = [OUTSIDE4]
        for name, host, principal in (("curl-only", CURL_ONLY, "curl"), ("hash-only", HASH_ONLY, "hashed")):
            policy["destinations"].append(
                {
                    "name": name,
                    "hosts": [host],
                    "ports": [443, 8080],
                    "protocol": "tunnel",
                    "principals": [principal],
                    "addresses": [f"{OUTSIDE4}/32"],
                }
            )

    def __enter__(self) -> Hostile:
        self.spine.__enter__()
        try:
            world = self.spine.world
            world.run(["sh", "-c", "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range"], check=True)
            for address in (OUTSIDE4, OUTSIDE6):
                for port in (80, 853, 7777):
                    world.listener("outside", address, port)
            self.neighbour = world.listener("host", "127.0.0.1", 7779)
            self.one = Driver(self.spine)
            self.two = Driver(self.spine)
            self.eyes = Eyes(world)
        except BaseException:
            self.spine.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.eyes.close()
            for each in (self.one, self.two):
                each.end()
        finally:
            self.spine.__exit__(None, None, None)

    def escaped(self) -> list[str]:
        """What reached the outside since the last call, other than the proxy's own way to the one service."""
        return self.eyes.seen()

    def attempt(self, code: str) -> str:
        """The outcome of `code` in job one."""
        return self.one.run(code)

    def denied(self) -> list[dict[str, Any]]:
        """Records so far that say no."""
        return [r for r in self.spine.appliance.audit() if r.get("decision") == "deny" or r["type"] == "flow.refused"]
