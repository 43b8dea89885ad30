"""PostgreSQL both ways: any chunking has the same fate, no byte is lost, what is read is written as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from appliance.model.errors import PeerError
from appliance.wire.postgres import (
    Frames,
    StartupMessage,
    cancel_request,
    gss_enc_request,
    looks_like_start,
    parse_start,
    read,
    ssl_request,
    startup,
    write,
)
from appliance.wire.postgres import messages as m
from tests.fuzz.http1 import cut
from tests.fuzz.runner import Harness, main
from tests.wire.postgres_samples import Whole, joined

CUT = 100  # bytes: so that mutants of a few hundred bytes come in pieces
LONGEST = 1000  # of a Query, a RowDescription

Pair = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
FROM_CLIENT: dict[int, Pair] = {
    m.QUERY: (read.query, lambda v: write.query(v.text)),
    m.PARSE: (read.parse, lambda v: write.parse(*v)),
    m.BIND: (read.bind, lambda v: write.bind(*v)),
    m.DESCRIBE: (read.describe, lambda v: write.describe(*v)),
    m.EXECUTE: (read.execute, lambda v: write.execute(*v)),
    m.CLOSE: (read.close, lambda v: write.close(*v)),
    m.FUNCTION_CALL: (read.function_call, lambda v: write.function_call(*v)),
}
FROM_SERVER: dict[int, Pair] = {
    m.PARAMETER_STATUS: (read.parameter_status, lambda v: write.parameter_status(*v)),
    m.READY: (read.ready, write.ready),
    m.ROW_DESCRIPTION: (read.row_description, lambda v: write.row_description(v.fields)),
    m.DATA_ROW: (read.data_row, lambda v: write.data_row(v.values)),
    m.COMMAND_COMPLETE: (read.command_complete, lambda v: write.command_complete(v.tag)),
    m.ERROR: (read.report, lambda v: write.report(m.ERROR, v.fields)),
    m.NOTICE: (read.report, lambda v: write.report(m.NOTICE, v.fields)),
    m.NOTIFICATION: (read.notification, lambda v: write.notification(*v)),
    m.COPY_OUT: (read.copy_response, lambda v: write.copy_response(m.COPY_OUT, *v)),
    m.PARAMETER_DESCRIPTION: (read.parameter_description, lambda v: write.parameter_description(v.oids)),
    m.FUNCTION_RESULT: (read.function_result, lambda v: write.function_result(v.value)),
    m.BACKEND_KEY_DATA: (read.backend_key_data, lambda v: write.backend_key_data(*v)),
}


def fate(server: bool, login: bool, pieces: list[bytes]) -> list[Whole] | str:
    """The messages; the code of the refusal if there is one."""
    frames = Frames(server, text=LONGEST, other=LONGEST, cut=CUT, login=login)
    found = []
    size = 0
    for piece in pieces:
        size += len(piece)
        try:
            found += frames.feed(piece)
        except PeerError as error:
            return error.code
        if frames.held > (65_545 if login else 10_001):
            raise AssertionError(f"{frames.held} bytes are held back")
    if sum([len(frame.raw) for frame in found]) + frames.held != size:
        raise AssertionError("a byte is lost")
    return joined(found, CUT)


def check(data: bytes, chance: random.Random, server: bool) -> None:
    login = chance.random() < 0.2
    whole = fate(server, login, [data])
    if fate(server, login, cut(data, chance)) != whole:
        raise AssertionError("another chunking has another fate")
    if isinstance(whole, str):
        raise PeerError(whole, "")
    if b"".join([raw for _, raw in whole]) != data[: sum([len(raw) for _, raw in whole])]:
        raise AssertionError("what comes out is not what went in")
    pairs = FROM_SERVER if server else FROM_CLIENT
    for kind, raw in whole:
        if kind in pairs and len(raw) == 1 + int.from_bytes(raw[1:5], "big"):
            take, put = pairs[kind]
            try:
                said = take(raw[5:])
            except PeerError:
                continue
            if put(said) != raw:
                raise AssertionError("what is written is not what was read")


def check_client(data: bytes, chance: random.Random) -> None:
    check(data, chance, server=False)


def check_server(data: bytes, chance: random.Random) -> None:
    check(data, chance, server=True)


def check_start(data: bytes, chance: random.Random) -> None:
    looks = looks_like_start(data)
    found = parse_start(data)
    if not looks:
        raise AssertionError("what does not look like a start is one")
    if isinstance(found, int):
        if found <= len(data):
            raise AssertionError(f"{found} bytes are asked for where there are {len(data)}")
        return
    if isinstance(found, StartupMessage) and startup(found.minor, found.parameters) != data[: found.consumed]:
        raise AssertionError("what is written is not what was read")
    shorter = parse_start(data[: chance.randrange(found.consumed)])
    if not isinstance(shorter, int):
        raise AssertionError("a part of a packet is a packet")


COUNTS = [b"\0\0", b"\0\1", b"\0\2", b"\xff\xff", b"\0\0\0\0", b"\0\0\0\4", b"\0\0\0\5", b"\0\0\0\x20", b"\0\0\1\0"]
NUMBERS = [b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\x7f\xff\xff\xff", b"\x3f\xff\xff\xff", b"\0"]
EMPTY = [bytes((kind, 0, 0, 0, 4)) for kind in b"123ABCDEFGHIKNPQRSTVWXZcdfnpst"]

START = Harness(
    "postgres start",
    [
        *(ssl_request(), gss_enc_request(), cancel_request(1, b"1234"), cancel_request(2, b"x" * 32)),
        startup(0, {"user": "u", "database": "d", "application_name": "psql"}),
        startup(2, {"user": "u", "_pq_.option": "x", "options": "-c geqo=off"}),
    ],
    [*COUNTS, *NUMBERS, b"user\0", b"\0\3\0\0", b"\0\2\0\0", b"\x04\xd2", b"\x16\x2f", b"\xc3\xa9", b"\0\0\0\x10"],
    check_start,
)
CLIENT = Harness(
    "postgres client",
    [
        write.query(b"select 1") + write.terminate(),
        write.parse(b"s", b"select $1, $2", [23, 0]) + write.describe(m.STATEMENT, b"s") + write.flush(),
        write.bind(b"p", b"s", (0, 1), (b"x", None), (1,)) + write.execute(b"p", 10) + write.sync(),
        write.bind(b"", b"", (1,), (b"x" * 150,)) + write.close(m.PORTAL, b""),
        write.copy_data(b"1\t2\n") * 5 + write.copy_data(b"x" * 300) + write.copy_done() + write.copy_fail("x"),
        write.function_call(1, (0,), (b"x", None)),
        write.password(b"md5" + b"0" * 32),
        write.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc") + write.sasl_response(b"c=biws,r=abc"),
    ],
    [*COUNTS, *NUMBERS, *EMPTY],
    check_client,
)
SERVER = Harness(
    "postgres server",
    [
        write.authentication_sasl(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]) + write.authentication_md5(b"salt"),
        write.authentication_ok() + write.parameter_status(b"a", b"b") + write.backend_key_data(1, b"1234"),
        write.row_description([m.Field(b"a", 1, 2, 25, -1, -1, 0), m.Field(b"b", 0, 0, 23, 4, -1, 1)]),
        write.data_row([b"1", None]) * 5 + write.data_row([b"x" * 200]) + write.command_complete(b"SELECT 6"),
        write.parse_complete() + write.bind_complete() + write.no_data() + write.ready(m.IDLE),
        write.error("ERROR", "42501", "no", "because", "ask") + write.notice("NOTICE", "00000", "x"),
        write.copy_response(m.COPY_OUT, 0, (0, 0)) + write.copy_data(b"1\t2\n") * 5 + write.copy_done(),
        write.notification(1, b"a", b"b") + write.parameter_description([23]) + write.function_result(b"x"),
    ],
    [*COUNTS, *NUMBERS, *EMPTY],
    check_server,
)

if __name__ == "__main__":
    main(START, CLIENT, SERVER)
