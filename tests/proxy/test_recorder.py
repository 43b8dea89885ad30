"""What must be on the record before it happens is told so only once it is in the pipe to control, whole."""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from appliance.audit import intake
from appliance.ipc.record_pipe import MOST
from appliance.model.ids import FlowId
from appliance.model.record import FlowClosed, OperationDecided, Record, StatementDecided
from appliance.proxy import recorder as module
from appliance.proxy.recorder import Recorder
from tests.proxy.fake_control import FakeControl
from tests.proxy.loops import on_both_loops, run, until

ROOM = 1 << 16  # of a pipe that is soon full


def record(number: int) -> Record:
    return FlowClosed(float(number), FlowId(f"f-{number}"), 1, 2, 3, "eof")


def long_record(number: int, size: int) -> Record:
    return OperationDecided(1.0, FlowId(f"f-{number}"), number, "GET", "h", "/" + "x" * size, "allow", "r")


def bytes_in(path: Path) -> int:
    """What is in a pipe that somebody reads from."""
    with keeping(path) as fd:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), "little")


@contextmanager
def keeping(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


@on_both_loops
def test_a_record_is_handed_over_without_anybody_who_reads(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        control.stall()
        recorder = Recorder(control)
        assert await recorder.write(record(1)) is True
        assert bytes_in(control.paths[0]) > 0
        assert control.batches == []
        control.go_on()
        await until(lambda: control.flows == ["f-1"])
        assert control.asked == 1

    run(loop, main())


@on_both_loops
def test_a_record_is_told_handed_over_only_once_all_of_it_is(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path, room=ROOM)
        control.stall()
        recorder = Recorder(control)
        told: list[str] = []
        recorder.put(record(1), lambda ok: told.append(f"1: {ok}"))
        await until(lambda: told)
        recorder.put(long_record(2, 2 * ROOM), lambda ok: told.append(f"2: {ok}"))
        await until(lambda: bytes_in(control.paths[0]) > ROOM // 2)  # a part of it
        recorder.put(record(3), lambda ok: told.append(f"3: {ok}"))
        await asyncio.sleep(0.02)
        assert told == ["1: True"]
        control.go_on()
        await until(lambda: len(told) == 3)
        assert told == ["1: True", "2: True", "3: True"]
        await until(lambda: len(control.flows) == 3)
        assert control.flows == ["f-1", "f-2", "f-3"]

    run(loop, main())


@on_both_loops
def test_a_record_that_cannot_be_handed_over_is_told_so_and_the_next_is_tried(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        control.broken = True
        recorder = Recorder(control)
        assert await recorder.write(record(1)) is False
        recorder.put(record(2))
        await recorder.drain()
        assert recorder.lost == 1
        control.broken = False
        assert await recorder.write(record(3)) is True
        await until(lambda: control.flows)
        assert control.flows == ["f-3"]

    run(loop, main())


@on_both_loops
def test_what_is_no_pipe_is_not_written_to(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "file"
        file.touch()
        (tmp_path / "link").symlink_to(tmp_path / "pipe-0")

        class Wrong(FakeControl):
            answers = ("file", "link", "nothing")

            async def call(self, *arguments: object, **named: object) -> str:
                self.asked += 1
                return str(self.folder / self.answers[self.asked - 1])

        real = FakeControl(tmp_path)
        await real.call("records", result=str)  # what the link leads to could be opened
        control = Wrong(tmp_path)
        recorder = Recorder(control)
        for number in range(3):
            assert await recorder.write(record(number)) is False
        assert file.read_bytes() == b""
        assert (control.asked, real.batches) == (3, [])

    run(loop, main())


@on_both_loops
def test_records_keep_their_order_and_go_together(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        recorder = Recorder(control)
        told: list[int] = []

        def tell(number: int, ok: bool) -> None:
            told.append(number)

        for number in range(5000):
            recorder.put(record(number), partial(tell, number) if number % 2 else None)
        await recorder.drain()
        await until(lambda: len(control.flows) == 5000)
        assert control.flows == [f"f-{number}" for number in range(5000)]
        assert told == list(range(1, 5000, 2))
        assert max(map(len, control.batches)) <= 2000
        assert len(control.batches) < 50

    run(loop, main())


@on_both_loops
def test_long_paths_by_the_hundred_go_in_frames_that_control_takes(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        recorder = Recorder(control)
        told: list[bool] = []
        for number in range(300):
            recorder.put(long_record(number, 65000), told.append)
        await recorder.drain()
        await until(lambda: len(control.records) == 300)
        assert [each["operation"] for each in control.records] == list(range(300))
        assert told == [True] * 300
        assert max(map(len, control.frames)) <= MOST

    run(loop, main())


def statement(parameters: tuple[str, ...]) -> Record:
    return StatementDecided(1.0, FlowId("f-1"), 1, "select", "s", "allow", "r", parameters=parameters)


LARGE = {
    "over control's limit for a record": long_record(1, intake.MAX_RECORD + 1000),
    "over that limit by its escapes": statement(("\x01" * 8192,) * 45),
    "parameters that policy wants on record": statement(("x" * 8192,) * 90),
    "over the limit for a frame": long_record(1, MOST + 1000),
}


@pytest.mark.parametrize("name", LARGE)
@on_both_loops
def test_what_control_would_not_take_is_refused_and_nothing_else(loop: str, name: str, tmp_path: Path) -> None:
    """The agent chooses how long a record is: it must not get an operation past the log so, nor end the recording of
    others' operations."""

    async def main() -> None:
        control = FakeControl(tmp_path)
        recorder = Recorder(control)
        told: list[str] = []

        def tell(number: int, ok: bool) -> None:
            told.append(f"{number}: {ok}")

        for number, each in enumerate((record(0), LARGE[name], record(2))):
            recorder.put(each, partial(tell, number))
        assert await recorder.write(record(3))
        assert sorted(told) == ["0: True", "1: False", "2: True"]
        await until(lambda: "f-3" in control.flows)
        assert [flow for flow in control.flows if flow != "f-3"] == ["f-0", "f-2"]

    run(loop, main())


@on_both_loops
def test_the_longest_path_with_the_worst_escapes_is_taken(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        recorder = Recorder(control)
        longest = OperationDecided(1.0, FlowId("f-1"), 1, "GET", "h", "/" + "\x01" * 65536, "allow", "r")
        assert await recorder.write(longest) is True
        await until(lambda: control.frames)
        assert intake.read(control.frames[0])[0] == [longest]

    run(loop, main())


@on_both_loops
def test_what_nobody_waits_for_is_sent_all_the_same(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        recorder = Recorder(control)
        recorder.put(record(1))
        await until(lambda: control.batches)
        assert recorder.waiting == 0

    run(loop, main())


@on_both_loops
def test_a_queue_that_is_full_refuses(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        control.gate.clear()
        recorder = Recorder(control)
        told: list[bool] = []
        for number in range(module._MOST_WAITING):
            recorder.put(record(number))
        recorder.put(record(0), told.append)
        recorder.put(record(0))
        assert told == []  # never from within the call
        await until(lambda: told)
        assert told == [False]
        assert recorder.lost == 1
        control.gate.set()
        await recorder.drain()
        await until(lambda: len(control.flows) == module._MOST_WAITING)

    run(loop, main())


@on_both_loops
def test_a_callback_that_fails_leaves_the_others_told(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        recorder = Recorder(FakeControl(tmp_path))
        told: list[bool] = []

        def breaks(ok: bool) -> None:
            raise RuntimeError("a bug of one flow")

        recorder.put(record(1), breaks)
        recorder.put(record(2), told.append)
        await recorder.drain()
        assert told == [True]

    run(loop, main())


@on_both_loops
def test_a_writer_that_gives_up_breaks_nothing(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        control.gate.clear()
        recorder = Recorder(control)
        writer = asyncio.ensure_future(recorder.write(record(1)))
        await until(lambda: control.asked)
        writer.cancel()
        control.gate.set()
        assert await recorder.write(record(2)) is True

    run(loop, main())


async def half_written(control: FakeControl, recorder: Recorder, told: list[bool]) -> None:
    """A frame that is begun, and for which there is no room."""
    control.stall()
    recorder.put(long_record(1, 3 * ROOM), told.append)
    await until(lambda: control.paths and bytes_in(control.paths[0]) > ROOM // 2)
    recorder.put(record(2), told.append)


@on_both_loops
def test_what_control_makes_no_room_for_is_refused_until_it_does(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path, room=ROOM)
        recorder = Recorder(control)
        told: list[bool] = []
        await half_written(control, recorder, told)
        assert told == []
        recorder._give_up()  # what a timer does
        assert told == [False, False]
        assert await recorder.write(record(3)) is False  # at once
        recorder.put(record(4))
        assert recorder.lost == 1
        control.go_on()
        await until(lambda: control.flows == ["f-1"])  # a frame that is begun is brought to its end: others follow it
        while await recorder.write(record(5)) is False:
            await asyncio.sleep(0)
        await until(lambda: len(control.flows) == 2)
        assert control.flows == ["f-1", "f-5"]
        assert told == [False, False]
        assert control.asked == 1

    run(loop, main())


@on_both_loops
def test_an_end_does_not_wait_for_a_control_that_makes_no_room(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path, room=ROOM)
        recorder = Recorder(control)
        told: list[bool] = []
        await half_written(control, recorder, told)
        drained = asyncio.ensure_future(recorder.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        recorder._give_up()
        assert told == [False, False]
        await drained
        recorder.close()

    run(loop, main())


@on_both_loops
def test_control_goes_within_a_frame(loop: str, tmp_path: Path) -> None:
    """What it was for does not happen; the next record goes into another pipe; the rest never arrives in the first."""

    async def main() -> None:
        control = FakeControl(tmp_path, room=ROOM)
        recorder = Recorder(control)
        told: list[bool] = []
        await half_written(control, recorder, told)
        control.leave()
        await until(lambda: len(told) == 2)
        assert told == [False, True]  # the second one had not been begun
        await until(lambda: control.flows)
        assert control.flows == ["f-2"]
        assert control.asked == 2

    run(loop, main())


@on_both_loops
def test_what_was_handed_over_outlives_control(loop: str, tmp_path: Path) -> None:
    """The pipe that control has left stays open until it has answered again: it has then taken what was in it."""

    async def main() -> None:
        control = FakeControl(tmp_path)
        control.stall()
        recorder = Recorder(control)
        assert await recorder.write(record(1)) is True
        assert await recorder.write(record(2)) is True
        control.leave()
        control.broken = True
        for number in range(3, 6):
            assert await recorder.write(record(number)) is False
        control.gate.clear()
        control.broken = False
        writing = asyncio.ensure_future(recorder.write(record(6)))
        await until(lambda: control.asked == 4)
        control.open(control.paths[0])
        await until(lambda: len(control.flows) == 2)
        assert control.ended == []
        control.gate.set()
        assert await writing is True
        await until(lambda: control.ended == control.paths[:1] and len(control.flows) == 3)
        assert control.flows == ["f-1", "f-2", "f-6"]

    run(loop, main())


@on_both_loops
def test_a_control_that_is_back_before_anybody_noticed(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        recorder = Recorder(control)
        assert await recorder.write(record(1)) is True
        control.leave()
        control.open(control.paths[0])
        assert await recorder.write(record(2)) is True
        await until(lambda: len(control.flows) == 2)
        assert control.asked == 1

    run(loop, main())


@on_both_loops
def test_the_end_closes_all_pipes(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        control = FakeControl(tmp_path)
        recorder = Recorder(control)
        assert await recorder.write(record(1)) is True
        control.leave()
        control.broken = True
        assert await recorder.write(record(2)) is False
        control.broken = False
        control.open(control.paths[0])
        control.gate.clear()
        recorder.put(record(3))
        control.gate.set()
        await recorder.drain()
        recorder.close()
        await until(lambda: sorted(control.ended) == control.paths)
        assert control.flows[-1] == "f-3"

    run(loop, main())
