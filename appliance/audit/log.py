"""The log's files: append-only, whole batches only, rotated by size, the chain continuing across.

`audit.jsonl` is written to; when it is large enough it becomes `audit.<sequence of its first line>.jsonl` and
is never touched again. A batch is one write(2); if it cannot be written whole, what did get there is cut off
again and the append fails. LIMITS: the loop's thread writes, into the page cache; a disk that stalls the page
cache stalls everybody who must have a record first, which is what they asked for.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.audit import chain
from appliance.audit.chain import Tip
from appliance.audit.verify import Finding, Verifier, feed_file
from appliance.ipc.messages import SignedHead
from appliance.model.errors import EnvironmentFailed, PeerError

SEGMENT_BYTES = 32 << 20  # opening again reads at most two segments: about half a second each
_DIGITS = 20  # of the largest 64-bit sequence
_FALLOC_FL_KEEP_SIZE = 1  # <linux/falloc.h>: blocks after the end, which readers do not see

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True)
class Segment:
    path: Path
    first: int  # sequence of its first line


def _failed(message: str) -> EnvironmentFailed:
    return EnvironmentFailed("audit", message)


def segments_of(path: Path) -> list[Segment]:
    """The rotated segments beside the active file `path`, oldest first, without the active one."""
    pattern = re.compile(re.escape(path.stem) + rf"\.(\d{{{_DIGITS}}})" + re.escape(path.suffix))
    found = [(pattern.fullmatch(entry.name), entry) for entry in path.parent.iterdir()]
    return sorted((Segment(entry, int(match[1])) for match, entry in found if match), key=lambda s: s.first)


def files_of(path: Path) -> list[Path]:
    """Every file of the log in the order of its lines, the active one last."""
    files = [segment.path for segment in segments_of(path)]
    return [*files, path] if path.exists() else files


class AuditLog:
    """One process's hold on one log (flock). Not for two threads, but for `sync`, which any thread may call."""

    def __init__(self, path: Path, fd: int, lock: int, tip: Tip, first: int, size: int, segment_bytes: int) -> None:
        self._path = path
        self._fd = fd
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._broken = ""
        self._first = first  # sequence of the active segment's first line
        self.tip = tip
        self.size = size  # bytes of the active segment, all of them whole lines
        self.repaired = 0  # bytes of a torn last line that opening cut off
        self._room = 0  # bytes that are wanted after the end
        self._reserved = 0  # how far the active segment has blocks

    @property
    def path(self) -> Path:
        return self._path

    @property
    def broken(self) -> str:
        """Why nothing is appended any more until a restart; "" if all is well."""
        return self._broken

    def append(self, payloads: list[bytes]) -> Tip:
        """Writes canonical payloads as lines, all or none, and returns the new tip.

        Raises EnvironmentFailed("audit") if they are not all written; then the log is as it was.
        """
        data, tip = chain.bind(self.tip, payloads)
        return self._write(data, tip)

    def checkpoint(self, head: SignedHead) -> Tip:
        """Writes a signed head as a line of its own. Raises as `append` does."""
        data, tip = chain.bind_head(self.tip, head)
        return self._write(data, tip)

    def reserve(self, room: int) -> None:
        """Returns once `room` bytes after the end are the log's, whoever else fills the disk, also in the next
        segment. Raises EnvironmentFailed("audit") if they cannot be had.

        LIMITS: a file system without fallocate(2) (NFS, ZFS) is asked how much is free, which nobody reserves.
        """
        self._room = room
        if self._broken:
            raise _failed(self._broken)
        if self._reserved - self.size < room:
            try:
                self._reserved = _reserve(self._fd, self.size, room + room // 2)
            except OSError as error:
                raise _failed(f"{self._path} has no room for {room} bytes more: {error.strerror}") from None

    def sync(self) -> None:
        """Returns once all that is written is on the disk. Raises EnvironmentFailed; then the log is broken,
        since the kernel may have dropped what it could not write (fsync(2), NOTES)."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self.break_off(f"{self._path} cannot be made durable: {error.strerror}")
            raise _failed(self._broken) from None

    def break_off(self, reason: str) -> None:
        """No append succeeds after this."""
        self._broken = self._broken or reason

    def close(self) -> None:
        if self._reserved and not self._broken:
            self._give_back(self._fd)
        os.close(self._fd)
        os.close(self._lock)
        self.break_off("the audit log is closed")

    def _write(self, data: bytes, tip: Tip) -> Tip:
        if self._broken:
            raise _failed(self._broken)
        if self.size >= self._segment_bytes:
            self._rotate()
        state = os.fstat(self._fd)
        if state.st_size != self.size or state.st_nlink != 1:
            self.break_off(f"{self._path} was changed by something else; run the audit's verify")
            raise _failed(self._broken)
        try:
            written = os.write(self._fd, data)
            while written < len(data):  # a full disk writes a part first, and fails at the next try
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError as error:
            self._undo()
            raise _failed(f"{self._path} cannot be written: {error.strerror}") from None
        self.size += len(data)
        self.tip = tip
        return tip

    def _give_back(self, fd: int) -> None:
        """The blocks after the end, which are only reserved: if they stay, nothing is lost but their room."""
        with suppress(OSError):
            os.ftruncate(fd, self.size)

    def _undo(self) -> None:
        self._reserved = 0  # they go with it
        try:
            os.ftruncate(self._fd, self.size)
        except OSError as error:
            self.break_off(f"{self._path} holds half a batch that cannot be cut off: {error.strerror}")

    def _rotate(self) -> None:
        """Goes on in a new file. If none can be made, the old one goes on growing."""
        self.sync()
        rotated = self._path.with_name(f"{self._path.stem}.{self._first:0{_DIGITS}}{self._path.suffix}")
        try:
            os.rename(self._path, rotated)
        except OSError:
            return
        try:
            fd = self._next_segment()
        except OSError:
            os.rename(rotated, self._path)
            return
        if self._room:
            self._give_back(self._fd)
        os.fchmod(self._fd, 0o400)
        os.dup2(fd, self._fd, inheritable=False)  # a sync on another thread keeps a valid descriptor
        os.close(fd)
        self.size = 0
        self._first = self.tip.sequence + 1

    def _next_segment(self) -> int:
        """With the room that the one before had. Raises OSError."""
        fd = _create(self._path)
        if self._room:
            try:
                self._reserved = _reserve(fd, 0, self._room + self._room // 2)
            except OSError:
                os.close(fd)
                self._path.unlink()
                raise
        return fd


def _reserve(fd: int, start: int, size: int) -> int:
    """Where the blocks end that the file has now. Raises OSError."""
    while _fallocate(fd, _FALLOC_FL_KEEP_SIZE, start, size) != 0:
        number = ctypes.get_errno()
        if number == errno.EINTR:
            continue
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
        free = os.fstatvfs(fd)
        if free.f_bavail * free.f_frsize < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        break
    return start + size


def _create(path: Path) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the name must outlive a crash too
    finally:
        os.close(folder)
    return fd


def open_log(path: Path, last_head: SignedHead | None, *, segment_bytes: int = SEGMENT_BYTES) -> AuditLog:
    """Opens the log at `path`, or begins it, if it continues what the vault signed last (`last_head`).

    A last line without its line feed is what a crash leaves of an append that nobody was told of: it is cut
    off, and `repaired` says how many bytes that were. Raises EnvironmentFailed("audit") if another process has
    the log, or it was truncated, rolled back, edited in the part that is read (from the segment of the last
    signed line on), or is not the log that the vault signed.
    """
    lock = _lock(path.with_suffix(".lock"))
    try:
        return _open_locked(path, lock, last_head, segment_bytes)
    except BaseException:
        os.close(lock)
        raise


def _lock(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failed(f"{path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise _failed(f"another process writes to the audit log beside {path}") from None
    return fd


def _open_locked(path: Path, lock: int, last_head: SignedHead | None, segment_bytes: int) -> AuditLog:
    try:
        torn = _cut_torn_line(path)
        segments = segments_of(path)
        tip, first = _check(path, segments, last_head)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC) if path.exists() else _create(path)
        size = os.fstat(fd).st_size
    except OSError as error:
        raise _failed(f"the audit log {path} cannot be opened: {error.strerror}") from None
    log = AuditLog(path, fd, lock, tip, first if size else tip.sequence + 1, size, segment_bytes)
    log.repaired = torn
    return log


def _cut_torn_line(path: Path) -> int:
    """Cuts off what follows the last line feed; returns how many bytes that were."""
    if not path.exists():
        return 0
    with open(path, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            cut = file.read(end - start).rfind(b"\n")
            if cut >= 0:
                end = start + cut + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
        return size - end


def _check(path: Path, rotated: list[Segment], last_head: SignedHead | None) -> tuple[Tip, int]:
    """The tip and the sequence of the active file's first line, if all from the signed segment on is in order."""
    segments = list(rotated)
    if path.exists() and path.stat().st_size:
        with open(path, "rb") as file:
            try:
                first = chain.read_line(file.readline(chain.MAX_LINE + 1).rstrip(b"\n")).seq
            except PeerError as error:
                raise _failed(f"{path}, line 1: {error}") from None
        segments.append(Segment(path, first))
    if not segments:
        if last_head is not None:
            raise _failed(
                f"the audit log {path} is missing: the vault has signed it up to sequence {last_head.head.sequence}"
            )
        return chain.BEGIN, 1
    signed = last_head.head.sequence if last_head is not None else 0
    start = max((i for i, s in enumerate(segments) if s.first <= signed), default=0)
    verifier = Verifier(keys=None, last_head=last_head, from_start=segments[start].first == 1)
    for segment in segments[start:]:
        feed_file(verifier, segment.path)
    report = verifier.finish()
    if report.findings:
        raise _failed(f"the audit log cannot be continued: {_sentence(report.findings[0])}")
    if last_head is None and report.checkpoints:
        raise _failed(
            f"the audit log {path} holds heads that were signed, but the vault knows of none: its state was lost "
            "or rolled back, or this is another host's log"
        )
    return Tip(report.last, report.last_hash), segments[-1].first


def _sentence(finding: Finding) -> str:
    return f"{finding.segment}, line {finding.line}: {finding.message}"
