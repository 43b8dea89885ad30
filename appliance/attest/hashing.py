"""SHA-256 of executables, cached by (device, inode, size, mtime, ctime).

ctime cannot be set by a process, and every write moves it, but no finer than the file system's clock ticks: so a
digest is kept only if the file had been left alone for a while. A file that changes under our reading has none, nor
has one that is larger than LARGEST.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict

_CHUNK = 1 << 20  # bytes
LARGEST = 2 << 30  # bytes of an executable; a sparse file of any size costs its maker nothing, but us the reading
_ENTRIES = 4096
_SETTLED_NS = 2_000_000_000  # far above any file system's granularity

FileKey = tuple[int, int, int, int, int]


def file_key(fd: int) -> FileKey:
    found = os.fstat(fd)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class ExecutableHashes:
    """`known` answers at once; `hash_file` reads the file: for a thread. Both take an open descriptor."""

    def __init__(self) -> None:
        self._known: OrderedDict[FileKey, str] = OrderedDict()

    def known(self, fd: int) -> str:
        """Hex, or "" if it is not cached."""
        key = file_key(fd)
        digest = self._known.get(key, "")
        if digest:
            self._known.move_to_end(key)
        return digest

    def hash_file(self, fd: int) -> str:
        """Hex, or "" if the file changed meanwhile or is over LARGEST. Raises OSError."""
        before = file_key(fd)
        if before[2] > LARGEST:
            return ""
        digest = hashlib.sha256()
        offset = 0
        while offset <= before[2] and (chunk := os.pread(fd, _CHUNK, offset)):  # it may be growing
            digest.update(chunk)
            offset += len(chunk)
        if file_key(fd) != before or offset != before[2]:
            return ""
        if time.time_ns() - before[4] > _SETTLED_NS:
            self._known[before] = digest.hexdigest()
        while len(self._known) > _ENTRIES:
            self._known.popitem(last=False)
        return digest.hexdigest()
