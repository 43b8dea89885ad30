"""What must be on the record before it happens is told so only once control has written it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from appliance.ipc.frame import MAX_FRAME
from appliance.model.errors import CoatcheckError, EnvironmentFailed
from appliance.model.ids import FlowId
from appliance.model.record import FlowClosed, OperationDecided, Record
from appliance.proxy import recorder as module
from appliance.proxy.recorder import Recorder
from tests.proxy.loops import on_both_loops, run, until


class Control:
    """Takes batches; each is written once `gate` is set, or refused while `broken`."""

    def __init__(self, connected: bool = True) -> None:
        self.batches: list[list[Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.under_way = 0
        self.connected = connected
        self.posted: dict[int, asyncio.Future[None]] = {}

    async def call(self, method: str, params: Any, **_: Any) -> None:
        assert method == "append"
        self.under_way += 1
        assert self.under_way == 1  # one message at a time: the order of records is the order of `put`
        try:
            await self.gate.wait()
            if self.broken:
                raise EnvironmentFailed("audit", "the disk is full")
            self.batches.append(msgspec.msgpack.decode(params))
        finally:
            self.under_way -= 1

    def post(self, method: str, params: Any, done: Callable[[CoatcheckError | None], None]) -> int:
        if not self.connected:
            return 0
        self.posted[self.under_way + 1] = asyncio.ensure_future(self._post(method, params, done))
        return self.under_way + 1

    async def _post(self, method: str, params: Any, done: Callable[[CoatcheckError | None], None]) -> None:
        error: CoatcheckError | None = None
        try:
            await self.call(method, params)
        except CoatcheckError as failed:
            error = failed
        done(error)

    def forget(self, number: int) -> None:
        self.posted[number].cancel()


def record(number: int) -> Record:
    return FlowClosed(float(number), FlowId(f"f-{number}"), 1, 2, 3, "eof")


def recorder_of(control: Control) -> Recorder:
    return Recorder(control)


@on_both_loops
def test_a_record_is_told_written_only_after_it_is(loop: str) -> None:
    async def main() -> None:
        control = Control()
        control.gate.clear()
        recorder = recorder_of(control)
        told: list[bool] = []
        recorder.put(record(1), told.append)
        await asyncio.sleep(0.05)
        assert told == []
        control.gate.set()
        await until(lambda: told)
        assert told == [True]
        assert len(control.batches) == 1

    run(loop, main())


@on_both_loops
def test_a_record_that_cannot_be_written_is_told_so_and_the_next_is_tried(loop: str) -> None:
    async def main() -> None:
        control = Control()
        control.broken = True
        recorder = recorder_of(control)
        assert await recorder.write(record(1)) is False
        recorder.put(record(2))
        await recorder.drain()
        assert recorder.lost == 1
        control.broken = False
        assert await recorder.write(record(3)) is True
        assert [each["flow"] for each in control.batches[0]] == ["f-3"]

    run(loop, main())


@on_both_loops
def test_records_keep_their_order_and_go_together(loop: str) -> None:
    async def main() -> None:
        control = Control()
        recorder = recorder_of(control)
        told: list[int] = []
        for number in range(5000):
            recorder.put(record(number), (lambda ok, n=number: told.append(n)) if number % 2 else None)  # type: ignore[misc]
        await recorder.drain()
        sent = [each["flow"] for batch in control.batches for each in batch]
        assert sent == [f"f-{number}" for number in range(5000)]
        assert told == list(range(1, 5000, 2))
        assert max(map(len, control.batches)) <= 2000
        assert len(control.batches) < 10

    run(loop, main())


@on_both_loops
def test_long_paths_by_the_hundred_go_in_messages_that_control_takes(loop: str) -> None:
    async def main() -> None:
        control = Control()
        recorder = recorder_of(control)
        told: list[bool] = []
        path = "/" + "x" * 65000
        for number in range(300):
            recorder.put(OperationDecided(1.0, FlowId("f"), number, "GET", "h", path, "allow", "r"), told.append)
        await recorder.drain()
        assert [each["operation"] for batch in control.batches for each in batch] == list(range(300))
        assert told == [True] * 300
        assert max(len(msgspec.msgpack.encode(batch)) for batch in control.batches) < MAX_FRAME

    run(loop, main())


@on_both_loops
def test_what_nobody_waits_for_is_sent_all_the_same(loop: str) -> None:
    async def main() -> None:
        control = Control()
        recorder = recorder_of(control)
        recorder.put(record(1))
        await until(lambda: control.batches)
        assert recorder.waiting == 0

    run(loop, main())


@on_both_loops
def test_a_queue_that_is_full_refuses(loop: str) -> None:
    async def main() -> None:
        control = Control()
        control.gate.clear()
        recorder = recorder_of(control)
        told: list[bool] = []
        for number in range(module._MOST_WAITING):
            recorder.put(record(number))
        recorder.put(record(0), told.append)
        recorder.put(record(0))
        assert told == []  # never from within the call
        await asyncio.sleep(0)
        await until(lambda: told)
        assert told == [False]
        assert recorder.lost == 1
        control.gate.set()
        await recorder.drain()
        assert sum(map(len, control.batches)) == module._MOST_WAITING

    run(loop, main())


@on_both_loops
def test_a_callback_that_fails_leaves_the_others_told(loop: str) -> None:
    async def main() -> None:
        recorder = recorder_of(Control())
        told: list[bool] = []

        def breaks(ok: bool) -> None:
            raise RuntimeError("a bug of one flow")

        recorder.put(record(1), breaks)
        recorder.put(record(2), told.append)
        await recorder.drain()
        assert told == [True]

    run(loop, main())


@on_both_loops
def test_a_writer_that_gives_up_breaks_nothing(loop: str) -> None:
    async def main() -> None:
        control = Control()
        control.gate.clear()
        recorder = recorder_of(control)
        writer = asyncio.ensure_future(recorder.write(record(1)))
        await asyncio.sleep(0.01)
        writer.cancel()
        control.gate.set()
        assert await recorder.write(record(2)) is True

    run(loop, main())


@on_both_loops
def test_what_control_takes_too_long_to_write_is_not_written(loop: str) -> None:
    async def main() -> None:
        control = Control()
        control.gate.clear()
        recorder = recorder_of(control)
        told: list[bool] = []
        recorder.put(record(1), told.append)
        await until(lambda: control.under_way)
        recorder._deadline = 0.0
        recorder._look()
        assert told == [False]
        await until(lambda: not control.under_way)
        control.gate.set()
        assert await recorder.write(record(2)) is True
        assert [each["flow"] for batch in control.batches for each in batch] == ["f-2"]

    run(loop, main())


@on_both_loops
def test_a_control_that_is_not_connected_is_called(loop: str) -> None:
    async def main() -> None:
        control = Control(connected=False)
        recorder = recorder_of(control)
        assert await recorder.write(record(1)) is True
        control.broken = True
        assert await recorder.write(record(2)) is False
        assert len(control.batches) == 1

    run(loop, main())
