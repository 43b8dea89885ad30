"""A call that is cancelled ends, also when its answer or the connection's end comes in the same turn of the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ipc.client import IpcClient
from appliance.ipc.envelope import Answer
from appliance.ipc.frame import MAX_FRAME, Deframer, FrameError, pack
from appliance.ipc.server import IpcServer
from appliance.model.errors import Denied, InternalError, PeerError


def answered(connection: asyncio.Protocol) -> None:
    connection.data_received(pack(Answer(1, "", "", "", msgspec.Raw(msgspec.msgpack.encode("late")))))


def lost(connection: asyncio.Protocol) -> None:
    connection.connection_lost(None)


@pytest.mark.parametrize("meanwhile", [answered, lost])
def test_cancelled_in_the_turn_of_its_answer(tmp_path: Path, meanwhile: Callable[[asyncio.Protocol], None]) -> None:
    async def main() -> None:
        async def never(_peer: object, _asked: None) -> str:
            await asyncio.Event().wait()
            return ""

        server = IpcServer(lambda method, error: None)
        server.method("never", None, never, frozenset({os.geteuid()}))
        path = str(tmp_path / "server.sock")
        await server.start(path, mode=0o600)
        client = IpcClient("server", path, os.geteuid())
        call = asyncio.ensure_future(client.call("never", result=str))
        while not (client._connection and client._connection.waiting):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # now it waits for the answer
        meanwhile(client._connection)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.close()
        await server.stop()

    asyncio.run(main())


def test_a_method_answers_with_its_error_and_its_bug_ends_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        bugs: list[str] = []
        taken: list[int] = []

        async def take(_peer: object, number: int) -> int:
            if number == 2:
                raise ZeroDivisionError
            if number == 3:
                raise Denied("odd", "no threes")
            taken.append(number)
            return number

        server = IpcServer(lambda method, error: bugs.append(f"{method}: {type(error).__name__}"))
        server.method("take", int, take, frozenset({os.geteuid()}))
        path = str(tmp_path / "server.sock")
        await server.start(path, mode=0o600)
        client = IpcClient("server", path, os.geteuid())
        calls = [client.call("take", number, result=int) for number in (1, 2, 3, 4, "five")]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [int, InternalError, Denied, int, PeerError]
        assert (taken, bugs) == ([1, 4], ["take: ZeroDivisionError"])
        await client.close()
        await server.stop()

    asyncio.run(main())


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 50))
def test_frames_are_the_same_in_any_chunks(bodies: list[bytes], size: int) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    deframer = Deframer()
    found = [body for at in range(0, len(stream), size) for body in deframer.feed(stream[at : at + size])]
    assert found == bodies


def test_a_frame_over_the_limit_is_refused_from_its_head() -> None:
    deframer = Deframer()
    with pytest.raises(FrameError):
        deframer.feed((MAX_FRAME + 1).to_bytes(4, "big"))
