"""Takes what the workers have put into their pipes, and has it written.

A record is in the log before it is out of its pipe: a control that dies in between finds it there again when it is
back, and writes it twice rather than never. A pipe's first record is taken at once, what follows every `_PAUSE`, so
that under load many records share a read, a write and a wake-up. For all that the pipes can hold, room is reserved on
the disk beforehand; where none can be had any more, or the log cannot be written, the pipes are emptied and shut:
workers notice at their next record, nothing happens on their side from then on, and `open` says why.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.ipc.frame import FrameError
from appliance.ipc.record_pipe import SIZE, Peephole, batches_of, enlarge, take
from appliance.model.errors import CoatcheckError, EnvironmentFailed

_PAUSE: Final = 0.01  # seconds
_MOST: Final = 120  # pipes: after a restart of control there may be two of a worker for a moment
# Bytes in the log for a pipe: twice what it holds (before it is known that there is no more room, and after), where
# every byte is a character that JSON writes with six
_ROOM: Final = 16 * SIZE
_HEARD_WITHIN: Final = 20.0  # seconds that a worker has for opening its pipe


class _Pipe:
    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd  # -1 when it is closed


class RecordPipes:
    """`write` has batches written, all or none: it raises EnvironmentFailed if they are not. `reserve`: room for so
    many bytes; raises EnvironmentFailed if there is none. `trouble` is told in words what is wrong with a pipe."""

    def __init__(
        self,
        folder: Path,
        write: Callable[[list[bytes]], None],
        reserve: Callable[[int], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._write = write
        self._reserve = reserve
        self._trouble = trouble
        self._loop = asyncio.get_running_loop()
        self._peephole = Peephole()
        self._pipes: set[_Pipe] = set()
        self._shut = True

    def start(self) -> None:
        """Goes on with the pipes that are there from before. Raises EnvironmentFailed."""
        self._reserve(_ROOM)
        self._shut = False
        for path in sorted(self._folder.iterdir()):
            if self._shut:  # by the one before
                break
            if stat.S_ISFIFO(path.lstat().st_mode):
                self._adopt(path)
        if self._shut:
            raise EnvironmentFailed("audit", "what workers had handed over cannot be written to the audit log")

    def open(self) -> str:
        """The path of a new pipe. Raises EnvironmentFailed("audit") if records cannot be written now."""
        if self._shut:
            self.start()
        if len(self._pipes) >= _MOST:
            raise EnvironmentFailed("audit", f"there are {_MOST} pipes for records already")
        self._reserve(_ROOM * (len(self._pipes) + 1))
        path = self._folder / secrets.token_hex(8)
        os.mkfifo(path, 0o600)
        pipe = self._opened(path)
        try:
            enlarge(pipe.fd)
        except EnvironmentFailed:
            self._forget(pipe)
            raise
        path.chmod(0o620)  # the folder gives it to the workers' group: to write, not to read
        self._loop.call_later(_HEARD_WITHIN, self._expire, pipe)
        self._loop.add_reader(pipe.fd, self._ready, pipe)
        return str(path)

    def stop(self) -> None:
        """Takes what is there, and nothing any more."""
        self._empty_and_shut()
        self._peephole.close()

    def _opened(self, path: Path) -> _Pipe:
        pipe = _Pipe(path, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        self._pipes.add(pipe)
        return pipe

    def _adopt(self, path: Path) -> None:
        pipe = self._opened(path)
        self._drain(pipe)
        if pipe.fd >= 0:
            self._loop.add_reader(pipe.fd, self._ready, pipe)

    def _ready(self, pipe: _Pipe) -> None:
        if self._drain(pipe):
            self._loop.remove_reader(pipe.fd)
            self._loop.call_later(_PAUSE, self._later, pipe)

    def _later(self, pipe: _Pipe) -> None:
        if pipe.fd < 0:
            return
        if self._drain(pipe):
            self._loop.call_later(_PAUSE, self._later, pipe)
        elif pipe.fd >= 0:
            self._loop.add_reader(pipe.fd, self._ready, pipe)

    def _drain(self, pipe: _Pipe) -> bool:
        """Whether there was something."""
        data = self._peephole.look(pipe.fd)
        if data is None:
            return False
        if not data:
            self._forget_empty(pipe)
            return False
        try:
            batches, size = batches_of(data)
        except FrameError as error:
            self._trouble(f"a worker's pipe holds what is no record and is closed: {error}")
            self._forget(pipe)
            return False
        if batches:
            try:
                self._write(batches)
            except Exception as error:  # the seam: a bug must not have the same records written for ever
                self._trouble(str(error) if isinstance(error, CoatcheckError) else repr(error))
                self._close_all()
                return False
            take(pipe.fd, size)
            try:
                self._reserve(_ROOM * len(self._pipes))
            except EnvironmentFailed as error:
                self._trouble(str(error))
                self._empty_and_shut()
                return False
        if size < len(data) and _is_left(pipe.fd):
            rest = self._peephole.look(pipe.fd) or b""  # its last words may have come meanwhile
            if rest == data[size:]:
                self._trouble("a worker has ended within a record: what it was for has not happened")
                self._forget(pipe)
                return False
        return True

    def _expire(self, pipe: _Pipe) -> None:
        """Nobody may ever have opened it: that is not told as an end."""
        if pipe.fd >= 0 and self._peephole.look(pipe.fd) == b"":
            self._forget_empty(pipe)

    def _forget_empty(self, pipe: _Pipe) -> None:
        """Unless somebody opens it right now."""
        pipe.path.unlink(missing_ok=True)
        if self._peephole.look(pipe.fd) == b"":
            self._forget(pipe)

    def _forget(self, pipe: _Pipe) -> None:
        self._close(pipe)
        pipe.path.unlink(missing_ok=True)

    def _close(self, pipe: _Pipe) -> None:
        self._loop.remove_reader(pipe.fd)
        os.close(pipe.fd)
        pipe.fd = -1
        self._pipes.discard(pipe)

    def _empty_and_shut(self) -> None:
        """What is in them can be written still: the room for it is reserved."""
        for pipe in list(self._pipes):
            try:
                batches, size = batches_of(self._peephole.look(pipe.fd) or b"")
                if batches:
                    self._write(batches)
                    take(pipe.fd, size)
            except Exception as error:  # the seam, as in `_drain`
                self._trouble(str(error) if isinstance(error, CoatcheckError) else repr(error))
        self._close_all()

    def _close_all(self) -> None:
        """What is in them stays there, for `start`, as long as their workers have them open."""
        self._shut = True
        for pipe in list(self._pipes):
            self._close(pipe)


def _is_left(fd: int) -> bool:
    """Whether nobody has the pipe open for writing any more (poll(2), POLLHUP)."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
