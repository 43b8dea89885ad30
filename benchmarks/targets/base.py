"""What every target has, and the two simple kinds: nothing in between, and a proxy that a user is redirected to."""

from __future__ import annotations

import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import accounting
from benchmarks.results import BenchmarkFailed, Say
from benchmarks.setting import LOAD_CPU, TARGET_CPU, Ground


class Target(ABC):
    """`start()`, then `wait_until_ready()`; its processes end with the world."""

    name: ClassVar[str]
    client_uid: ClassVar[int]
    slow: ClassVar[bool] = False  # measured in the first round only: it would take most of the time

    def __init__(self, setting: Ground) -> None:
        self.setting = setting
        self.process: subprocess.Popen[Any] | None = None

    @abstractmethod
    def start(self) -> None:
        """Starts it; it need not be ready yet."""

    @property
    @abstractmethod
    def trust(self) -> Path:
        """The CA that signs what its clients are shown."""

    def client(self, script: str, **options: Any) -> subprocess.Popen[str]:
        """Starts a shell script as this target's client, on the load's CPU: a load generator.

        It has the credential in its environment, trusts the target's CA and knows the upstream by name. `options` go
        to Popen.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        return self.setting.world.popen(
            self.client_command(script),
            uid=self.client_uid,
            mounts={"/etc/hosts": str(self.setting.hosts_file)},
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", **self.client_environment()},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def client_command(self, script: str) -> list[str]:
        return ["taskset", "-c", str(LOAD_CPU), "sh", "-c", script]

    def client_environment(self) -> dict[str, str]:
        return self.setting.environment(self.trust)

    def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Until a request goes the whole way, with the certificate that it ought to have.

        Raises BenchmarkFailed with what was wrong after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while True:
            client = self.client(self.setting.probe)
            out, err = client.communicate(timeout=timeout)
            if out.strip() == self.setting.probe_answer:
                return
            ended = self.process is not None and self.process.poll() is not None
            if time.monotonic() > end or ended:
                raise BenchmarkFailed(f"{self.name} does not work: {out} {err.strip()}\n{self.log()}")
            time.sleep(0.1)

    @property
    def root(self) -> int | None:
        """The process above all others of this target, or None if it has none."""
        return None if self.process is None else self.process.pid

    def cpu_seconds(self) -> float:
        return 0.0 if self.root is None else accounting.cpu_seconds(self.root)

    def worker(self) -> int | None:
        """The process that handles the traffic: the largest one, unless the target knows better."""
        if self.root is None:
            return None
        return max(accounting.tree(self.root), key=accounting.pss_kb)

    def log(self) -> str:
        """The end of what it wrote, for messages."""
        return ""


class Direct(Target):
    """No proxy: the client's connection goes to the upstream."""

    name = "direct"
    client_uid = 21000

    def start(self) -> None:
        pass

    @property
    def trust(self) -> Path:
        return self.setting.upstream_ca.pem


class Peer(Target):
    """Another proxy. Its clients' connections to the upstream's port are redirected to its `port` on loopback."""

    port: ClassVar[int]
    program: ClassVar[str]
    package: ClassVar[str]

    def __init__(self, setting: Ground) -> None:
        """Raises BenchmarkFailed if it is not installed."""
        super().__init__(setting)
        if shutil.which(self.program) is None:
            raise BenchmarkFailed(f"{self.program} is missing: apt-get install {self.package}")
        self.dir = setting.world.dir / self.name
        self.dir.mkdir()

    @abstractmethod
    def argv(self) -> list[str]:
        """Writes its configuration; the command that runs it in the foreground."""

    def start(self) -> None:
        chain = f"bench_{self.name}"
        rules = (
            f"add table ip bench\n"
            f"add chain ip bench {chain} {{ type nat hook output priority -100 ; policy accept ; }}\n"
            f"add rule ip bench {chain} meta skuid {self.client_uid} tcp dport {self.setting.port} "
            f"redirect to :{self.port}\n"
        )
        self.setting.world.run(["nft", "-f", "-"], input=rules, check=True)
        with open(self.dir / "log", "wb") as log:
            self.process = self.setting.world.popen(
                ["taskset", "-c", str(TARGET_CPU), *self.argv()],
                mounts={"/etc/hosts": str(self.setting.hosts_file)},
                cwd=str(self.dir),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def trust(self) -> Path:
        return self.setting.proxy_ca.pem

    def log(self) -> str:
        return (self.dir / "log").read_text(errors="replace")[-2000:]


def start_all(targets: Sequence[Target], say: Say) -> None:
    """Raises BenchmarkFailed if one does not come up."""
    for target in targets:
        target.start()
    for target in targets:
        target.wait_until_ready()
        say(f"{target.name} is ready")
