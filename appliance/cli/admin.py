"""The daemon's admin API, over its Unix socket. Whatever goes wrong ends the program with a sentence."""

from __future__ import annotations

import http.client
import json
import os
import socket as sockets
from collections.abc import Iterator
from typing import Any, NoReturn

from appliance.cli.output import FORBIDDEN, NO, UNAVAILABLE, fail

VARIABLE = "COATCHECK_SOCKET"
DEFAULT = "/run/coatcheck/coatcheck.sock"
_PATIENCE = 60.0  # seconds for an answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def socket_path() -> str:
    return os.environ.get(VARIABLE) or DEFAULT


def ask(method: str, path: str, body: Any = None, *, timeout: float = _PATIENCE) -> Any:
    """The JSON answer. Ends the program with a sentence if there is none, or it says no."""
    data = _answer(method, path, body, timeout)
    try:
        return json.loads(data) if data else None
    except ValueError:
        fail(f"what serves {socket_path()} does not answer as Coatcheck does", UNAVAILABLE)


def tried(socket: str, path: str, timeout: float = 5.0) -> tuple[int, Any]:
    """For a diagnosis: the status and the JSON answer of whatever serves `socket`. Raises OSError, HTTPException,
    ValueError."""
    connection = _UnixConnection(socket, timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def text(path: str) -> str:
    """The answer as text."""
    return _answer("GET", path, None, _PATIENCE).decode(errors="replace")


def lines(path: str) -> Iterator[str]:
    """The answer's lines, without line feeds, as they come. Ends the program if the daemon ends first."""
    try:
        response, _ = _send("GET", path, None, None)
        if response.status >= 400:
            _refused(response.status, response.read())
        while line := response.readline():
            if line.strip():
                yield line.decode(errors="replace").rstrip("\n")
    except (OSError, http.client.HTTPException) as error:
        _unreachable(error)


def _answer(method: str, path: str, body: Any, timeout: float) -> bytes:
    try:
        response, connection = _send(method, path, body, timeout)
        data = response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        _unreachable(error)
    connection.close()
    if response.status >= 400:
        _refused(response.status, data)
    return data


def _send(
    method: str, path: str, body: Any, timeout: float | None
) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
    connection = _UnixConnection(socket_path(), timeout)
    payload = None if body is None else json.dumps(body)
    connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
    return connection.getresponse(), connection


def _unreachable(error: Exception) -> NoReturn:
    why = getattr(error, "strerror", None) or (str(error) if isinstance(error, OSError) else "it broke off")
    fail(
        f"the daemon cannot be reached at {socket_path()} ({why}); is `coatcheck up` running, or {VARIABLE} wrong?",
        UNAVAILABLE,
    )


def _refused(status: int, data: bytes) -> NoReturn:
    try:
        problem = json.loads(data)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    detail = problem.get("detail") or problem.get("title") or f"the daemon answered with status {status}"
    ask_for = problem.get("ask")
    fail(f"{detail}" + (f"; {ask_for}" if ask_for else ""), FORBIDDEN if status in (401, 403) else NO)
