"""A job that makes requests when told. As a program (within the job), it reads lines and answers each with one.

get PATH          a request on a connection of its own; the answer is the status, or the error's name
keep PATH         the same on one connection that is kept
hold N            opens N connections and keeps them; the answer is how many could be made
drop              closes them
try ADDRESS PORT  connects there and sends something; the answer is the error's name, or `answered`
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

HOST = "service.test"
PATIENCE = 30.0  # seconds


class Client:
    """Started by `coatcheck run`; `ask` is for one thread at a time."""

    def __init__(self, spine: Any) -> None:
        appliance = spine.appliance
        program = str(appliance.root / "tests" / "guard" / "client.py")
        self.process = spine.world.popen(
            appliance.job_command([*appliance.python, program]),
            cwd="/",
            env=appliance.environment,
            uid=65534,
            groups=[appliance.group],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.placeholder = self._line()
        self._lock = threading.Lock()

    def ask(self, *words: object) -> str:
        with self._lock:
            self.send(*words)
            return self._line()

    def send(self, *words: object) -> None:
        """Without waiting for the answer, which `answer()` gives."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        return self._line()

    def _line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client ended with {self.process.wait(10)}")
        return str(line.strip())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


def ask_until_refused(client: Client, path: str) -> list[str]:
    """Requests with long paths, each another one, on a connection that is kept; all answers, of which only the last one
    is not 200. Raises RuntimeError after a thousand."""
    answers: list[str] = []
    while not answers or answers[-1] == "200":
        if len(answers) == 1000:
            raise RuntimeError("nothing is refused")
        answers.append(client.ask("keep", f"{path}/{len(answers)}/{'x' * 40_000}"))
    return answers


class Traffic:
    """`with Traffic(client):` requests one after the other on a thread. `outcomes` of all so far; `path` has the number
    of the request in it."""

    def __init__(self, client: Client, word: str = "get", path: str = "/secret?n={}") -> None:
        self._client = client
        self._word = word
        self._path = path
        self._stop = False
        self.outcomes: list[str] = []

    def __enter__(self) -> Traffic:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def _work(self) -> None:
        while not self._stop:
            self.outcomes.append(self._client.ask(self._word, self.path(len(self.outcomes))))

    def path(self, number: int) -> str:
        return self._path.format(number)


# ---- within the job ----


def connection() -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(HOST, timeout=PATIENCE, context=ssl.create_default_context())


def request(path: str, http_connection: http.client.HTTPSConnection) -> str:
    http_connection.request("GET", path, headers={"Authorization": "Bearer " + os.environ["DEMO_TOKEN"]})
    response = http_connection.getresponse()
    body = response.read()
    if response.headers.get("content-type") == "application/problem+json":
        return f"{response.status} {json.loads(body)['type']}"
    return str(response.status)


def name_of(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return type(error).__name__


def main() -> None:
    held: list[socket.socket] = []
    kept: list[http.client.HTTPSConnection] = []

    def get(path: str) -> str:
        made = connection()
        try:
            return request(path, made)
        finally:
            made.close()

    def keep(path: str) -> str:
        if not kept:
            kept.append(connection())
        return request(path, kept[0])

    def hold(count: str) -> str:
        before = len(held)
        for _ in range(int(count)):
            try:
                held.append(socket.create_connection((HOST, 443), PATIENCE))
            except OSError:
                continue
        return str(len(held) - before)

    def drop() -> str:
        while held:
            held.pop().close()
        return "dropped"

    def attempt(address: str, port: str) -> str:
        with socket.create_connection((address, int(port)), 3) as sock:
            sock.sendall(b"leak\n")
            return "answered" if sock.recv(9) else "EOF"

    commands: dict[str, Callable[..., str]] = {"get": get, "keep": keep, "hold": hold, "drop": drop, "try": attempt}
    print(os.environ["DEMO_TOKEN"], flush=True)
    for line in sys.stdin:
        word, *arguments = line.split()
        try:
            print(commands[word](*arguments), flush=True)
        except Exception as error:
            kept.clear()
            print(name_of(error), flush=True)


if __name__ == "__main__":
    main()
