"""Frames in a pipe: found whole however much of them is there, and looked at without being taken out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ipc.frame import FrameError
from appliance.ipc.record_pipe import MOST, SIZE, Peephole, batches_of, enlarge, frame_of, take
from appliance.model.errors import EnvironmentFailed

_BATCHES = st.lists(st.binary(max_size=40), max_size=8)
TOO_LONG = (MOST + 1).to_bytes(4, "big")


@given(_BATCHES, st.data())
def test_of_a_stream_cut_anywhere_the_whole_frames_are_found(batches: list[bytes], data: st.DataObject) -> None:
    frames = [frame_of(batch) for batch in batches]
    stream = b"".join(frames)
    cut = data.draw(st.integers(0, len(stream)))
    found, size = batches_of(stream[:cut])
    assert found == batches[: len(found)]
    assert size == sum(map(len, frames[: len(found)]))
    assert size <= cut
    assert len(found) == len(frames) or cut < size + len(frames[len(found)])
    rest, more = batches_of(stream[size:])
    assert (found + rest, size + more) == (batches, len(stream))


@given(st.binary(max_size=100))
def test_of_any_bytes_at_all_each_is_accounted_for(data: bytes) -> None:
    try:
        found, size = batches_of(data)
    except FrameError:
        return
    assert b"".join(map(frame_of, found)) == data[:size]


@given(_BATCHES, st.binary(max_size=10))
def test_what_stands_before_a_bad_length_is_found(batches: list[bytes], after: bytes) -> None:
    """It was handed over before: what follows, and whoever wrote that, cannot take it back."""
    stream = b"".join(map(frame_of, batches))
    if batches:
        assert batches_of(stream + TOO_LONG + after) == (batches, len(stream))
    with pytest.raises(FrameError):
        batches_of(TOO_LONG + after)


def test_limits() -> None:
    largest = bytes(MOST)
    assert batches_of(frame_of(largest)) == ([largest], MOST + 4)
    assert batches_of(MOST.to_bytes(4, "big")) == ([], 0)
    with pytest.raises(FrameError):
        frame_of(bytes(MOST + 1))
    with pytest.raises(FrameError):
        batches_of(TOO_LONG)
    assert batches_of(TOO_LONG[:3]) == ([], 0)
    assert batches_of(frame_of(b"")) == ([b""], 4)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reading, writing); the test may have closed the second one."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    enlarge(writing)
    kept = os.fstat(writing)
    yield reading, writing
    os.close(reading)
    try:
        if os.path.samestat(os.fstat(writing), kept):
            os.close(writing)
    except OSError:
        pass


@pytest.fixture
def peephole() -> Iterator[Peephole]:
    made = Peephole()
    yield made
    made.close()


def test_looking_takes_nothing_out(pipe: tuple[int, int], peephole: Peephole) -> None:
    reading, writing = pipe
    assert peephole.look(reading) is None
    os.write(writing, b"abc")
    for _ in range(1000):  # also not out of the room that looking needs
        assert peephole.look(reading) == b"abc"
    os.write(writing, b"def")
    assert peephole.look(reading) == b"abcdef"
    assert take(reading, 4) == b"abcd"
    assert peephole.look(reading) == b"ef"
    assert take(reading, 2) == b"ef"
    assert peephole.look(reading) is None


def test_an_end_is_seen_once_nothing_is_left(pipe: tuple[int, int], peephole: Peephole) -> None:
    reading, writing = pipe
    os.write(writing, b"abc")
    os.close(writing)
    assert peephole.look(reading) == b"abc"
    take(reading, 3)
    assert peephole.look(reading) == b""
    assert peephole.look(reading) == b""


@pytest.mark.parametrize("size", [1, 100, 2049, 4095, 4096, 9999, MOST, SIZE])
def test_a_full_pipe_is_seen_whole(pipe: tuple[int, int], peephole: Peephole, size: int) -> None:
    """However its pages were filled: a frame that were never seen whole would never be taken."""
    reading, writing = pipe
    for _ in range(2):
        data = fill(writing, size)
        assert peephole.look(reading) == data
        assert take(reading, 7) == data[:7]
        assert peephole.look(reading) == data[7:]
        assert take(reading, len(data) - 7) == data[7:]
        assert peephole.look(reading) is None


def fill(writing: int, size: int) -> bytes:
    """Pieces of this size, for as long as there is room."""
    pattern = os.urandom(SIZE)
    at = 0
    while at < SIZE:
        try:
            at += os.write(writing, pattern[at : at + size])
        except BlockingIOError:
            break
    return pattern[:at]


@pytest.mark.parametrize("size", [1, 100, 2049, 9999])
def test_a_frame_that_comes_in_pieces_has_room_beside_what_is_taken(
    pipe: tuple[int, int], peephole: Peephole, size: int
) -> None:
    reading, writing = pipe
    before = fill(writing, size)
    frame = rest = frame_of(os.urandom(MOST))
    assert take(reading, len(before) - 1) == before[:-1]
    data = b""
    for _ in range(2):
        rest = rest[os.write(writing, rest) :] if rest else b""
        data = peephole.look(reading) or b""
        if data[:1] == before[-1:]:
            take(reading, 1)
    assert peephole.look(reading) == frame
    assert (rest, batches_of(frame)[1]) == (b"", len(frame))


def test_what_is_no_pipe_is_an_error_and_does_no_harm(pipe: tuple[int, int], peephole: Peephole) -> None:
    reading, writing = pipe
    with open("/dev/null", "rb") as file, pytest.raises(OSError):
        peephole.look(file.fileno())
    os.write(writing, b"abc")
    assert peephole.look(reading) == b"abc"


def test_a_pipe_that_cannot_be_enlarged_says_how_to_change_that(pipe: tuple[int, int]) -> None:
    assert fcntl.fcntl(pipe[0], fcntl.F_GETPIPE_SZ) == SIZE
    with open("/dev/null", "rb") as file, pytest.raises(EnvironmentFailed, match=r"fs\.pipe-max-size") as caught:
        enlarge(file.fileno())
    assert caught.value.code == "audit"
