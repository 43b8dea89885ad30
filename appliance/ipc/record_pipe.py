"""Audit records on their way from a worker to control: frames in a named pipe that control makes, one for each worker.

What write(2) has put into a pipe stays there whatever becomes of the writer, and of the reader, as long as either of
them has it open; and a writer that may not open the other end can neither read nor change nor take it back. So a record
is out of the worker's hands once it is in the pipe, without anybody having to wake up and answer.

A frame is 4 bytes length (big endian, of what follows), then MessagePack of a list of records.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import Final

from appliance.ipc.frame import FrameError
from appliance.model.errors import EnvironmentFailed

SIZE: Final = 512 << 10  # bytes that a pipe holds: an account may have 127 of these (fs.pipe-user-pages-soft)
MOST: Final = 448 << 10  # bytes of a frame: there is always room for one in an empty pipe
_HEADER: Final = 4
_SPLICE_F_NONBLOCK: Final = 2

_tee = ctypes.CDLL(None, use_errno=True).tee
_tee.restype = ctypes.c_ssize_t
_tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)


def frame_of(batch: bytes) -> bytes:
    """Raises FrameError if the batch is over MOST."""
    if len(batch) > MOST:
        raise FrameError(f"a batch of {len(batch)} bytes is over the limit of {MOST}")
    return len(batch).to_bytes(_HEADER, "big") + batch


def batches_of(data: bytes) -> tuple[list[bytes], int]:
    """The batches of the frames that are whole, and the bytes that these frames take. Raises FrameError if what comes
    first is no frame: what stands before such a thing is handed over all the same."""
    batches: list[bytes] = []
    start = 0
    while len(data) - start >= _HEADER:
        length = int.from_bytes(data[start : start + _HEADER], "big")
        if length > MOST:
            if batches:
                break
            raise FrameError(f"a frame of {length} bytes is over the limit of {MOST}")
        end = start + _HEADER + length
        if end > len(data):
            break
        batches.append(data[start + _HEADER : end])
        start = end
    return batches, start


def enlarge(fd: int) -> None:
    """Raises EnvironmentFailed("audit") if the pipe cannot be made to hold SIZE bytes."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, SIZE)
    except OSError as error:
        raise EnvironmentFailed(
            "audit",
            f"a pipe cannot hold {SIZE} bytes ({error.strerror}): sysctl fs.pipe-max-size must be at least that, and "
            "fs.pipe-user-pages-soft leave room for it",
        ) from None


class Peephole:
    """Looks into pipes without taking anything out (tee(2))."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        enlarge(self._writing)

    def look(self, fd: int) -> bytes | None:
        """What is in the pipe now; b"" if nothing is and nobody has it open for writing; None if nothing is."""
        size = _tee(fd, self._writing, SIZE, _SPLICE_F_NONBLOCK)
        if size < 0:
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return None
            raise OSError(number, os.strerror(number))
        return take(self._reading, size)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


def take(fd: int, size: int) -> bytes:
    """Takes out `size` bytes, which are there."""
    data = os.read(fd, size) if size else b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data
