"""Run by test_log in a mount namespace of its own: fills a small tmpfs under a log, and makes room again.

`full_disk FOLDER WHAT`, WHAT being the name of one of the functions here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit import chain
from appliance.audit.log import AuditLog, files_of, open_log
from appliance.audit.verify import verify_files
from appliance.model.errors import EnvironmentFailed
from tests.audit.signer import FakeVaultSigner
from tests.audit.test_chain import closed


def fails(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(EnvironmentFailed) as caught:
        call(*arguments)
    assert caught.value.code == "audit"
    return str(caught.value)


def mount(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)


def full(folder: Path) -> None:
    """A batch that finds no room is not written, and the next one is once there is some."""
    mount(folder, "256k")
    signer = FakeVaultSigner()
    path = folder / "audit.jsonl"
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    log = open_log(path, None, segment_bytes=60_000)
    log.append([closed(1)])
    log.checkpoint(signer.sign_now(chain.head_of(log.tip, 1.0)))
    message, batches = "", 0
    while not message:
        tip, size = log.tip, log.size
        try:
            log.append([closed(n) for n in range(50)])
            batches += 1
        except EnvironmentFailed as error:
            message = str(error)
    assert batches > 5
    assert "No space left on device" in message, message
    assert str(path) in message
    # nothing of the batch is there, and nothing was forgotten
    assert (log.tip, log.size, path.stat().st_size) == (tip, size, size)
    # small ones until not even those fit; then heads fail as well
    while True:
        try:
            log.append([closed(7)])
        except EnvironmentFailed:
            break
    assert "No space" in fails(log.append, [closed(8)])
    signed = signer.sign_now(chain.head_of(log.tip, 2.0))
    assert "No space" in fails(log.checkpoint, signed)
    assert not log.broken
    # room again: it goes on without a restart
    ballast.unlink()
    before = log.tip.sequence
    assert log.append([closed(n) for n in range(50)]).sequence == before + 50
    log.checkpoint(signer.sign_now(chain.head_of(log.tip, 3.0)))
    log.close()
    report = verify_files(files_of(path), signer.keys, signer.last)
    assert report.ok, report.findings
    assert report.last == before + 51
    assert len(files_of(path)) > 1


ROOM = 200_000


def fill(folder: Path) -> Path:
    """Somebody else takes all that is left."""
    ballast = folder / "ballast"
    with open(ballast, "ab", 0) as out:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                continue
    return ballast


def blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def fits(log: AuditLog, size: int) -> int:
    """Appends so many bytes; returns how many that were."""
    before, written = log.size, 0
    while written < size:
        log.append([closed(1)])
        written += log.size - before if log.size > before else log.size  # a new segment begins with nothing
        before = log.size
    return written


def until_full(log: AuditLog) -> int:
    """Appends until there is no room; returns the size before that."""
    while True:
        size = log.size
        try:
            log.append([closed(n) for n in range(50)])
        except EnvironmentFailed:
            return size


def seen(path: Path) -> int:
    """Bytes that a reader gets of all files, in which the chain is whole."""
    report = verify_files(files_of(path), None)
    assert report.ok, report.findings
    assert all(file.read_bytes().endswith(b"\n") for file in files_of(path) if file.stat().st_size)
    return sum(len(file.read_bytes()) for file in files_of(path))


def reserved(folder: Path) -> None:
    """What is reserved can be written, whoever else fills the disk."""
    mount(folder, "2m")
    path = folder / "audit.jsonl"
    log = open_log(path, None)
    log.append([closed(1)])
    log.reserve(ROOM)
    assert (path.stat().st_size, seen(path)) == (log.size, log.size)
    assert blocks(path) >= log.size + ROOM
    ballast = fill(folder)
    written = fits(log, ROOM)
    assert (path.stat().st_size, seen(path)) == (log.size, log.size)
    assert log.size >= written >= ROOM
    # nothing is promised after that: an append fails as it does without, and so does a new promise
    assert "has no room" in fails(log.reserve, ROOM)
    size = until_full(log)
    assert (log.size, seen(path)) == (size, size)
    assert not log.broken
    assert "has no room" in fails(log.reserve, ROOM)
    ballast.unlink()
    log.reserve(ROOM)
    fill(folder)
    fits(log, ROOM)
    # what was reserved is given back at the end
    ballast.unlink()
    log.reserve(ROOM)
    assert blocks(path) >= log.size + ROOM
    log.close()
    assert blocks(path) < log.size + 4096
    assert seen(path) == path.stat().st_size == log.size
    again = open_log(path, None)
    assert (again.size, again.repaired) == (log.size, 0)
    again.append([closed(1)])
    again.close()


KILLED = """
import os, sys
from pathlib import Path
from appliance.audit.log import open_log
from tests.audit.test_chain import closed
log = open_log(Path(sys.argv[1]), None)
log.append([closed(1)])
log.reserve(int(sys.argv[2]))
log.append([closed(2)])
os.kill(os.getpid(), 9)
"""


def killed(folder: Path) -> None:
    """The room of a log whose writer was killed is the next one's, and given back by it."""
    mount(folder, "2m")
    path = folder / "audit.jsonl"
    for life in range(1, 4):
        subprocess.run([sys.executable, "-c", KILLED, str(path), str(ROOM)], check=False)
        assert seen(path) == path.stat().st_size
        assert ROOM <= blocks(path) < 2 * ROOM
        assert verify_files(files_of(path), None).lines == 2 * life
    fill(folder)
    log = open_log(path, None)
    log.reserve(ROOM // 2)  # it is there: nobody else could have it
    fits(log, ROOM // 2)
    log.close()
    assert blocks(path) < log.size + 4096
    seen(path)


def rotated(folder: Path) -> None:
    """The next segment has the room that the one before had; if it cannot have it, that one goes on."""
    mount(folder, "2m")
    path = folder / "audit.jsonl"
    log = open_log(path, None, segment_bytes=50_000)
    log.reserve(ROOM)
    while len(files_of(path)) == 1:
        log.append([closed(1)])
    assert blocks(path) >= ROOM
    for file in files_of(path)[:-1]:
        assert blocks(file) < file.stat().st_size + 4096  # what it had not used is given back
    # a full disk: no other segment can have as much room
    ballast = fill(folder)
    fits(log, ROOM)
    assert len(files_of(path)) == 2
    assert log.size >= ROOM
    assert seen(path) == sum(file.stat().st_size for file in files_of(path))
    ballast.unlink()
    log.reserve(ROOM)
    log.append([closed(2)])
    assert len(files_of(path)) == 3
    assert blocks(path) >= ROOM
    fill(folder)
    fits(log, ROOM)
    log.close()
    assert all(blocks(file) < file.stat().st_size + 4096 for file in files_of(path))
    seen(path)


if __name__ == "__main__":
    {each.__name__: each for each in (full, reserved, killed, rotated)}[sys.argv[2]](Path(sys.argv[1]))
    print("ok")
