"""Doing something as another account: a forked child that gives up root, and hands back what it found."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from appliance.ipc.server import IpcServer
from tests.vault.rig import FakeKernel


def as_account(uid: int, work: Callable[[], Awaitable[Any]]) -> Any:
    """What `work` returns when `uid`, in no group but its own, does it. Raises what it raises, as text."""
    if os.geteuid() != 0:
        pytest.fail("this test takes the parts of several accounts: run the tests as root")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = (True, asyncio.run(_awaited(work)))
        except BaseException as error:
            answer = (False, f"{type(error).__name__}: {error}")
        with open(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    done, result = pickle.loads(data)  # noqa: S301  # our own child's
    if not done:
        raise AssertionError(result)
    return result


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


class KernelProcess:
    """kernel.sock served by a child of ours, as uid 0."""

    def __init__(self, path: str, vault: int, kernel: FakeKernel) -> None:
        self._path, self._vault, self._kernel = path, vault, kernel

    def __enter__(self) -> KernelProcess:
        reading, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                asyncio.run(self._serve(writing))
            finally:
                os._exit(0)
        os.close(writing)
        assert os.read(reading, 1) == b"r"
        os.close(reading)
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    async def _serve(self, writing: int) -> None:
        server = IpcServer(lambda method, error: None)
        self._kernel.register(server, frozenset({self._vault}))
        await server.start(self._path, mode=0o666)
        os.write(writing, b"r")
        await asyncio.Event().wait()
