"""A shell in a job (`coatcheck run -- sh`): what an agent does, one command after another."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import time
from typing import NamedTuple

from tests.demo.setting import Setting


class Answer(NamedTuple):
    """What one command did. `output` is both streams."""

    pid: int
    exit: int
    output: str


class Job:
    """`with Job(setting) as job:`. It ends when its standard input does."""

    def __init__(self, setting: Setting, *, uid: int, variables: dict[str, str] | None = None) -> None:
        self._marker = secrets.token_hex(8)
        self.process: subprocess.Popen[bytes] = setting.world.popen(
            setting.appliance.job_command(["sh"], setting.label),
            uid=uid,
            groups=[setting.appliance.group],
            cwd="/",
            env={**setting.job_environment, **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process.stdout.close()

    def ask(self, command: str, timeout: float = 30.0) -> Answer:
        """Runs one simple command. Raises RuntimeError if the job ends, or `timeout` seconds pass."""
        assert self.process.stdin is not None
        # in the background, so that the shell can tell its pid
        script = f"{command} 2>&1 & p=$!; wait $p; printf '\\n%s %s %s\\n' {self._marker} $? $p\n"
        try:
            self.process.stdin.write(script.encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"the job ended before it could be asked: {command}\n{self._rest()}") from None
        text = self._until_marker(command, timeout)
        output, _, last = text.rpartition(f"\n{self._marker} ")
        status, pid = last.split()
        return Answer(int(pid), int(status), output)

    def _until_marker(self, command: str, timeout: float) -> str:
        assert self.process.stdout is not None
        number, data, end = self.process.stdout.fileno(), b"", time.monotonic() + timeout
        wanted = self._marker.encode()
        while wanted not in data or not data.endswith(b"\n"):
            ready, _, _ = select.select([number], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(number, 65536) if ready else b""
            if not piece:
                why = "ended" if ready else f"did not finish in {timeout:g} s"
                raise RuntimeError(f"the job {why}: {command}\n{data.decode(errors='replace')}")
            data += piece
        return data.decode(errors="replace")

    def _rest(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read().decode(errors="replace")
