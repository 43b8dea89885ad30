"""The daemon's admin API, over its Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from appliance.cli.output import FORBIDDEN, NO, UNAVAILABLE, fail

VARIABLE = "COATCHECK_SOCKET"
DEFAULT = "/run/coatcheck/coatcheck.sock"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def socket_path() -> str:
    return os.environ.get(VARIABLE) or DEFAULT


def ask(method: str, path: str, body: Any = None, *, timeout: float = 60.0) -> Any:
    """The JSON answer. Ends the program with a sentence if there is none, or it says no."""
    response, connection = _send(method, path, body, timeout)
    data = response.read()
    connection.close()
    if response.status >= 400:
        _refused(response.status, data)
    return json.loads(data) if data else None


def text(path: str) -> str:
    """The answer as text."""
    response, connection = _send("GET", path, None, 60.0)
    data = response.read()
    connection.close()
    if response.status >= 400:
        _refused(response.status, data)
    return data.decode(errors="replace")


def lines(path: str) -> Iterator[dict[str, Any]]:
    """JSON lines, as they come, until the daemon ends."""
    response, _ = _send("GET", path, None, None)
    if response.status >= 400:
        _refused(response.status, response.read())
    while line := response.readline():
        if line.strip():
            yield json.loads(line)


def _send(
    method: str, path: str, body: Any, timeout: float | None
) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
    connection = _UnixConnection(socket_path(), timeout)
    payload = None if body is None else json.dumps(body)
    try:
        connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
        return connection.getresponse(), connection
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        fail(
            f"the daemon cannot be reached at {socket_path()} ({why}); is `coatcheck up` running, or {VARIABLE} wrong?",
            UNAVAILABLE,
        )


def _refused(status: int, data: bytes) -> None:
    try:
        problem = json.loads(data)
    except ValueError:
        problem = {}
    detail = problem.get("detail") or problem.get("title") or f"status {status}"
    ask_for = problem.get("ask")
    fail(f"{detail}" + (f"; {ask_for}" if ask_for else ""), FORBIDDEN if status in (401, 403) else NO)
