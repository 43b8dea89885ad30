"""A secret that a command prints."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection

from appliance.model.secret import Secret
from appliance.vault.stores.value import MAX_VALUE, Origin


class CommandStore:
    """Runs `command` (its words; no shell) in a process group of its own, which is killed when the command has
    ended or took over `timeout` seconds. It has no input; what it writes to stderr is dropped, since it may well
    be the credential. `hidden`: variables that it does not get, since they hold other secrets."""

    def __init__(self, secret: str, command: tuple[str, ...], timeout: float, hidden: Collection[str] = ()) -> None:
        self._command = command
        self._timeout = timeout
        self._hidden = frozenset(hidden)
        self._origin = Origin(secret, f"command {command[0]}")

    async def fetch(self) -> Secret:
        process = await self._start()
        try:
            async with asyncio.timeout(self._timeout):
                value = await self._read(process)
                code = await process.wait()
        except TimeoutError:
            raise self._origin.unavailable(
                f"it did not end within {self._timeout:g} s",
                "run it by hand as the vault's user, or raise its timeout",
            ) from None
        finally:
            await _end(process)
        if code != 0:
            how = f"it failed with exit code {code}" if code > 0 else f"it was ended by {_signal_name(-code)}"
            raise self._origin.unavailable(how, "run it by hand as the vault's user to see why")
        return self._origin.secret_of(value, line=True)

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if name not in self._hidden}
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "its words are not usable"
            raise self._origin.unavailable(
                f"it cannot be started ({why})", "write the program's absolute path, and let the vault's user run it"
            ) from None

    async def _read(self, process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None  # noqa: S101  # it was asked for
        value = b""
        while len(value) < MAX_VALUE + 3:
            chunk = await process.stdout.read(MAX_VALUE + 3 - len(value))
            if not chunk:
                return value
            value += chunk
        raise self._origin.unavailable(f"it printed over {MAX_VALUE >> 10} KiB", "let it print the credential only")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills what is left of the group: also a child that the command left behind, which holds our pipe open."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the usual end: nobody is left
    except PermissionError:
        pass  # what is left has changed its uid: not ours to end
    await process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
