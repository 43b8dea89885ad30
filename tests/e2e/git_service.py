"""A real `git http-backend` behind TLS and Basic authentication (gitprotocol-http(5))."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.raw_service import Connection, RawService, Request, response
from tests.world import World
from tests.world.pki import Pair

_BASIC = re.compile(rb"(?im)^authorization: *(Basic \S+)\r$")


def _field(head: bytes, name: str) -> str:
    found = re.search(rb"(?im)^%b: *([^\r]*)\r$" % name.encode(), head)
    return found[1].decode() if found else ""


@contextlib.contextmanager
def serve_git(world: World, port: int, root: Path, pair: Pair) -> Iterator[list[str]]:
    """Serves the repositories below `root`; gives the Authorization values that came."""
    got: list[str] = []

    def answer(connection: Connection, request: Request) -> bool:
        basic = _BASIC.search(request.head)
        if basic is None:
            connection.write(response(b"", 'WWW-Authenticate: Basic realm="git"', status="401 Unauthorized"))
            return True
        got.append(basic[1].decode())
        path, _, query = request.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": _field(request.head, "content-type"),
            "CONTENT_LENGTH": str(len(request.body)),
            "HTTP_CONTENT_ENCODING": _field(request.head, "content-encoding"),
            "GIT_PROTOCOL": _field(request.head, "git-protocol"),
        }
        done = subprocess.run(["git", "http-backend"], input=request.body, env=environment, stdout=subprocess.PIPE)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        status = next((line[8:] for line in lines if line.startswith("Status: ")), "200 OK")
        connection.write(response(body, *[line for line in lines if not line.startswith("Status: ")], status=status))
        return True

    with RawService(world, port, answer, pair=pair):
        yield got
