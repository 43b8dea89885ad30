"""What attempts may use by name, within the job (tests.bypass.driver gives them all of this)."""

from __future__ import annotations

import ctypes
import errno
import http.client
import json
import os
import platform
import socket
import ssl
import struct
import subprocess  # noqa: F401  # for attempts, as what follows
import sys  # noqa: F401
import time  # noqa: F401
from collections.abc import Callable, Iterable
from typing import Any

HOST4, OUTSIDE4, OUTSIDE6 = "10.77.0.1", "10.77.0.2", "fd77::2"  # tests.world
TCP, UDP, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
INET, INET6, UNIX = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
NEWNS, NEWCGROUP, NEWUSER, NEWPID, NEWNET = 0x20000, 0x2000000, 0x10000000, 0x20000000, 0x40000000  # unshare(2)
X86 = platform.machine() == "x86_64"
RUN_DIR = os.environ.get("COATCHECK_SOCKET", "").rpartition("/")[0]
libc = ctypes.CDLL(None, use_errno=True)


def tried(attempt: Callable[..., Any], *arguments: Any) -> str:
    """The name of the errno that stopped `attempt(*arguments)`, or `got it`."""
    try:
        attempt(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "got it"


def each(attempt: Callable[..., Any], many: Iterable[Any]) -> list[str]:
    """What `tried` says of each, once, in order."""
    return sorted({tried(attempt, one) for one in many})


def result(value: int) -> int:
    """What a function of libc returned; its errno as an error."""
    if value < 0:
        raise OSError(ctypes.get_errno(), "libc")
    return value


def call(number: int, *arguments: Any) -> int:
    """A system call by its number."""
    return result(libc.syscall(number, *arguments))


def unshare(flags: int) -> None:
    result(libc.unshare(flags))


def uid_0() -> None:
    """Root in a user namespace that was just made."""
    for file, text in (("setgroups", "deny"), ("uid_map", "0 65534 1")):
        with open(f"/proc/self/{file}", "w") as out:
            out.write(text)


def answer_of(sock: socket.socket, data: bytes = b"hello\n") -> bytes:
    """Says something and waits for what comes back."""
    sock.settimeout(3)
    sock.sendall(data)
    return sock.recv(12)


def tls(port: int, name: str) -> ssl.SSLSocket:
    """A TLS connection to the outside address that believes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((OUTSIDE4, port)), server_hostname=name)


def dns(name: str, kind: int = 1, over: int = UDP) -> str:
    """What a DNS server outside answers to a question (RFC 1035 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack("!6H", 0x1234, 0x100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)
    with socket.socket(INET, over) as sock:
        sock.connect((OUTSIDE4, 53))
        sock.sendall(query if over == UDP else struct.pack("!H", len(query)) + query)
        answer = sock.recv(999)[0 if over == UDP else 2 :]
    return f"rcode {answer[3] & 15}, {answer[7]} answers"


def ours() -> list[int]:
    """The pids of the supervisor and the four, found as anybody can."""
    config = RUN_DIR.rpartition("/")[0].encode() + b"/coatcheck.yaml"
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if config in file.read():
                    found.append(int(name))
        except OSError:
            continue
    assert len(found) == 5, found
    return found


def admin(
    method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, sock: socket.socket | None = None
) -> tuple[int, Any]:
    """Status and answer of the admin API."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sock or socket.socket(UNIX)
    if sock is None:
        connection.sock.connect(os.environ["COATCHECK_SOCKET"])
    more = {"content-type": "application/json", **(headers or {})}
    connection.request(method, path, None if body is None else json.dumps(body), more)
    response = connection.getresponse()
    data = response.read()
    return response.status, json.loads(data) if data[:1] == b"{" else data


def ipc(path: str, methods: str) -> str:
    """What one of the four says to its methods (`appliance.ipc`): the distinct answers."""
    import asyncio

    from appliance.ipc.client import IpcClient
    from appliance.model.errors import Denied

    async def ask() -> set[str]:
        client, found = IpcClient("it", f"{RUN_DIR}/{path}", os.stat(f"{RUN_DIR}/{path}").st_uid), set()
        for method in methods.split():
            try:
                await client.call(method)
                found.add("answered")
            except Denied as denied:
                found.add(str(denied).partition(" may")[0])
        return found

    return " ".join(sorted(asyncio.run(ask())))


NAMES = {name: value for name, value in globals().items() if not name.startswith("_")}  # what an attempt sees
