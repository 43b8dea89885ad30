"""Calls the admin API as a real process with another uid and other groups; prints the status and the body.

Run as a program: `caller.py SOCKET UID GID GROUPS METHOD PATH [BODY]`; it then waits for its input to end, so that
it is alive while it is in a job.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Reply:
    status: int
    kind: str
    body: bytes
    pid: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def exchange(path: str, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(request)
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
        return b"".join(parts)


def request_of(method: str, path: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Caller:
    """A child process with this uid, gid and supplementary groups."""

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> None:
        self._ids = (str(uid), str(gid), ",".join(map(str, groups)))
        self.process: asyncio.subprocess.Process | None = None

    async def call(self, sock: str, method: str, path: str, body: Any = None) -> Reply:
        data = json.dumps(body) if body is not None else ""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).resolve()), sock, *self._ids, method, path, data,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = json.loads(await self.process.stdout.readline())
        return Reply(line["status"], line["kind"], line["body"].encode(), self.process.pid)

    async def leave(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            await self.process.wait()


async def call_as(
    sock: str, uid: int, gid: int, groups: tuple[int, ...], method: str, path: str, body: Any = None
) -> Reply:
    caller = Caller(uid, gid, groups)
    try:
        return await caller.call(sock, method, path, body)
    finally:
        await caller.leave()


async def call(sock: str, method: str, path: str, body: Any = None) -> Reply:
    """As ourselves."""
    data = json.dumps(body).encode() if body is not None else b""
    raw = await asyncio.get_running_loop().run_in_executor(None, exchange, sock, request_of(method, path, data))
    return reply_of(raw)


def reply_of(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    kind = next((line.partition(": ")[2] for line in lines if line.startswith("content-type")), "")
    if "transfer-encoding: chunked" in lines:
        joined = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            joined += rest[: int(size, 16)]
            body = rest[int(size, 16) + 2 :]
        body = joined
    return Reply(int(lines[0].split()[1]), kind, body, os.getpid())


def main() -> None:
    sock, uid, gid, groups, method, path, body = sys.argv[1:]
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setgid(int(gid))
    os.setuid(int(uid))
    reply = reply_of(exchange(sock, request_of(method, path, body.encode())))
    print(json.dumps({"status": reply.status, "kind": reply.kind, "body": reply.body.decode()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
