"""A folder of Rego and data -> the bundle in force, swapped as a whole.

A folder that cannot be read, does not compile, contradicts itself or fails its own `test_*` rules changes nothing:
the old bundle stays in force, the answer and a record say why. What is checked is what is handed out: files are
read once.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from appliance.control.checking import Checked
from appliance.ipc.messages import PolicyBundle
from appliance.model.errors import CoatcheckError, EnvironmentFailed
from appliance.model.record import PolicyChanged, Record

MOST_FILES = 200
MOST_BYTES = 1 << 20  # of one file
DATA_FILE = "data.yaml"
_MOST_DETAIL = 2_000  # characters of a reason in a record

# Rego texts by file name, and the text of data.yaml -> the policy, checked in every way. Raises an error of ours.
Check = Callable[[dict[str, str], str], Checked]


class PolicyStatus(Struct, frozen=True):
    """`ok` False: the last reload failed, `error` says why, and the version before is in force. `warnings` are of the
    one in force."""

    ok: bool
    version: str
    loaded: float  # seconds since the epoch
    files: tuple[str, ...]
    error: str = ""
    warnings: tuple[str, ...] = ()


class PolicyFiles:
    """`record` writes to the audit log, `clock` is seconds since the epoch."""

    def __init__(
        self,
        folder: Path,
        check: Check,
        record: Callable[[Record], Awaitable[object]],
        clock: Callable[[], float],
        counted: Callable[[bool], None] = lambda ok: None,
    ) -> None:
        self._folder = folder
        self._check = check
        self._record = record
        self._clock = clock
        self._counted = counted
        self._checked: Checked | None = None
        self._status = PolicyStatus(False, "", 0.0, (), "no policy has been loaded yet")
        self._changed = asyncio.Event()
        self._reloading = asyncio.Lock()

    @property
    def version(self) -> str:
        return self._checked.bundle.version if self._checked is not None else ""

    @property
    def checked(self) -> Checked:
        """What is in force. Raises EnvironmentFailed if nothing is."""
        if self._checked is None:
            raise EnvironmentFailed("policy", f"no policy is in force: {self._status.error}")
        return self._checked

    @property
    def bundle(self) -> PolicyBundle:
        """What is in force, as workers get it. Raises EnvironmentFailed if nothing is."""
        return self.checked.bundle

    def status(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self._status)

    async def reload(self) -> PolicyStatus:
        """Reads the folder and puts it in force, once the change is on record. Never raises for a broken policy:
        the status says what is wrong. Raises EnvironmentFailed("audit") if the change cannot be recorded; then the
        old one stays in force."""
        async with self._reloading:
            try:
                checked = await asyncio.get_running_loop().run_in_executor(None, self._read)
            except CoatcheckError as error:
                self._counted(False)
                await self._record(PolicyChanged(self._clock(), self.version, False, str(error)[:_MOST_DETAIL]))
                self._status = msgspec.structs.replace(self._status, ok=False, error=str(error))
                return self._status
            bundle = checked.bundle
            if bundle.version != self.version:
                await self._record(PolicyChanged(self._clock(), bundle.version, True))
                self._checked = checked
                self._changed.set()
                self._changed = asyncio.Event()
            self._counted(True)
            files = tuple(sorted(bundle.modules))
            self._status = PolicyStatus(True, bundle.version, self._clock(), files, "", checked.warnings)
            return self._status

    async def newer_than(self, known: str, timeout: float) -> PolicyBundle:
        """What is in force: at once if its version is not `known`, else once it changes or `timeout` seconds are over.
        Raises EnvironmentFailed if nothing is in force."""
        if self.bundle.version == known:
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self.bundle

    def _read(self) -> Checked:
        modules, data = read_folder(self._folder)
        return self._check(modules, data)


def read_folder(folder: Path) -> tuple[dict[str, str], str]:
    """The Rego texts of a folder by file name, and the text of its data.yaml ("" if there is none).

    Raises EnvironmentFailed("policy") naming the file that cannot be had.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".rego") and not name.startswith("."))
    except OSError as error:
        raise EnvironmentFailed("policy", f"the policy folder {folder} cannot be read: {error.strerror}") from None
    if not names:
        raise EnvironmentFailed("policy", f"the policy folder {folder} holds no .rego file")
    if len(names) > MOST_FILES:
        raise EnvironmentFailed("policy", f"the policy folder {folder} holds over {MOST_FILES} .rego files")
    modules = {name: _text(folder / name) for name in names}
    data = folder / DATA_FILE
    return modules, _text(data) if data.exists() else ""


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise EnvironmentFailed("policy", f"{path} is not a file")
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise EnvironmentFailed("policy", f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise EnvironmentFailed("policy", f"{path} is over the limit of {MOST_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise EnvironmentFailed("policy", f"{path} is not UTF-8 at byte {error.start}") from None
