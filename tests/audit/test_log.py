"""The files: opened again after anything, or refused with the reason; rotated; shared by nobody."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit import chain
from appliance.audit.log import files_of, open_log
from appliance.audit.reader import lines_after
from appliance.audit.verify import verify_files
from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import EnvironmentFailed
from tests.audit.signer import FakeVaultSigner
from tests.audit.test_chain import closed, written


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    written(tmp_path, signer, 5, 2)
    log = open_log(tmp_path / "audit.jsonl", signer.last)
    assert log.tip.sequence == 7
    assert log.append([closed(9)]).sequence == 8
    log.close()
    assert verify_files(files_of(tmp_path / "audit.jsonl"), signer.keys, signer.last).ok
    with pytest.raises(EnvironmentFailed, match="closed"):
        log.append([closed(10)])


def test_segments_rotate_and_the_chain_runs_across(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    path = tmp_path / "audit.jsonl"
    for _ in range(3):
        log = open_log(path, signer.last, segment_bytes=2000)
        for n in range(20):
            log.append([closed(n), closed(n + 100)])
        log.checkpoint(signer.sign_now(chain.head_of(log.tip, 1.0)))
        log.close()
    files = files_of(path)
    assert len(files) > 5
    assert files[-1] == path
    assert all(f.stat().st_mode & 0o777 == 0o400 for f in files[:-1])
    report = verify_files(files, signer.keys, signer.last)
    assert report.ok, report.findings
    assert report.lines == 123
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    for after, limit in ((0, 5), (0, 1000), (17, 3), (60, 40), (122, 5), (123, 5)):
        assert lines_after(path, after, limit) == lines[after : after + limit]
    missing = verify_files(files[:2] + files[3:], signer.keys, signer.last)
    assert [f.problem for f in missing.findings] == ["deleted"]
    swapped = verify_files([files[1], files[0], *files[2:]], signer.keys, signer.last)
    assert not swapped.ok


def test_reading_by_bisection_in_a_large_file(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.jsonl", None)
    log.append([closed(n, "x" * (n % 700)) for n in range(2000)])
    log.close()
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    for after in (0, 1, 2, 500, 999, 1500, 1998, 1999, 2000, 5000):
        assert lines_after(tmp_path / "audit.jsonl", after, 7) == lines[after : after + 7]


def test_a_crash_between_the_two_steps_of_a_rotation(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    written(tmp_path, signer, 5, 2)
    os.rename(tmp_path / "audit.jsonl", tmp_path / f"audit.{1:020}.jsonl")
    log = open_log(tmp_path / "audit.jsonl", signer.last)
    log.append([closed(1)])
    log.close()
    assert verify_files(files_of(tmp_path / "audit.jsonl"), signer.keys, signer.last).ok


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.jsonl", None)
    with pytest.raises(EnvironmentFailed, match="another process"):
        open_log(tmp_path / "audit.jsonl", None)
    log.close()
    open_log(tmp_path / "audit.jsonl", None).close()


def refused(path: Path, last: SignedHead | None) -> str:
    with pytest.raises(EnvironmentFailed) as caught:
        open_log(path, last)
    assert caught.value.code == "audit"
    return str(caught.value)


def test_a_log_that_was_tampered_with_is_not_opened(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    written(tmp_path, signer, 25, 10)
    path = tmp_path / "audit.jsonl"
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)

    path.write_bytes(b"".join(lines[:15]))
    assert "the vault has signed sequence 21, but the log ends with 15" in refused(path, signer.last)
    path.write_bytes(b"")
    assert "missing" in refused(path, signer.last)
    path.unlink()
    assert "missing" in refused(path, signer.last)
    path.write_bytes(good.replace(b'"sent":3,', b'"sent":4,'))
    assert "line 4:" in refused(path, signer.last)
    forged, _ = chain.bind(chain.BEGIN, [closed(n, "forged") for n in range(30)])
    path.write_bytes(forged)
    assert "written anew" in refused(path, signer.last)
    path.write_bytes(b"not a log\n" + good)
    assert "line 1" in refused(path, signer.last)
    path.write_bytes(good)
    assert "knows of none" in refused(path, None)
    assert "not in the log" not in refused(path, SignedHead(Head(10, b"x" * 32, 1.0), "k", b""))
    open_log(path, signer.last).close()


def test_segments_that_hold_the_signed_line_may_not_go(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    path = tmp_path / "audit.jsonl"
    log = open_log(path, None, segment_bytes=1000)
    log.append([closed(1)])
    log.checkpoint(signer.sign_now(chain.head_of(log.tip, 1.0)))
    for n in range(20):
        log.append([closed(n)])
    log.close()
    files = files_of(path)
    assert len(files) > 2
    files[0].unlink()
    assert "signed" in refused(path, signer.last)


def test_a_log_changed_while_it_is_open_takes_no_more(tmp_path: Path) -> None:
    changes: list[Callable[[Path], None]] = [
        lambda p: os.truncate(p, 10),
        lambda p: p.unlink(),
        lambda p: os.link(p, f"{p}2"),
    ]
    for number, change in enumerate(changes):
        path = tmp_path / f"{number}" / "audit.jsonl"
        path.parent.mkdir()
        log = open_log(path, None)
        log.append([closed(1)])
        change(path)
        with pytest.raises(EnvironmentFailed, match="changed by something else"):
            log.append([closed(2)])
        with pytest.raises(EnvironmentFailed):
            log.append([closed(3)])
        log.close()


@given(st.data())
@settings(max_examples=40)
def test_a_log_cut_anywhere_after_the_signed_line_opens_and_verifies(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """What a crash may leave: any prefix of what was written that is no shorter than what was made durable."""
    signer = FakeVaultSigner()
    folder = tmp_path_factory.mktemp("cut")
    path = folder / "audit.jsonl"
    log = open_log(path, None)
    durable = 0
    for n, size in enumerate(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))):
        log.append([closed(n)] * size)
        if data.draw(st.booleans()):
            durable = log.size
            signed = signer.sign_now(chain.head_of(log.tip, 1.0))
            if data.draw(st.booleans()):  # or the crash comes before the checkpoint's own line
                log.checkpoint(signed)
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(durable, len(whole)))])
    log = open_log(path, signer.last)
    log.append([closed(99)])
    log.checkpoint(signer.sign_now(chain.head_of(log.tip, 2.0)))
    log.close()
    report = verify_files(files_of(path), signer.keys, signer.last)
    assert report.ok, report.findings


WRITER = """
import sys
from pathlib import Path
from appliance.audit.log import open_log
from tests.audit.test_chain import closed
log = open_log(Path(sys.argv[1]), None, segment_bytes=20_000)
n = log.tip.sequence
while True:
    tip = log.append([closed(n + i) for i in range(n % 50 + 1)])
    n = tip.sequence
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("lines", [1, 7, 40, 150])
def test_sigkill_at_any_point_loses_nothing_that_was_answered(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "audit.jsonl"
    answered = 0
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(lines):
            answered = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().splitlines(keepends=True)
        answered = max([answered, *(int(line) for line in rest if line.endswith(b"\n"))])
        writer.wait()
        writer.stdout.close()
    log = open_log(path, None)
    assert log.tip.sequence >= answered
    log.close()
    report = verify_files(files_of(path), None)
    assert report.ok, report.findings
    assert report.last >= answered


def test_room_is_seen_by_no_reader(tmp_path: Path) -> None:
    """Whatever the file system here does with it."""
    path = tmp_path / "audit.jsonl"
    log = open_log(path, None, segment_bytes=5_000)
    for n in range(60):
        log.reserve(10_000)
        log.append([closed(n)])
        assert path.stat().st_size == log.size
    log.close()
    report = verify_files(files_of(path), None)
    assert (report.ok, report.lines) == (True, 60)
    with pytest.raises(EnvironmentFailed, match="closed"):
        log.reserve(1)


def test_without_fallocate_it_is_asked_how_much_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: int) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr("appliance.audit.log._fallocate", unable)
    log = open_log(tmp_path / "audit.jsonl", None)
    log.reserve(1000)
    with pytest.raises(EnvironmentFailed, match=r"has no room for .* No space left on device") as caught:
        log.reserve(1 << 60)
    assert caught.value.code == "audit"
    assert log.append([closed(1)]).sequence == 1
    log.close()


@pytest.mark.world
@pytest.mark.parametrize("what", ["full", "reserved", "killed", "rotated"])
def test_a_full_disk(what: str, tmp_path: Path) -> None:
    """Real ENOSPC: a small tmpfs in a mount namespace of its own."""
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: a private mount namespace with a tmpfs is needed")
    script = Path(__file__).with_name("full_disk.py")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, str(script), str(tmp_path), what],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "ok"
