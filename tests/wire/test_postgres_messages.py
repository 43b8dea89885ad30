"""PostgreSQL's messages: what is written is read, what cannot be is refused, what cannot be written is our error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import InternalError, PeerError
from appliance.wire.postgres import Frames, Message, Run, read, write
from appliance.wire.postgres import messages as m
from tests.wire.postgres_samples import CLIENT, LOGIN_CLIENT, LOGIN_SERVER, SERVER, Circle

ALL = {**CLIENT, **LOGIN_CLIENT, **LOGIN_SERVER, **SERVER}
# Whose last field goes on as long as the message does: less, or more, of it is another one of its kind
OPEN = {"key", "sasl continue", "sasl final"}


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40)
@given(st.data())
def test_what_is_written_is_read_and_nothing_less_or_more(name: str, data: st.DataObject) -> None:
    said, put, take = ALL[name]
    meant = data.draw(said)
    raw = put(meant)
    assert int.from_bytes(raw[1:5], "big") == len(raw) - 1
    body = raw[5:]
    found = take(body)
    assert found == meant
    assert type(found) is type(meant)
    if name in OPEN:
        return
    for end in range(len(body)):
        with pytest.raises(PeerError) as refused:
            take(body[:end])
        assert refused.value.code == "postgres-message"
    for more in (b"\0", b"x", b"\0\0\0\0"):
        with pytest.raises(PeerError):
            take(body + more)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40)
@given(st.data())
def test_what_is_read_of_noise_is_written_as_it_was(name: str, data: st.DataObject) -> None:
    said, put, take = ALL[name]
    body = bytearray(put(data.draw(said))[5:])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + 1] = data.draw(st.binary(max_size=2))
    try:
        found = take(bytes(body))
    except PeerError:
        return
    if name == "negotiate":  # two ways to say the same
        return
    if isinstance(found, m.Authentication | m.CopyFail | m.FunctionCall):
        return
    assert put(found)[5:] == bytes(body)


@pytest.mark.parametrize(
    ("circles", "server", "login"),
    [(CLIENT, False, False), (LOGIN_CLIENT, False, True), (LOGIN_SERVER, True, True), (SERVER, True, False)],
)
@given(st.data())
def test_what_is_written_is_one_message(
    circles: dict[str, Circle], server: bool, login: bool, data: st.DataObject
) -> None:
    said, put, _ = circles[data.draw(st.sampled_from(sorted(circles)))]
    raw = put(data.draw(said))
    (frame,) = Frames(server, login=login).feed(raw)
    assert isinstance(frame, Message | Run)
    assert frame.raw == raw


I16, I32, N = b"\0\1", b"\0\0\0\1", b"\xff\xff\xff\xff"
REFUSED: list[tuple[Callable[[bytes], Any], bytes]] = [
    (read.query, b"a\0b\0"),
    (read.parse, b"\0select\0\0\2" + I32),  # two types, one there
    (read.parse, b"\0select\0\xff\xff"),
    (read.bind, b"\0\0\0\1\0\2" + b"\0\0" + b"\0\0"),  # format 2
    (read.bind, b"\0\0\0\1\xff\xff" + b"\0\0" + b"\0\0"),  # format -1
    (read.bind, b"\0\0\0\2\0\0\0\0" + b"\0\1" + N + b"\0\0"),  # two formats, one parameter
    (read.bind, b"\0\0\0\0" + b"\0\1" + b"\xff\xff\xff\xfe" + b"\0\0"),  # a parameter of -2 bytes
    (read.bind, b"\0\0\0\0" + b"\0\1" + b"\x80\0\0\0" + b"\0\0"),
    (read.bind, b"\0\0\0\0" + b"\0\1" + b"\x7f\xff\xff\xff" + b"\0\0"),  # one that goes on beyond the body
    (read.bind, b"\0\0\0\0" + b"\xff\xff" + b"\0\0"),  # more parameters than there are
    (read.bind, b"\0\0\0\0" + b"\0\0" + b"\0\1\0\2"),  # result format 2
    (read.bind_names, b"\0"),
    (read.bind_names, b"portal"),
    (read.describe, b"X\0"),
    (read.describe, b""),
    (read.close, b"s\0"),
    (read.function_call, I32 + b"\0\0" + b"\0\0" + b"\0\2"),
    (read.function_call, I32 + b"\0\2\0\0\0\0" + b"\0\1" + N + b"\0\0"),
    (read.sasl_initial, b"SCRAM\0" + b"\xff\xff\xff\xfe"),
    (read.sasl_initial, b"\0" + N),
    (read.sasl_initial, b"scram\0" + N),
    (read.sasl_initial, b"A" * 21 + b"\0" + N),
    (read.authentication, b"\0\0\0\1"),
    (read.authentication, b"\0\0\0\4"),  # crypt, gone
    (read.authentication, b"\0\0\0\6"),  # SCM, gone
    (read.authentication, b"\0\0\0\x0d"),
    (read.authentication, b"\xff\xff\xff\xff"),
    (read.authentication, b"\0\0\0\0x"),
    (read.authentication, b"\0\0\0\5sal"),
    (read.authentication, b"\0\0\0\5salty"),
    (read.authentication, b"\0\0\0\x0a"),
    (read.authentication, b"\0\0\0\x0a\0"),
    (read.authentication, b"\0\0\0\x0a\0\0"),  # no mechanism
    (read.authentication, b"\0\0\0\x0aSCRAM\0"),
    (read.authentication, b"\0\0\0\x0aSCRAM\0\0\0"),
    (read.negotiate_protocol_version, b"\0\2\0\0" + b"\0\0\0\0"),
    (read.negotiate_protocol_version, b"\0\3\0\0" + b"\xff\xff\xff\xff"),
    (read.negotiate_protocol_version, b"\0\3\0\0" + I32 + b"_pq_.x"),
    (read.backend_key_data, I32 + b"123"),
    (read.backend_key_data, I32 + b"x" * 257),
    (read.ready, b""),
    (read.ready, b"X"),
    (read.ready, b"II"),
    (read.row_description, b"\xff\xff"),
    (read.row_description, b"\0\1a\0" + b"\0" * 16 + b"\0\2"),  # format 2
    (read.data_row, b"\0\1\xff\xff\xff\xfe"),
    (read.data_row, b"\xff\xff"),
    (read.copy_response, b""),
    (read.copy_response, b"\2\0\0"),
    (read.copy_response, b"\0\0\1\0\2"),
    (read.copy_response, b"\0\xff\xff"),
    (read.report, b""),
    (read.report, b"Mx"),
    (read.report, b"Mx\0"),
    (read.report, b"Mx\0\0\0"),
    (read.parameter_description, b"\0\2" + I32),
    (read.function_result, b"\xff\xff\xff\xfe"),
    (read.function_result, b"\0\0\0\2x"),
    (read.function_result, N + b"x"),
]


@pytest.mark.parametrize(("take", "body"), REFUSED)
def test_what_cannot_be_is_refused(take: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(PeerError) as refused:
        take(body)
    assert refused.value.code == "postgres-message"


def test_every_kind_of_authentication_is_read() -> None:
    for kind in (m.AUTH_KERBEROS, m.AUTH_GSS, m.AUTH_SSPI):
        assert read.authentication(kind.to_bytes(4, "big")) == m.Authentication(kind)
    assert read.authentication(b"\0\0\0\x08token") == m.Authentication(m.AUTH_GSS_CONTINUE, b"token")


def test_both_ways_to_say_the_newest_version() -> None:
    assert read.negotiate_protocol_version(b"\0\3\0\2\0\0\0\0").minor == 2
    assert read.negotiate_protocol_version(b"\0\0\0\2\0\0\0\0").minor == 2


@given(st.binary(max_size=20), st.lists(st.none() | st.binary(max_size=5), max_size=3))
def test_names_are_those_of_the_whole_bind(name: bytes, values: list[bytes | None]) -> None:
    name = name.replace(b"\0", b"")
    body = write.bind(name, b"s" + name, (), values, (1,))[5:]
    found = read.bind(body)
    assert read.bind_names(body) == (found.portal, found.statement) == (name, b"s" + name)
    assert read.bind_names(body[: len(name) * 2 + 3]) == (name, b"s" + name)


def test_as_many_parameters_as_the_server_takes() -> None:
    many = [b"x"] * 65535
    assert read.bind(write.bind(b"", b"", (), many)[5:]).parameters == tuple(many)
    assert len(read.parse(write.parse(b"", b"", [1] * 65535)[5:]).oids) == 65535
    with pytest.raises(InternalError):
        write.bind(b"", b"", (), [*many, b"x"])


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_an_error_can_say_anything(text: str, detail: str, hint: str) -> None:
    for put, kind in ((write.error, m.ERROR), (write.notice, m.NOTICE)):
        raw = put("ERROR", "42501", text, detail, hint, where="in policy", constraint="rule")
        (frame,) = Frames(True, login=False).feed(raw)
        assert frame.kind == kind
        found = read.report(raw[5:])
        assert (found.severity, found.sqlstate) == (b"ERROR", b"42501")
        clean = text.encode("utf-8", "replace").replace(b"\0", "\ufffd".encode())
        assert found.message == (clean or b"ERROR")
        assert (found.text_of(ord("W")), found.text_of(ord("n")), found.text_of(ord("F"))) == (
            b"in policy",
            b"rule",
            b"",
        )
        assert bool(found.text_of(ord("D"))) == bool(detail)


def test_the_severity_is_the_one_that_is_not_translated() -> None:
    assert m.Report(((ord("S"), b"FEHLER"), (ord("V"), b"ERROR"))).severity == b"ERROR"
    assert m.Report(((ord("S"), b"FEHLER"),)).severity == b"FEHLER"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: write.query(b"select 1\0drop"),
        lambda: write.parse(b"a\0", b""),
        lambda: write.parse(b"", b"", [-1]),
        lambda: write.parse(b"", b"", [2**32]),
        lambda: write.bind(b"", b"\0"),
        lambda: write.bind(b"", b"", [-1]),
        lambda: write.execute(b"", 2**31),
        lambda: write.password(b"a\0b"),
        lambda: write.command_complete(b"\0"),
        lambda: write.parameter_status(b"a", b"\0"),
        lambda: write.backend_key_data(1, b"123"),
        lambda: write.backend_key_data(-1, b"1234"),
        lambda: write.authentication_md5(b"sal"),
        lambda: write.authentication_sasl([]),
        lambda: write.authentication_sasl([""]),
        lambda: write.ready(0),
        lambda: write.error("ERROR", "4250", "x"),
        lambda: write.error("ERROR", "4250\0", "x"),
        lambda: write.report(m.ERROR, [(0, b"x")]),
        lambda: write.report(m.ERROR, [(1, b"\0")]),
        lambda: write.row_description([m.Field(b"\0", 0, 0, 0, 0, 0, 0)]),
        lambda: write.row_description([m.Field(b"", 0, 2**15, 0, 0, 0, 0)]),
        lambda: write.data_row([b""] * 65536),
        lambda: write.negotiate_protocol_version(65536, []),
        lambda: write.negotiate_protocol_version(2, ["\0"]),
    ],
)
def test_what_cannot_be_written_is_our_error(wrong: Callable[[], bytes]) -> None:
    with pytest.raises(InternalError):
        wrong()


def test_what_is_secret_is_not_shown() -> None:
    assert "hunter" not in repr(m.Password(b"hunter2")) + repr(m.BackendKeyData(1, b"hunter2"))
