"""PostgreSQL's protocol, message by message, from within a job: what no driver would send. Run as a program:

    python -m tests.postgres.raw        # a line of JSON in: messages in hexadecimal; a line out: what came back

It logs in with PGPASSWORD in TLS (the plan's `login: password`). What came back is read up to the ReadyForQuery of each
Query, Sync and FunctionCall: [type, text] each.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys

from appliance.wire.postgres import Frames, Message, Run, read, ssl_request, startup, write
from appliance.wire.postgres import messages as m

_READY = (m.QUERY, m.SYNC, m.FUNCTION_CALL)


class Line:
    def __init__(self) -> None:
        host, port = os.environ["PGHOST"], int(os.environ.get("PGPORT", "5432"))
        plain = socket.create_connection((host, port), 20)
        plain.sendall(ssl_request())
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
        self._sock = context.wrap_socket(plain, server_hostname=host)
        self._frames = Frames(True)
        self._sock.sendall(startup(0, {"user": os.environ["PGUSER"], "database": os.environ["PGDATABASE"]}))
        self._sock.sendall(write.password(os.environ["PGPASSWORD"].encode()))
        self.until(1)

    def until(self, ready: int) -> list[list[str]]:
        found: list[list[str]] = []
        while ready > 0 and (more := self._more()):
            found += more
            ready -= sum(kind == "Z" for kind, _ in more)
        return found if ready <= 0 else [*found, ["end", ""]]

    def up_to(self, value: str) -> list[list[str]]:
        """Up to the ReadyForQuery after a row of this value."""
        found: list[list[str]] = []
        while not (found and found[-1][0] == "Z" and any(value in text for kind, text in found if kind == "D")):
            more = self._more()
            if not more:
                return [*found, ["end", ""]]
            found += more
        return found

    def _more(self) -> list[list[str]]:
        """What comes next; nothing at the end."""
        found: list[list[str]] = []
        while not found and (data := self._sock.recv(65536)):
            for frame in self._frames.feed(data):
                if isinstance(frame, Run):
                    found += [[chr(frame.kind), body.decode("latin-1")] for body in frame.bodies()]
                elif isinstance(frame, Message):
                    body = read.report(frame.body).sqlstate if frame.kind == m.ERROR else frame.body
                    found.append([chr(frame.kind), body.decode("latin-1")])
        return found

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def close(self) -> None:
        self._sock.close()

    def go(self, messages: bytes) -> list[list[str]]:
        frames = Frames(False, login=False).feed(messages)
        self.send(messages)
        return self.until(sum(frame.kind in _READY for frame in frames))


def main() -> None:
    line = Line()
    for asked in sys.stdin:
        print(json.dumps(line.go(bytes.fromhex(asked.strip()))), flush=True)


if __name__ == "__main__":
    main()
