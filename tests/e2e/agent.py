"""A job with a program in it that sends raw bytes when a test says so (tests.e2e.inside): no start-up for each case."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from typing import Any, Protocol

from tests.e2e.spine import AGENT_UID
from tests.world import World
from tests.world.appliance import Appliance


@dataclass(frozen=True)
class Reply:
    """What the agent got back, and how it ended: "complete", "eof", "reset", "timeout" or an error's text."""

    received: bytes
    end: str
    certificate: str

    @property
    def status(self) -> int:
        """The final response's status, 0 if there is none."""
        for found in re.finditer(rb"HTTP/1\.[01] (\d{3})[^\n]*\r\n(?:[^\r\n]+\r\n)*\r\n", self.received):
            if not 100 < int(found[1]) < 200 and found[1] != b"100":
                return int(found[1])
        return 101 if self.received.startswith(b"HTTP/1.1 101 ") else 0

    @property
    def body(self) -> bytes:
        """Of the first response, if it is not chunked."""
        return self.received.partition(b"\r\n\r\n")[2]

    @property
    def problem(self) -> dict[str, Any]:
        """The problem+json of the answer; empty if it is none."""
        head, _, body = self.received.partition(b"\r\n\r\n")
        return json.loads(body) if b"application/problem+json" in head else {}

    @property
    def kind(self) -> str:
        return str(self.problem.get("type", "")).removeprefix("urn:coatcheck:")


class Running(Protocol):
    """A world with a running appliance in it: a Spine, of this folder or another."""

    world: World
    appliance: Appliance


class Agent:
    """`with Agent(spine) as agent:`; it is one job. `placeholder` is what it holds in DEMO_TOKEN."""

    def __init__(self, spine: Running, *, uid: int = AGENT_UID, within: tuple[str, ...] = ()) -> None:
        appliance = spine.appliance
        self._process: subprocess.Popen[Any] = spine.world.popen(
            appliance.job_command([*within, *appliance.python, "-m", "tests.e2e.inside"]),
            cwd="/",
            env=appliance.environment,
            uid=uid,
            groups=[appliance.group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment: dict[str, str] = self.call("environment")
        self.placeholder = self.environment.get("DEMO_TOKEN", "")
        self.job = self.environment["COATCHECK_JOB"]

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def call(self, name: str, /, **arguments: Any) -> Any:
        """One of the functions of tests.e2e.inside."""
        self.ask(name, **arguments)
        return self.answer()

    def ask(self, name: str, /, **arguments: Any) -> None:
        """`call` without waiting; `answer` waits."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": name, "arguments": arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the agent's program ended: {self._process.wait(10)}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def raw(self, *pieces: str | bytes, host: str, port: int = 443, **options: Any) -> Reply:
        """`exchange` of exactly these bytes."""
        texts = [piece if isinstance(piece, str) else piece.decode("latin-1") for piece in pieces]
        return reply_of(self.call("exchange", host=host, port=port, pieces=texts, **options))

    def get(
        self,
        path: str,
        *headers: str,
        host: str,
        port: int = 443,
        method: str = "GET",
        body: str = "",
        named: str = "",
        **options: Any,
    ) -> Reply:
        """A request with the placeholder as bearer token (unless `headers` have an Authorization of their own)."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {named or (host if port == 443 else f'{host}:{port}')}"]
        if not any(header.lower().startswith("authorization:") for header in headers):
            lines.append(f"Authorization: Bearer {self.placeholder}")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        data = "\r\n".join([*lines, *headers, "", body])
        return self.raw(data, host=host, port=port, head_only=method == "HEAD", **options)


def reply_of(result: dict[str, Any]) -> Reply:
    return Reply(result["received"].encode("latin-1"), result["end"], result["certificate"])
