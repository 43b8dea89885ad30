"""Our login at a server that may say anything: it learns the password in no way that policy does not name, and nothing
that it says is a bug of ours."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import CoatcheckError, InternalError
from appliance.model.secret import Secret
from appliance.placeholders.handshakes import SCRAM, Salted, ScramClient, ScramServer, nonce_of
from appliance.proxy.channel import Buffers, Channel
from appliance.proxy.postgres_upstream import Login, Server, Sink, log_in
from appliance.wire.postgres import messages as m
from appliance.wire.postgres import write

PASSWORD = b"rea1-Passw0rd"


class Line(asyncio.Transport):
    """What is below a channel, and a server that knows SCRAM at its other end."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.wrote: list[bytes] = []
        self._server = ScramServer([PASSWORD], Salted(b"salt"), nonce_of(os.urandom(18)), rounds)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.wrote.append(bytes(data))

    def says(self, what: str) -> bytes:
        last = self.wrote[-1]
        try:
            if what == "first":
                return write.authentication_sasl_continue(self._server.first(last[last.index(b"n,,") :]))
            if what == "final":
                return write.authentication_sasl_final(self._server.final(last[5:])[1])
        except (CoatcheckError, ValueError):
            pass  # it is not its turn
        return SAYS[what]


SAYS = {
    "scram": write.authentication_sasl([SCRAM]),
    "first": write.authentication_sasl_continue(b"r=x,s=AAAA,i=1"),
    "final": write.authentication_sasl_final(b"v=" + b"A" * 43 + b"="),
    "md5": write.authentication_md5(b"salt"),
    "clear": write.authentication_cleartext(),
    "gss": write.message(m.AUTHENTICATION, (7).to_bytes(4, "big")),
    "unknown": write.message(m.AUTHENTICATION, (99).to_bytes(4, "big")),
    "ok": write.authentication_ok(),
    "notice": write.notice("NOTICE", "00000", "hello", ""),
    "status": write.parameter_status(b"server_version", b"15"),
    "key": write.backend_key_data(1, b"1234"),
    "ready": write.ready(m.IDLE),
    "error": write.error("FATAL", "28P01", "no"),
    "bad error": write.message(m.ERROR, b"Sx"),
    "row": write.data_row([b"x"]),
    "version": write.negotiate_protocol_version(0, ["_pq_.x"]),
}
WHOLE = ("scram", "first", "final", "ok", "status", "key", "ready")


def logged_in(says: list[str], accepted: tuple[str, ...], rounds: int = 1) -> tuple[Line, Server | CoatcheckError]:
    line, sink = Line(rounds), Sink()

    async def both() -> Server:
        login = Login("app", {"user": "app"}, Secret(PASSWORD), Salted(b"-"), accepted)
        channel = Channel(Buffers())
        channel.connection_made(line)
        task = asyncio.create_task(log_in(channel, sink, login, 20))
        for what in says:
            wrote = len(line.wrote)
            for _ in range(4):  # the task, what it has written
                await asyncio.sleep(0)
            while what == "final" and rounds > 1 and len(line.wrote) == wrote:
                await asyncio.sleep(0.001)
            sink.received(line.says(what))
        sink.ended(True)
        return await task

    try:
        return line, asyncio.run(both())
    except CoatcheckError as error:
        return line, error


def test_a_server_that_keeps_to_the_protocol() -> None:
    _, came = logged_in(list(WHOLE), ("scram-sha-256",))
    assert isinstance(came, Server)
    assert (came.pid, came.key, came.statuses) == (1, b"1234", {b"server_version": b"15"})


def test_many_rounds_do_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[bool] = set()
    derive = ScramClient.reply

    def reply(client: ScramClient, server_first: bytes) -> bytes:
        threads.add(threading.current_thread() is threading.main_thread())
        return derive(client, server_first)

    monkeypatch.setattr(ScramClient, "reply", reply)
    for rounds, in_the_loop in ((4096, True), (100_000, False)):
        _, came = logged_in(list(WHOLE), ("scram-sha-256",), rounds)
        assert isinstance(came, Server)
        assert threads == {in_the_loop}
        threads.clear()


@pytest.mark.parametrize(
    "says",
    [
        ["scram", "final"],
        ["scram", "first", "first"],
        ["scram", "first", "final", "final"],
        ["scram", "first", "final", "first"],
        ["scram", "first", "ok"],
        ["scram", "ok"],
        ["scram", "scram"],
        ["first"],
        ["final"],
        ["md5"],
        ["clear"],
        ["ok", "row"],
        ["bad error"],
        [*WHOLE[:-1], "row"],
    ],
)
def test_a_server_that_does_not(says: list[str]) -> None:
    line, came = logged_in([*says, *WHOLE], ("scram-sha-256",))
    assert isinstance(came, CoatcheckError)
    assert not isinstance(came, InternalError)
    assert PASSWORD not in b"".join(line.wrote)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(sorted(SAYS)), max_size=12), st.permutations(WHOLE)), st.booleans())
def test_whatever_a_server_says(says: list[str], legacy: bool) -> None:
    line, came = logged_in([*says], ("scram-sha-256", "md5", "password") if legacy else ("scram-sha-256",))
    assert not isinstance(came, InternalError)
    assert PASSWORD not in b"".join(line.wrote)  # in clear text within TLS only
