"""The appliance itself in a world: configured, started with `coatcheck up`, used by its own command line."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from tests.world.world import REPOSITORY, World

FOLDERS = ("appliance", "bpf", "policies", "tests", ".venv")  # of the repository: what runs in a world

TOKEN = "ghp_RealCredential0fTheService4242424242"  # the real one; no agent may ever see it


class Appliance:
    """`with Appliance(world, config, policy) as appliance:`. `config` is merged into the world's own configuration,
    `policy` is the data (destinations) or None for none. Everything it writes is below `world.dir`."""

    def __init__(
        self, world: World, config: dict[str, Any], policy: dict[str, Any], *, environment: dict[str, str]
    ) -> None:
        self.world = world
        self.root = world.dir / "coatcheck"  # the repository's folders, wherever it lies, in reach of every uid
        self.run_dir = world.dir / "run"
        self.state_dir = world.dir / "state"
        self.config_file = world.dir / "coatcheck.yaml"
        self.policy_dir = world.dir / "policies"
        self.log_file = world.dir / "coatcheck.log"
        self._environment = environment
        self.process: subprocess.Popen[Any] | None = None
        base: dict[str, Any] = {
            "state_dir": str(self.state_dir),
            "run_dir": str(self.run_dir),
            "policy_dir": str(self.policy_dir),
            "govern": {"root": f"{world.cgroup_name}/governed"},
        }
        self.config = {**base, **config}
        self.config_file.write_text(json.dumps(self.config, indent=1))  # JSON is YAML
        self.policy_dir.mkdir()
        for file in (REPOSITORY / "policies").glob("*.rego"):
            (self.policy_dir / file.name).write_text(file.read_text())
        self.write_policy(policy)
        self._mount_repository()

    def _mount_repository(self) -> None:
        """One by one: the repository's own folder may be one that other users cannot enter."""
        self.root.mkdir()
        for name in FOLDERS:
            if (REPOSITORY / name).is_dir():
                (self.root / name).mkdir()
                subprocess.run(["mount", "--bind", str(REPOSITORY / name), str(self.root / name)], check=True)

    def write_policy(self, data: dict[str, Any]) -> None:
        (self.policy_dir / "data.yaml").write_text(json.dumps(data, indent=1))

    def __enter__(self) -> Appliance:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def python(self) -> list[str]:
        """This Python, by a path that every uid can use."""
        here = Path(sys.executable)
        inside = self.root / here.relative_to(REPOSITORY) if here.is_relative_to(REPOSITORY) else here
        return [str(inside)]

    @property
    def command(self) -> list[str]:
        return [*self.python, "-m", "appliance.cli"]

    @property
    def environment(self) -> dict[str, str]:
        """What a caller of the command line has; nothing of this test's own environment but the path."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.root),
            "COATCHECK_SOCKET": str(self.run_dir / "coatcheck.sock"),
            "HOME": "/nonexistent",
            "LANG": "C.UTF-8",
        }

    def start(self, timeout: float = 60.0) -> None:
        """Returns once it printed `ready`; raises RuntimeError with its log otherwise."""
        with open(self.log_file, "ab") as log:
            self.process = self.world.popen(
                [*self.command, "up", "--config", str(self.config_file)],
                env={**self.environment, **self._environment},
                cwd=str(self.root),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout
        seen = b""
        while b"ready\n" not in seen:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not data:
                self.process.kill()
                raise RuntimeError(f"coatcheck up did not get ready:\n{self.log()}")
            seen += data

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RuntimeError(f"coatcheck up did not stop:\n{self.log()}") from None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def cli(self, *arguments: str, uid: int | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """`coatcheck ARGUMENTS…` as a person on the host would call it."""
        options.setdefault("env", self.environment)
        return self.world.run([*self.command, *arguments], uid=uid, cwd=str(self.root), **options)

    def job(
        self,
        argv: list[str],
        *,
        workload: str = "agent",
        uid: int = 65534,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """`coatcheck run --workload … -- ARGV` as `uid`, which is given the group that may start jobs."""
        return self.world.run(
            self.job_command(argv, workload),
            cwd="/",
            env={**self.environment, **(env or {})},
            uid=uid,
            groups=[self.group],
            **options,
        )

    def job_command(self, argv: list[str], workload: str = "agent") -> list[str]:
        return [*self.command, "run", "--workload", workload, "--", *argv]

    @property
    def group(self) -> int:
        from appliance.config.load import load
        from appliance.config.places import accounts

        return accounts(load(self.config_file)).group

    def settle(self) -> None:
        """Returns once all that workers have handed over until now is in the audit log: control takes it out of a pipe
        only after it has written it. Raises TimeoutError after 20 s."""
        end = time.monotonic() + 20
        for pipe in (self.run_dir / "control" / "records").glob("*"):
            try:
                fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            except FileNotFoundError:
                continue
            try:
                while any(fcntl.ioctl(fd, termios.FIONREAD, bytes(4))):
                    if time.monotonic() > end:
                        raise TimeoutError(f"records stay in {pipe}:\n{self.log()}")
                    time.sleep(0.001)
            finally:
                os.close(fd)

    def audit(self) -> list[dict[str, Any]]:
        """Every record so far, in order."""
        self.settle()
        lines = (self.state_dir / "control" / "audit.jsonl").read_text().splitlines()
        return [record for line in lines if (record := json.loads(line).get("record"))]
