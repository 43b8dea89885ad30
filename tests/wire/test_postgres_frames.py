"""Laws of PostgreSQL's framing: chunking does not matter, no byte is lost, memory is bounded, what is not of the
protocol is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import InternalError, PeerError
from appliance.wire.postgres import Frames, Message, Piece, Run, write
from appliance.wire.postgres import messages as m
from appliance.wire.postgres_frames import CUT, FIRST_PIECE, MAX_LENGTH
from tests.wire import postgres_samples as samples
from tests.wire.postgres_samples import cut_at, feed_all, joined, split

RESULT = (
    write.row_description([m.Field(b"a", 0, 0, 23, 4, -1, 0)]),
    write.data_row([b"1"]),
    write.data_row([None]),
    write.command_complete(b"SELECT 2"),
    write.ready(m.IDLE),
)


def opened(from_server: bool, **limits: int) -> Frames:
    return Frames(from_server, login=False, **limits)


@pytest.mark.parametrize("cut", [5, 30, 1000])
@given(st.data())
def test_any_chunking_gives_the_same_messages(cut: int, data: st.DataObject) -> None:
    server = data.draw(st.booleans())
    stream = b"".join(data.draw(samples.from_server if server else samples.from_client))
    pieces = cut_at(stream, data.draw(st.lists(st.integers(0, 10_000), max_size=20)))
    frames = opened(server, cut=cut)
    found = feed_all(frames, pieces)
    assert joined(found, cut) == split(stream)
    assert b"".join([frame.raw for frame in found]) == stream
    assert frames.between
    assert frames.held == 0
    assert joined(feed_all(opened(server, cut=cut), cut_at(stream, list(range(len(stream))))), cut) == split(stream)
    long = {frame.total for frame in found if isinstance(frame, Piece)}
    assert long == {
        len(raw) for kind, raw in split(stream) if len(raw) > cut and chr(kind) in ("DdV" if server else "dBF")
    }


@given(st.data())
def test_what_is_not_whole_is_held_and_what_is_held_is_bounded(data: st.DataObject) -> None:
    server = data.draw(st.booleans())
    stream = b"".join(data.draw(samples.from_server if server else samples.from_client))
    longest = max([len(raw) for _, raw in split(stream)], default=0)
    for end in range(len(stream)):
        frames = opened(server, cut=30)
        found = frames.feed(stream[:end])
        raw = b"".join([frame.raw for frame in found])
        assert raw == stream[: len(raw)]
        assert frames.held == end - len(raw) < max(longest, 1)
        assert frames.between == (stream[:end] in _prefixes(stream))


def _prefixes(stream: bytes) -> list[bytes]:
    """What ends where a message ends."""
    ends = [b""]
    for _, raw in split(stream):
        ends.append(ends[-1] + raw)
    return ends


@given(st.data())
def test_garbage_has_the_same_fate_in_any_chunking(data: st.DataObject) -> None:
    server = data.draw(st.booleans())
    stream = bytearray(b"".join(data.draw(samples.from_server if server else samples.from_client)))
    for at in data.draw(st.lists(st.integers(0, max(len(stream) - 1, 0)), max_size=3)):
        stream[at : at + 1] = data.draw(st.binary(max_size=3))
    pieces = cut_at(bytes(stream), data.draw(st.lists(st.integers(0, 10_000), max_size=20)))
    fates: list[tuple[list[tuple[int, bytes]], int, bool] | str] = []
    for chunks in ([bytes(stream)], pieces, [stream[i : i + 1] for i in range(len(stream))]):
        frames = opened(server, cut=30)
        try:
            fates.append((joined(feed_all(frames, [bytes(c) for c in chunks]), 30), frames.held, frames.between))
        except PeerError as error:
            fates.append(error.code)
    assert fates[0] == fates[1] == fates[2]


def test_a_result_in_one_chunk_is_not_copied() -> None:
    chunk = b"".join(RESULT)
    found = opened(True).feed(chunk)
    assert [type(frame) for frame in found] == [Message, Run, Message, Message]
    assert [frame.kind for frame in found] == [m.ROW_DESCRIPTION, m.DATA_ROW, m.COMMAND_COMPLETE, m.READY]
    assert all(frame.data is chunk for frame in found)
    run = found[1]
    assert isinstance(run, Run)
    assert run.count == 2
    rows = RESULT[1] * 1000
    (frame,) = opened(True).feed(rows)
    assert frame.raw is rows


def test_rows_that_are_cut_by_a_chunk_are_held_one_at_a_time() -> None:
    row = write.data_row([b"x" * 100])
    frames = opened(True)
    stream = row * 1000
    counts = []
    for at in range(0, len(stream), 4096):
        chunk = stream[at : at + 4096]
        found = frames.feed(chunk)
        assert frames.held < len(row)
        assert len(found) <= 2  # the one that was cut, and the others
        assert found[-1].data is chunk
        counts += [frame.count for frame in found if isinstance(frame, Run)]
    assert sum(counts) == 1000


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        *((True, kind) for kind in (m.DATA_ROW, m.COPY_DATA, m.FUNCTION_RESULT)),
        *((False, kind) for kind in (m.COPY_DATA, m.BIND, m.FUNCTION_CALL)),
    ],
)
def test_a_message_of_a_gibibyte_goes_through_in_pieces(server: bool, kind: int) -> None:
    total = (1 << 30) + 3
    frames = opened(server)
    head = bytes((kind,)) + (total - 1).to_bytes(4, "big")
    chunk = b"x" * (1 << 18)
    pieces = frames.feed(head + chunk[:1000])
    assert pieces == []
    left = total - len(head) - 1000
    while left:
        found = frames.feed(chunk[:left])
        left -= min(left, len(chunk))
        assert frames.held == 0
        pieces += found
        if len(pieces) > 10:
            assert found[0].data is (chunk if left else found[0].data)
            pieces = [*pieces[:3], pieces[-1]]
    first, last = pieces[0], pieces[-1]
    assert isinstance(first, Piece)
    assert isinstance(last, Piece)
    assert (first.first, first.last, first.total, len(first.raw)) == (True, False, total, FIRST_PIECE)
    assert (last.first, last.last, last.total) == (False, True, total)
    assert first.body == b"x" * (FIRST_PIECE - 5)
    assert frames.between
    assert [frame.kind for frame in frames.feed(write.copy_done())] == [m.COPY_DONE]


def test_a_long_message_within_one_chunk_is_one_piece() -> None:
    short, long = write.copy_data(b"x" * (CUT - 5)), write.copy_data(b"y" * (CUT - 4))
    found = opened(True).feed(short + long + short)
    assert [type(frame) for frame in found] == [Run, Piece, Run]
    piece = found[1]
    assert isinstance(piece, Piece)
    assert (piece.first, piece.last, piece.total, piece.raw) == (True, True, CUT + 1, long)


def test_byte_by_byte_is_linear() -> None:
    """If it were not, this would take hours."""
    text = write.query(b"x" * (2 << 20))
    frames = opened(False)
    found = []
    for at in range(len(text)):
        found += frames.feed(text[at : at + 1])
    assert [frame.raw for frame in found] == [text]


CLIENT_TYPES = b"BCDEFHPQSXcdf"
SERVER_TYPES = b"123ACDEGHINSTVWZcdnst"


@pytest.mark.parametrize("server", [True, False])
def test_only_the_types_of_the_direction_and_of_the_phase_may_come(server: bool) -> None:
    for login, allowed in ((False, SERVER_TYPES if server else CLIENT_TYPES), (True, b"RKENvSZ" if server else b"p")):
        for kind in range(256):
            frames = Frames(server, login=login)
            header = bytes((kind, 0, 0, 0, 4))
            if kind in allowed:
                assert len(frames.feed(header)) == 1
                continue
            with pytest.raises(PeerError) as refused:
                frames.feed(header)
            assert refused.value.code == "postgres-type"
            with pytest.raises(PeerError):  # and so it stays
                frames.feed(write.sync() if not server else write.ready(m.IDLE))
            frames.login_over()
            with pytest.raises(PeerError):
                frames.feed(write.sync() if not server else write.ready(m.IDLE))


@pytest.mark.parametrize("length", [0, 1, 2, 3])
@pytest.mark.parametrize(("server", "kinds"), [(True, SERVER_TYPES), (False, CLIENT_TYPES)])
def test_a_length_has_room_for_itself(length: int, server: bool, kinds: bytes) -> None:
    for kind in kinds:
        for before in (b"", bytes((kind, 0, 0, 0, 4))):  # alone, and where a run is under way
            with pytest.raises(PeerError) as refused:
                opened(server).feed(before + bytes((kind, 0, 0, 0, length)))
            assert refused.value.code == "postgres-length"


LIMITS = [
    *((True, kind, 4) for kind in b"123Icns"),
    *((False, kind, 4) for kind in b"HSXc"),
    *((False, kind, 10_000) for kind in b"CDEf"),
    (True, ord("Z"), 5),
    *((True, kind, 1 << 20) for kind in b"ACEGHNSTWt"),
    *((False, kind, 16 << 20) for kind in b"PQ"),
    *((True, kind, MAX_LENGTH) for kind in b"DdV"),
    *((False, kind, MAX_LENGTH) for kind in b"BFd"),
]


@pytest.mark.parametrize(("server", "kind", "limit"), LIMITS)
def test_each_type_has_its_longest_length(server: bool, kind: int, limit: int) -> None:
    head = bytes((kind,))
    assert opened(server).feed(head + limit.to_bytes(4, "big")) == [] or limit == 4
    for before in (b"", head + b"\0\0\0\4"):
        for length in (limit + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            with pytest.raises(PeerError) as refused:
                opened(server).feed(before + head + length.to_bytes(4, "big"))
            assert refused.value.code == "postgres-too-large"


def test_every_type_has_a_limit_that_is_tested() -> None:
    assert {kind for server, kind, _ in LIMITS if server} == set(SERVER_TYPES)
    assert {kind for server, kind, _ in LIMITS if not server} == set(CLIENT_TYPES)


@pytest.mark.parametrize(("server", "kind", "limit"), [(False, "p", 65543), (True, "R", 65543), (True, "K", 264)])
def test_before_the_login_is_over_little_is_held(server: bool, kind: str, limit: int) -> None:
    head = kind.encode()
    frames = Frames(server)
    whole = head + limit.to_bytes(4, "big") + b"\1" * (limit - 4)
    (frame,) = frames.feed(whole)
    assert frame.raw == whole
    with pytest.raises(PeerError) as refused:
        frames.feed(head + (limit + 1).to_bytes(4, "big"))
    assert refused.value.code == "postgres-too-large"


def test_limits_are_the_callers() -> None:
    statement, report = write.query(b"x" * 95), write.error("ERROR", "42501", "x" * 100)
    assert len(opened(False, text=100).feed(statement)) == 1
    assert len(opened(True, other=len(report) - 1).feed(report)) == 1
    with pytest.raises(PeerError):
        opened(False, text=99).feed(statement)
    with pytest.raises(PeerError):
        opened(True, other=len(report) - 2).feed(report)
    limits: list[dict[str, Any]] = [{"cut": 4}, {"text": MAX_LENGTH}, {"other": MAX_LENGTH}]
    for wrong in limits:
        with pytest.raises(InternalError):
            Frames(True, **wrong)


@given(st.lists(st.integers(0, 10_000), max_size=10))
def test_the_servers_login_ends_with_ready(places: list[int]) -> None:
    login = (
        write.authentication_sasl(["SCRAM-SHA-256"]),
        write.authentication_sasl_continue(b"r=1,s=2,i=3"),
        write.authentication_sasl_final(b"v=4"),
        write.authentication_ok(),
        write.negotiate_protocol_version(0, ["_pq_.x"]),
        write.parameter_status(b"a", b"b"),
        write.backend_key_data(1, b"1234"),
        write.notice("WARNING", "01000", "x"),
        write.ready(m.IDLE),
    )
    stream = b"".join((*login, *RESULT))
    frames = Frames(True)
    assert joined(feed_all(frames, cut_at(stream, places)), CUT) == split(stream)
    with pytest.raises(PeerError) as refused:
        frames.feed(write.authentication_ok())
    assert refused.value.code == "postgres-type"


def test_the_agents_login_ends_when_it_is_told() -> None:
    frames = Frames(False)
    assert [frame.raw for frame in frames.feed(write.password(b"x"))] == [write.password(b"x")]
    frames.login_over()
    assert [frame.raw for frame in frames.feed(write.query(b"x"))] == [write.query(b"x")]
    with pytest.raises(PeerError):
        frames.feed(write.password(b"x"))


def test_an_empty_chunk_is_nothing() -> None:
    frames = opened(True, cut=30)
    for chunk in (b"", b"D", b"", b"\0\0\0\x40" + b"x" * 30, b"", b"x" * 30, b""):
        frames.feed(chunk)
    assert frames.between


@settings(max_examples=300)
@given(st.booleans(), st.booleans(), st.binary(max_size=200))
def test_noise_is_nothing_or_a_peer_error(server: bool, login: bool, noise: bytes) -> None:
    frames = Frames(server, login=login)
    try:
        found = frames.feed(noise)
    except PeerError:
        return
    assert sum(len(frame.raw) for frame in found) + frames.held == len(noise)
