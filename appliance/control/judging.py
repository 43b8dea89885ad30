"""Verifying the live log beside the appends: a slice at a time, so that nobody waits long for a record."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from typing import BinaryIO

from appliance.audit.chain import MAX_LINE
from appliance.audit.log import AuditLog, files_of
from appliance.audit.verify import Keys, Report, Verifier, feed_line
from appliance.ipc.messages import SignedHead
from appliance.model.errors import EnvironmentFailed

_SLICE = 0.001  # seconds


async def verify_live(log: AuditLog, keys: Keys, last_head: SignedHead | None) -> Report:
    """Judges all lines that the log had when this was called. Raises EnvironmentFailed if a file cannot be read."""
    verifier = Verifier(keys, last_head)
    with ExitStack() as stack:
        opened = _open_all(log, stack)
        until = time.monotonic() + _SLICE
        for name, file, size in opened:
            verifier.segment(name)
            left = size
            while left and (line := file.readline(min(MAX_LINE + 2, left))):
                left -= len(line)
                feed_line(verifier, line)
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + _SLICE
    return verifier.finish()


def _open_all(log: AuditLog, stack: ExitStack) -> list[tuple[str, BinaryIO, int]]:
    """Name, file and size now. A later rotation renames a file, it does not take it away."""
    opened: list[tuple[str, BinaryIO, int]] = []
    try:
        for path in files_of(log.path):
            file = stack.enter_context(open(path, "rb"))  # noqa: SIM115  # the caller's stack closes it
            size = log.size if path == log.path else os.fstat(file.fileno()).st_size
            opened.append((path.name, file, size))
    except OSError as error:
        raise EnvironmentFailed("audit", f"{error.filename} cannot be read: {error.strerror}") from None
    return opened
