"""What a worker was told is handed over gets into the log, whoever is killed when; and what else it writes does not."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import uvloop
from msgspec import msgpack
from msgspec.structs import fields

from appliance.audit import intake
from appliance.audit import pipes as module
from appliance.audit.chain import Tip, bind
from appliance.ipc.record_pipe import MOST, SIZE, frame_of
from appliance.model.errors import EnvironmentFailed
from appliance.model.ids import JobId
from appliance.model.record import JobEnded
from tests.audit.handing_over import Taking, Worker, numbers, program, record, serving
from tests.proxy.loops import on_both_loops, run, until

TOO_LONG = (MOST + 1).to_bytes(4, "big")
AWAY = EnvironmentFailed("audit", "the disk is on fire")


def frame(*numbers: int, size: int = 3) -> bytes:
    return frame_of(msgpack.encode([record(number, "e" * size) for number in numbers]))


def opened(path: str) -> int:
    """As a worker opens it."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)


def write(pipe: int, data: bytes) -> None:
    assert os.write(pipe, data) == len(data)


def is_left(pipe: int) -> bool:
    try:
        os.write(pipe, b"")  # of no length: does not reach the pipe, but says nothing either
        write(pipe, frame())
    except BrokenPipeError:
        return True
    return False


@asynccontextmanager
async def taking(folder: Path) -> AsyncIterator[Taking]:
    made = Taking(folder)
    made.pipes.start()
    try:
        yield made
    finally:
        made.close()


def fail(error: Exception) -> Callable[[], None]:
    def failing() -> None:
        raise error

    return failing


@on_both_loops
def test_every_pipes_records_in_their_order(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipes = [opened(control.pipes.open()) for _ in range(5)]
            for number in range(300):
                write(pipes[number % 5], frame(number, number + 1000))
                if number % 37 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(numbers(tmp_path)) == 600)
            for pipe in pipes:
                os.close(pipe)
            await until(lambda: not list(control.folder.iterdir()))
            assert control.troubles == []
        found = numbers(tmp_path)
        for which in range(5):
            wanted = [each for number in range(which, 300, 5) for each in (number, number + 1000)]
            assert [each for each in found if each % 5 == which] == wanted

    run(loop, main())


@on_both_loops
def test_what_is_no_record_of_a_worker_is_left_out(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipe = opened(control.pipes.open())
            forged = msgpack.encode([JobEnded(1.0, JobId("j"), "x")])

            def troubled(times: int) -> bool:
                return len(control.troubles) == times

            bad = (b"", b"x", b"\xc1" * 100, b"\x91" * 100_000, forged, msgpack.encode([record(50), {"type": "no"}]))
            for number, batch in enumerate(bad):
                write(pipe, frame(number) + frame_of(batch))
                await until(partial(troubled, number + 1))
            write(pipe, frame(len(bad)))
            await until(lambda: len(numbers(tmp_path)) == len(bad) + 1)
            assert numbers(tmp_path) == list(range(len(bad) + 1))
            os.close(pipe)

    run(loop, main())


@on_both_loops
def test_a_bad_length_ends_its_pipe_alone(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            bad, good = opened(control.pipes.open()), opened(control.pipes.open())
            write(bad, TOO_LONG)
            await until(lambda: len(control.troubles) == 1)
            assert is_left(bad)
            assert len(list(control.folder.iterdir())) == 1
            write(good, frame(1))
            await until(lambda: numbers(tmp_path) == [1])
            os.close(bad)
            os.close(good)

    run(loop, main())


@on_both_loops
def test_a_bad_length_takes_nothing_back(loop: str, tmp_path: Path) -> None:
    """A worker that is taken over must not get rid of what it said just before."""

    async def main() -> None:
        async with taking(tmp_path) as control:
            pipe = opened(control.pipes.open())
            write(pipe, frame(1) + frame(2) + TOO_LONG + frame(3))
            await until(lambda: control.troubles)
            assert is_left(pipe)
            os.close(pipe)
        assert numbers(tmp_path) == [1, 2]

    run(loop, main())


@on_both_loops
@pytest.mark.parametrize("left", [1, 4, 5, 30])
def test_an_end_within_a_frame_harms_nothing(loop: str, left: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipe, other = opened(control.pipes.open()), opened(control.pipes.open())
            write(pipe, frame(1) + frame(2)[:left])
            await until(lambda: numbers(tmp_path) == [1])
            os.close(pipe)
            await until(lambda: control.troubles)
            assert len(list(control.folder.iterdir())) == 1
            write(other, frame(3))
            await until(lambda: numbers(tmp_path) == [1, 3])
            assert len(control.troubles) == 1
            os.close(other)

    run(loop, main())


@on_both_loops
def test_a_frame_that_is_finished_while_the_log_is_written_is_not_lost(loop: str, tmp_path: Path) -> None:
    """Its worker may be killed right after: it was handed over all the same."""

    async def main() -> None:
        async with taking(tmp_path) as control:
            pipe = opened(control.pipes.open())
            rest = frame(2)

            def finish() -> None:
                if rest:
                    write(pipe, rest[10:])
                    os.close(pipe)
                    control.before = lambda: None

            control.before = finish
            write(pipe, frame(1) + rest[:10])
            await until(lambda: not list(control.folder.iterdir()))
            assert numbers(tmp_path) == [1, 2]
            assert control.troubles == []

    run(loop, main())


@on_both_loops
def test_a_log_that_cannot_be_written_ends_all_pipes_until_it_can(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipe, other = opened(control.pipes.open()), opened(control.pipes.open())
            control.before = fail(AWAY)
            write(pipe, frame(1))
            write(pipe, frame(2))
            await until(lambda: control.troubles)
            assert control.troubles == [str(AWAY)]
            assert is_left(pipe)
            assert is_left(other)
            with pytest.raises(EnvironmentFailed, match="cannot be written") as caught:
                control.pipes.open()
            assert caught.value.code == "audit"
            assert numbers(tmp_path) == []
            control.before = lambda: None
            new = opened(control.pipes.open())
            assert numbers(tmp_path) == [1, 2]  # before anybody is answered
            write(new, frame(3))
            await until(lambda: numbers(tmp_path) == [1, 2, 3])
            for each in (pipe, other, new):
                os.close(each)
            await until(lambda: not list(control.folder.iterdir()))

    run(loop, main())


@on_both_loops
def test_a_bug_in_writing_ends_all_pipes_too(loop: str, tmp_path: Path) -> None:
    """Else what is in them would be looked at, and perhaps written, again and again."""

    async def main() -> None:
        async with taking(tmp_path) as control:
            pipe, other = opened(control.pipes.open()), opened(control.pipes.open())
            bugs = [ZeroDivisionError()] * 50

            def bug() -> None:
                if bugs:
                    raise bugs.pop()

            control.after = bug
            write(pipe, frame(1))
            await until(lambda: control.troubles or not bugs)
            assert is_left(pipe)
            assert is_left(other)
            assert len(bugs) == 49
            bugs.clear()
            new = opened(control.pipes.open())
            assert numbers(tmp_path) == [1, 1]
            for each in (pipe, other, new):
                os.close(each)

    run(loop, main())


@on_both_loops
def test_while_one_pipe_cannot_be_written_none_is_open(loop: str, tmp_path: Path) -> None:
    """Also of those that nobody has written to when they are found again."""

    async def main() -> None:
        async with taking(tmp_path) as control:
            pipes = [opened(control.pipes.open()) for _ in range(4)]
            control.before = fail(AWAY)
            for pipe in pipes[:2]:
                write(pipe, frame(1))
            await until(lambda: control.troubles)
            for _ in range(2):
                with pytest.raises(EnvironmentFailed):
                    control.pipes.open()
                assert [is_left(pipe) for pipe in pipes] == [True] * 4
            control.before = lambda: None
            new = opened(control.pipes.open())
            assert numbers(tmp_path) == [1, 1]
            for each in (*pipes, new):
                os.close(each)

    run(loop, main())


@on_both_loops
def test_without_room_what_was_handed_over_is_written_and_no_more_is_taken(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipes = [opened(control.pipes.open()) for _ in range(3)]
            control.no_room = AWAY
            for number, pipe in enumerate(pipes):
                write(pipe, frame(number))
            await until(lambda: control.troubles)
            assert sorted(numbers(tmp_path)) == [0, 1, 2]
            assert [is_left(pipe) for pipe in pipes] == [True] * 3
            with pytest.raises(EnvironmentFailed, match="on fire"):
                control.pipes.open()
            control.no_room = None
            new = opened(control.pipes.open())
            write(new, frame(3))
            await until(lambda: len(numbers(tmp_path)) == 4)
            assert max(control.wanted) == 4 * module._ROOM  # for each pipe
            for each in (*pipes, new):
                os.close(each)

    run(loop, main())


@pytest.mark.parametrize("why", ["no room", "the end"])
@on_both_loops
def test_a_bad_length_does_not_keep_the_others_from_being_written(loop: str, why: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipes = [opened(control.pipes.open()) for _ in range(8)]
            first = opened(control.pipes.open())
            if why == "no room":
                write(first, frame(100))
                control.no_room = AWAY
            for number, pipe in enumerate(pipes):
                write(pipe, frame(number) + (TOO_LONG if number % 2 else b""))
            if why == "no room":
                await until(lambda: AWAY.args[0] in "".join(control.troubles))
        assert {number for number in numbers(tmp_path) if number < 100} == set(range(8))
        for pipe in (first, *pipes):
            os.close(pipe)

    run(loop, main())


@on_both_loops
def test_a_frame_larger_than_the_free_room_goes_in_pieces(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipe = opened(control.pipes.open())
            stream = b"".join(frame(number, size=400_000) for number in range(8))
            frames_before = frame(100) * 3
            write(pipe, frames_before)
            while stream:
                try:
                    stream = stream[os.write(pipe, stream) :]
                except BlockingIOError:
                    await asyncio.sleep(0.001)
            await until(lambda: len(numbers(tmp_path)) == 11)
            assert numbers(tmp_path) == [100] * 3 + list(range(8))
            os.close(pipe)
            await until(lambda: not list(control.folder.iterdir()))
            assert control.troubles == []

    run(loop, main())


@on_both_loops
def test_there_is_a_limit_to_pipes(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipes = [opened(control.pipes.open()) for _ in range(module._MOST)]
            for _ in range(3):
                with pytest.raises(EnvironmentFailed, match=f"{module._MOST} pipes") as caught:
                    control.pipes.open()
                assert caught.value.code == "audit"
            assert len(list(control.folder.iterdir())) == module._MOST
            write(pipes[0], frame(1))
            os.close(pipes[1])
            await until(lambda: len(list(control.folder.iterdir())) == module._MOST - 1)
            pipes[1] = opened(control.pipes.open())
            write(pipes[1], frame(2))
            await until(lambda: sorted(numbers(tmp_path)) == [1, 2])
            for pipe in pipes:
                os.close(pipe)

    run(loop, main())


@on_both_loops
def test_a_pipe_that_nobody_opens_is_removed(loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "_HEARD_WITHIN", 0.05)
        async with taking(tmp_path) as control:
            unheard = control.pipes.open()
            kept = opened(control.pipes.open())
            await until(lambda: not Path(unheard).exists())
            last = control.pipes.open()  # whose time is over later
            await until(lambda: not Path(last).exists())
            write(kept, frame(1))
            await until(lambda: numbers(tmp_path) == [1])
            assert control.troubles == []
            os.close(kept)

    run(loop, main())


@on_both_loops
def test_a_pipe_that_cannot_be_made_large_leaves_nothing(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fs.pipe-user-pages-soft, say: a worker asks again and again."""

    async def main() -> None:
        def small(fd: int) -> None:
            raise EnvironmentFailed("audit", "a pipe cannot hold that much")

        async with taking(tmp_path) as control:
            with monkeypatch.context() as patch:
                patch.setattr(module, "enlarge", small)
                for _ in range(module._MOST + 1):
                    with pytest.raises(EnvironmentFailed, match="cannot hold"):
                        control.pipes.open()
            assert list(control.folder.iterdir()) == []
            pipe = opened(control.pipes.open())
            write(pipe, frame(1))
            await until(lambda: numbers(tmp_path) == [1])
            os.close(pipe)

    run(loop, main())


@on_both_loops
def test_what_is_there_from_before_is_taken_at_the_start(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        before = Taking(tmp_path)
        before.pipes.start()
        paths = [before.pipes.open() for _ in range(4)]
        left, cut, quiet = (opened(path) for path in paths[:3])  # nobody opens the last one
        before.close()
        # a killed control leaves readers that the kernel closes, and pipes that their workers have open
        keep = [os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in paths]
        write(left, frame(1) + frame(2))
        write(cut, frame(3) + frame(4)[:9])
        for fd in keep:
            os.close(fd)
        other = tmp_path / "records" / "a-file"
        other.write_bytes(frame(9))
        async with taking(tmp_path) as control:
            assert sorted(numbers(tmp_path)) == [1, 2, 3]  # before anybody is answered
            assert not Path(paths[3]).exists()
            write(left, frame(5))
            write(cut, frame(4)[9:])
            write(quiet, frame(6))
            await until(lambda: sorted(numbers(tmp_path)) == [1, 2, 3, 4, 5, 6])
            for pipe in (left, cut, quiet):
                os.close(pipe)
            await until(lambda: list(control.folder.iterdir()) == [other])
            assert control.troubles == []

    run(loop, main())


@on_both_loops
def test_a_start_that_cannot_write_what_is_there_fails_and_loses_nothing(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        before = Taking(tmp_path)
        before.pipes.start()
        path = before.pipes.open()
        pipe = opened(path)
        keep = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        before.close()
        write(pipe, frame(1))
        os.close(keep)
        control = Taking(tmp_path)
        control.before = fail(AWAY)
        with pytest.raises(EnvironmentFailed, match="cannot be written"):
            control.pipes.start()
        control.close()
        async with taking(tmp_path):
            assert numbers(tmp_path) == [1]
        os.close(pipe)

    run(loop, main())


@on_both_loops
def test_the_end_writes_what_is_there(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with taking(tmp_path) as control:
            pipes = [opened(control.pipes.open()) for _ in range(3)]
            for number, pipe in enumerate(pipes):
                write(pipe, frame(number))
            os.close(pipes[0])
        assert sorted(numbers(tmp_path)) == [0, 1, 2]
        assert is_left(pipes[1])

    run(loop, main())


# ---- killed ----


@asynccontextmanager
async def living(folder: Path, *arguments: object) -> AsyncIterator[subprocess.Popen[str]]:
    """A control that is there, and killed at the end."""
    with program("control", folder, *arguments) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        yield process


Life = Callable[[subprocess.Popen[str]], Awaitable[object]]


def keeps_all(folder: Path, lives: list[Life], *arguments: object) -> Worker:
    """A worker hands over records while control lives, dies and is back; in the end all of them are in the log."""
    handed_over: list[int] = []

    async def main() -> Worker:
        async with living(folder):
            worker = Worker(folder, 0, handed_over.append)
            await until(lambda: len(handed_over) > 100)
        for life in lives:
            async with living(folder, *arguments) as process:
                await life(process)
        async with living(folder) as process:
            before = len(handed_over)
            await until(lambda: len(handed_over) > before + 100)  # it goes on by itself
            await worker.end()
            process.terminate()
            assert await asyncio.to_thread(process.wait) == 0
        await worker.close()
        return worker

    worker = uvloop.run(main())
    assert set(handed_over) - set(numbers(folder)) == set()
    return worker


def test_control_is_killed_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(os.urandom(8))

    async def live(process: subprocess.Popen[str]) -> None:
        await asyncio.sleep(chance.random() * 0.2)

    worker = keeps_all(tmp_path, [live] * 6)
    assert worker.refused > 0  # it was noticed


@pytest.mark.parametrize("when", ["before", "after"])
def test_control_is_killed_before_it_writes_or_before_it_takes_out(when: str, tmp_path: Path) -> None:
    async def live(process: subprocess.Popen[str]) -> None:
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL

    keeps_all(tmp_path, [live] * 3, when, 3)
    found = numbers(tmp_path)
    assert (len(found) > len(set(found))) == (when == "after")  # once more rather than never


def test_a_worker_is_killed_at_any_moment(tmp_path: Path) -> None:
    """What it was told is in the log although it is gone, without anybody asking."""
    chance = random.Random(os.urandom(8))

    async def main() -> None:
        control = Taking(tmp_path)
        async with serving(control, tmp_path):
            for life in range(5):
                with program("worker", tmp_path, life * 10**9) as process:
                    out = process.stdout
                    assert out is not None
                    first = await asyncio.to_thread(out.readline)
                    await asyncio.sleep(chance.random() * 0.1)
                    process.kill()
                    lines = [first, *(await asyncio.to_thread(out.read)).splitlines(keepends=True)]
                    process.wait()
                await until(lambda: not list(control.folder.iterdir()))  # the pipe is empty, and gone
                told = {int(line) for line in lines if line.endswith("\n")}
                assert told - set(numbers(tmp_path)) == set()
        assert all("within a record" in each for each in control.troubles)

    uvloop.run(main())


# ---- rights ----

OTHER_END = """
import errno, fcntl, os, sys
path, gid = sys.argv[1], int(sys.argv[2])
os.setgroups([]); os.setgid(gid); os.setuid(61950)
def word(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
folder = os.path.dirname(path)
pipe = -1
try:
    pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(pipe, bytes.fromhex(sys.argv[3]))
except OSError as error:
    print("write", errno.errorcode[error.errno])
print("read", word(lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK)))
print("both", word(lambda: os.open(path, os.O_RDWR | os.O_NONBLOCK)))
print("list", word(lambda: os.listdir(folder)))
print("remove", word(lambda: os.unlink(path)))
print("another", word(lambda: os.mkfifo(folder + "/mine")))
print("open to all", word(lambda: os.chmod(path, 0o666)))
if pipe >= 0:
    print("its own end", word(lambda: os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_NONBLOCK)))
    print("take back", word(lambda: os.read(pipe, 1)))
    print("splice", word(lambda: os.splice(pipe, os.open("/dev/null", os.O_WRONLY), 1)))
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
"""


@pytest.mark.parametrize("group", ["the workers'", "another"])
def test_what_a_worker_can_do_with_its_pipe(group: str, open_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: another user is needed")

    async def main() -> dict[str, str]:
        (open_folder / "records").mkdir()
        os.chown(open_folder / "records", -1, 61951)
        (open_folder / "records").chmod(0o2710)
        async with taking(open_folder) as control:
            path = control.pipes.open()
            found = os.stat(path)
            assert (found.st_mode & 0o7777, found.st_gid) == (0o620, 61951)
            gid = "61951" if group == "the workers'" else "61952"
            process = await asyncio.create_subprocess_exec(
                "/usr/bin/python3", "-c", OTHER_END, path, gid, frame(1).hex(), stdout=-1
            )
            out, _ = await process.communicate()
            assert process.returncode == 0
            if group == "the workers'":
                await until(lambda: not Path(path).exists())
        return dict(line.rsplit(" ", 1) for line in out.decode().splitlines())

    answers = uvloop.run(main())
    nothing = {"read": "EACCES", "both": "EACCES", "list": "EACCES", "remove": "EACCES", "another": "EACCES"}
    if group == "another":
        assert answers == {"write": "EACCES", **nothing, "open to all": "EACCES"}
        assert numbers(open_folder) == []
    else:
        own = {"its own end": "EACCES", "take back": "EBADF", "splice": "EBADF"}
        assert answers == {**nothing, "open to all": "EPERM", **own}
        assert numbers(open_folder) == [1]


# ---- room ----


def least(kind: Any, text: str) -> dict[str, Any]:
    """The record of a kind that has the shortest MessagePack, but for its texts."""
    values: dict[str, Any] = {"type": kind.__struct_config__.tag}
    for field in fields(kind):
        if field.required:
            values[field.encode_name] = text if field.type is str or "NewType" in str(type(field.type)) else 1
    return values


@pytest.mark.parametrize("text", ["", "\x01", "\x01" * 50, '"' * 50, "é" * 50])
def test_the_room_for_a_pipe_is_enough_for_whatever_is_in_it(text: str) -> None:
    tip = Tip(10**19, "f" * 64)
    for kind in get_args(intake._Kinds):
        made = least(kind, text)
        try:
            batch = msgpack.encode([made])
            _, payloads = intake.read(batch)
        except Exception:
            made["tls"] = True
            batch = msgpack.encode([made])
            _, payloads = intake.read(batch)
        lines, _ = bind(tip, payloads * 1000)
        each = len(msgpack.encode(made))  # one more in a batch
        assert len(lines) / 1000 * SIZE / each <= module._ROOM, kind


def test_sizes_fit_each_other() -> None:
    assert intake.MAX_RECORD < MOST < SIZE
    assert errno.ENOSPC == 28
    assert sys.platform == "linux"
