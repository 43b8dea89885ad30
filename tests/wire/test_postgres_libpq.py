"""A second opinion: libpq (through psycopg) and asyncpg take what we write, and we read what they write.

The server is a thread with our codec and nothing else; what it answers is fixed, what it is asked is compared.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from appliance.wire.postgres import (
    CancelRequest,
    Frames,
    GssEncRequest,
    Message,
    Run,
    SslRequest,
    Start,
    StartupMessage,
    parse_start,
    read,
    write,
)
from appliance.wire.postgres import messages as m

KEY = bytes(range(32))  # a cancel key as long as PostgreSQL 18 makes them
ROWS = 20_000
COLUMNS = [m.Field(b"n", 0, 0, 23, 4, -1, 0), m.Field(b"t", 16384, 2, 25, -1, -1, 0)]


class Server:
    """Takes any number of connections, each in its thread, and remembers what they said."""

    def __init__(self, path: Path) -> None:
        self.heard: list[Any] = []
        self.starts: list[Start] = []
        self.failure: BaseException | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._guarded, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _guarded(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._one(connection)
        except BaseException as failure:
            self.failure = failure

    def _one(self, connection: socket.socket) -> None:
        data = b""
        while True:
            start = parse_start(data)
            if isinstance(start, int):
                more = connection.recv(start - len(data))
                if not more:
                    return
                data += more
                continue
            data = data[start.consumed :]
            self.starts.append(start)
            if isinstance(start, StartupMessage | CancelRequest):
                break
            connection.sendall(b"N")
        if isinstance(start, CancelRequest):
            return
        assert isinstance(start, StartupMessage)
        assert data == b""
        frames = Frames(False)
        connection.sendall(negotiated(start) + write.authentication_cleartext())
        while chunk := connection.recv(4096):
            for frame in frames.feed(chunk):
                if frame.kind == m.PASSWORD:
                    assert isinstance(frame, Message)
                    self.heard.append(read.password(frame.body))
                    frames.login_over()
                    connection.sendall(welcome(start))
                    continue
                if frame.kind == m.TERMINATE:
                    return
                if isinstance(frame, Run):
                    self.heard += frame.bodies()
                    continue
                self.heard.append(READ[frame.kind](frame.body) if frame.kind in READ else frame.kind)
                connection.sendall(self._answer(frame.kind))

    def _answer(self, kind: int) -> bytes:
        said = self.heard[-1]
        if kind == m.SYNC:
            return write.ready(m.IDLE)
        if kind == m.QUERY:
            return SIMPLE[said.text] + (b"" if said.text == b"copy in" else write.ready(m.IDLE))
        return EXTENDED[kind](said) if kind in EXTENDED else b""


READ: dict[int, Callable[[bytes], Any]] = {
    m.QUERY: read.query,
    m.PARSE: read.parse,
    m.BIND: read.bind,
    m.DESCRIBE: read.describe,
    m.EXECUTE: read.execute,
    m.CLOSE: read.close,
    m.COPY_FAIL: read.copy_fail,
}
NUMBER = m.Field(b"n", 0, 0, 23, 4, -1, 1)
SIMPLE: dict[bytes, bytes] = {
    b"rows": write.row_description(COLUMNS)
    + b"".join([write.data_row([str(n).encode(), b"x" * (n % 50)]) for n in range(ROWS)])
    + write.data_row([None, b""])
    + write.command_complete(b"SELECT %d" % (ROWS + 1)),
    b"error": write.error("ERROR", "42501", "not \0 for you", "it is masked", "ask é", where="rule", constraint="mask"),
    b"notice": write.notice("WARNING", "01000", "look", hint="there")
    + write.notification(7, b"channel", b"payload")
    + write.command_complete(b"DO"),
    b"copy out": write.copy_response(m.COPY_OUT, 0, (0, 0))
    + write.copy_data(b"1\t2\n") * 3
    + write.copy_data(b"x" * 1_000_000)
    + write.copy_done()
    + write.command_complete(b"COPY 3"),
    b"copy in": write.copy_response(m.COPY_IN, 0, (0,)),
    b"": write.empty_query(),
}
EXTENDED: dict[int, Callable[[Any], bytes]] = {
    m.PARSE: lambda _: write.parse_complete(),
    m.BIND: lambda _: write.bind_complete(),
    m.CLOSE: lambda _: write.close_complete(),
    m.DESCRIBE: lambda said: (
        (write.parameter_description([23]) if said.kind == m.STATEMENT else b"") + write.row_description([NUMBER])
    ),
    m.EXECUTE: lambda _: write.data_row([b"\0\0\0\x2a"]) + write.command_complete(b"SELECT 1"),
    m.COPY_DONE: lambda _: write.command_complete(b"COPY 1") + write.ready(m.IDLE),
}


def negotiated(start: StartupMessage) -> bytes:
    if start.minor > 2 or start.options:
        return write.negotiate_protocol_version(2 if start.minor > 2 else start.minor, start.options)
    return b""


def welcome(start: StartupMessage) -> bytes:
    parameters = {"server_version": "18.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
    told = [write.parameter_status(name.encode(), value.encode()) for name, value in parameters.items()]
    key = write.backend_key_data(4321, KEY if start.minor >= 2 else KEY[:4])
    return write.authentication_ok() + b"".join(told) + key + write.ready(m.IDLE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / ".s.PGSQL.5432")
    yield server
    server.close()


def connect(path: Path, minor: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        f"host={path} port=5432 user=u dbname='d é' password=p max_protocol_version={minor}", autocommit=True
    )


@pytest.fixture(params=["3.0", "3.2"])
def client(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[psycopg.Connection[Any]]:
    with connect(tmp_path, request.param) as client:
        assert client.pgconn.full_protocol_version == {"3.0": 30000, "3.2": 30002}[request.param]
        yield client


def test_libpq_logs_in(client: psycopg.Connection[Any], server: Server) -> None:
    start = server.starts[-1]
    assert isinstance(start, StartupMessage)
    assert (start.user, start.database) == ("u", "d é")
    assert server.heard == [m.Password(b"p")]
    assert client.pgconn.backend_pid == 4321
    assert client.info.parameter_status("server_version") == "18.0"


def test_libpq_reads_results(client: psycopg.Connection[Any], server: Server) -> None:
    found = client.execute("rows").fetchall()
    assert found == [*[(n, "x" * (n % 50)) for n in range(ROWS)], (None, "")]
    assert client.execute("").statusmessage is None
    assert server.heard[1:] == [m.Query(b"rows"), m.Query(b"")]


def test_libpq_reads_errors_and_notices(client: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        client.execute("error")
    told = refused.value.diag
    assert (told.message_primary, told.message_detail, told.message_hint) == ("not � for you", "it is masked", "ask é")
    assert (told.severity, told.severity_nonlocalized, told.context) == ("ERROR", "ERROR", "rule")
    assert told.constraint_name == "mask"
    notices: list[Any] = []
    client.add_notice_handler(
        lambda told: notices.append((told.severity, told.sqlstate, told.message_primary, told.message_hint))
    )
    heard: list[Any] = []
    client.add_notify_handler(heard.append)
    client.execute("notice")
    assert notices == [("WARNING", "01000", "look", "there")]
    assert [(n.channel, n.payload, n.pid) for n in heard] == [("channel", "payload", 7)]


def test_libpq_speaks_the_extended_protocol(client: psycopg.Connection[Any], server: Server) -> None:
    assert client.execute("ask %s", [5], prepare=True).fetchone() == (42,)
    parse, describe = server.heard[1], server.heard[2]
    assert isinstance(parse, m.Parse)
    assert parse.text == b"ask $1"
    assert describe == m.SYNC
    bind = next(said for said in server.heard if isinstance(said, m.Bind))
    assert bind == m.Bind(b"", parse.name, (bind.formats[0],), (b"\0\5" if bind.formats[0] else b"5",), (0,))
    assert server.heard[-3:] == [m.Describe(m.PORTAL, b""), m.Execute(b"", 0), m.SYNC]


def test_libpq_copies(client: psycopg.Connection[Any], server: Server) -> None:
    with client.cursor().copy("copy out") as copy:
        assert [bytes(data) for data in copy] == [b"1\t2\n"] * 3 + [b"x" * 1_000_000]
    with client.cursor().copy("copy in") as copy:
        copy.write(b"y" * 100)
    assert server.heard[-2:] == [b"y" * 100, m.COPY_DONE]


def test_libpq_cancels(client: psycopg.Connection[Any], server: Server) -> None:
    client.cancel_safe(timeout=30)  # returns when the server has closed
    key = KEY if client.pgconn.full_protocol_version == 30002 else KEY[:4]
    assert server.starts[-1] == CancelRequest(4321, key, 12 + len(key))


def test_libpq_takes_the_version_that_it_is_offered(server: Server, tmp_path: Path) -> None:
    start = StartupMessage(9, {"user": "u", "_pq_.a": ""}, 0)
    told = read.negotiate_protocol_version(negotiated(start)[5:])
    assert told == m.NegotiateProtocolVersion(2, ("_pq_.a",))
    with connect(tmp_path, "latest") as client:
        assert client.pgconn.full_protocol_version == 30002


def test_asyncpg_agrees(server: Server, tmp_path: Path) -> None:
    async def ask() -> None:
        client = await asyncpg.connect(host=str(tmp_path), port=5432, user="u", database="d", password="p")
        assert await client.fetchval("ask $1", 5) == 42
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as refused:
            await client.execute("error")
        assert (refused.value.detail, refused.value.hint) == ("it is masked", "ask é")
        await client.close()

    asyncio.run(ask())
    assert server.heard[1].text == b"ask $1"
    assert not [start for start in server.starts if isinstance(start, GssEncRequest | SslRequest)]
    bind = next(said for said in server.heard if isinstance(said, m.Bind))
    assert (bind.parameters, bind.formats, bind.result_formats) == ((b"\0\0\0\5",), (1,), (1,))
