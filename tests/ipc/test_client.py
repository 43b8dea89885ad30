"""A call that is cancelled ends, also when its answer or the connection's end comes in the same turn of the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.ipc.client import IpcClient
from appliance.ipc.frame import Answer, pack
from appliance.ipc.server import IpcServer


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
