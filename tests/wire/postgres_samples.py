"""PostgreSQL messages: what hypothesis may write, and how the test reads it again without our framing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from appliance.wire.postgres import Frame, Frames, Message, Piece, Run, read, write
from appliance.wire.postgres import messages as m

texts = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"-"))
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
values = st.none() | st.binary(max_size=40)
oids = st.integers(0, 2**32 - 1)
formats = st.integers(0, 1)
shorts = st.integers(-(2**15), 2**15 - 1)
longs = st.integers(-(2**31), 2**31 - 1)
kinds = st.sampled_from((m.STATEMENT, m.PORTAL))
mechanisms = st.from_regex(r"[A-Z0-9_-]{1,20}", fullmatch=True)
keys = st.binary(min_size=m.MIN_KEY, max_size=m.MAX_KEY)
fields = st.builds(m.Field, texts, oids, shorts, oids, shorts, longs, formats)


@st.composite
def binds(draw: st.DrawFn) -> m.Bind:
    parameters = tuple(draw(st.lists(values, max_size=5)))
    each = st.lists(formats, min_size=len(parameters), max_size=len(parameters))
    given = draw(st.lists(formats, max_size=1) | each)
    return m.Bind(draw(texts), draw(texts), tuple(given), parameters, tuple(draw(st.lists(formats, max_size=4))))


# What is said, how it is written, how it is read: the law is that this is a circle
Circle = tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any]]

CLIENT: dict[str, Circle] = {
    "query": (st.builds(m.Query, texts), lambda v: write.query(v.text), read.query),
    "parse": (
        st.builds(m.Parse, texts, texts, st.lists(oids, max_size=4).map(tuple)),
        lambda v: write.parse(*v),
        read.parse,
    ),
    "bind": (binds(), lambda v: write.bind(*v), read.bind),
    "describe": (st.builds(m.Describe, kinds, texts), lambda v: write.describe(*v), read.describe),
    "execute": (st.builds(m.Execute, texts, longs), lambda v: write.execute(*v), read.execute),
    "close": (st.builds(m.Close, kinds, texts), lambda v: write.close(*v), read.close),
    "function call": (
        binds().map(lambda b: m.FunctionCall(7, b.formats, b.parameters, 1)),
        lambda v: write.function_call(*v),
        read.function_call,
    ),
    "copy fail": (
        words.map(lambda word: m.CopyFail(word.encode())),
        lambda v: write.copy_fail(v.reason.decode()),
        read.copy_fail,
    ),
}
LOGIN_CLIENT: dict[str, Circle] = {
    "password": (st.builds(m.Password, texts), lambda v: write.password(v.text), read.password),
    "sasl initial": (
        st.builds(m.SaslInitialResponse, mechanisms, values),
        lambda v: write.sasl_initial(*v),
        read.sasl_initial,
    ),
}
LOGIN_SERVER: dict[str, Circle] = {
    "ok": (st.just(m.Authentication(m.AUTH_OK)), lambda v: write.authentication_ok(), read.authentication),
    "cleartext": (
        st.just(m.Authentication(m.AUTH_CLEARTEXT)),
        lambda v: write.authentication_cleartext(),
        read.authentication,
    ),
    "md5": (
        st.builds(m.Authentication, st.just(m.AUTH_MD5), st.binary(min_size=4, max_size=4), st.just(())),
        lambda v: write.authentication_md5(v.data),
        read.authentication,
    ),
    "sasl": (
        st.lists(mechanisms, min_size=1, max_size=3).map(lambda all: m.Authentication(m.AUTH_SASL, b"", tuple(all))),
        lambda v: write.authentication_sasl(v.mechanisms),
        read.authentication,
    ),
    "sasl continue": (
        st.builds(m.Authentication, st.just(m.AUTH_SASL_CONTINUE), st.binary(max_size=50), st.just(())),
        lambda v: write.authentication_sasl_continue(v.data),
        read.authentication,
    ),
    "sasl final": (
        st.builds(m.Authentication, st.just(m.AUTH_SASL_FINAL), st.binary(max_size=50), st.just(())),
        lambda v: write.authentication_sasl_final(v.data),
        read.authentication,
    ),
    "negotiate": (
        st.builds(m.NegotiateProtocolVersion, st.integers(0, 65535), st.lists(words, max_size=3).map(tuple)),
        lambda v: write.negotiate_protocol_version(*v),
        read.negotiate_protocol_version,
    ),
    "key": (st.builds(m.BackendKeyData, oids, keys), lambda v: write.backend_key_data(*v), read.backend_key_data),
}
SERVER: dict[str, Circle] = {
    "parameter status": (
        st.builds(m.ParameterStatus, texts, texts),
        lambda v: write.parameter_status(*v),
        read.parameter_status,
    ),
    "ready": (st.sampled_from((m.IDLE, m.IN_TRANSACTION, m.FAILED)), write.ready, read.ready),
    "row description": (
        st.lists(fields, max_size=4).map(lambda all: m.RowDescription(tuple(all))),
        lambda v: write.row_description(v.fields),
        read.row_description,
    ),
    "data row": (
        st.lists(values, max_size=5).map(lambda all: m.DataRow(tuple(all))),
        lambda v: write.data_row(v.values),
        read.data_row,
    ),
    "command complete": (
        st.builds(m.CommandComplete, texts),
        lambda v: write.command_complete(v.tag),
        read.command_complete,
    ),
    "error": (
        st.lists(st.tuples(st.integers(1, 255), texts), max_size=5).map(lambda all: m.Report(tuple(all))),
        lambda v: write.report(m.ERROR, v.fields),
        read.report,
    ),
    "notification": (
        st.builds(m.Notification, oids, texts, texts),
        lambda v: write.notification(*v),
        read.notification,
    ),
    "copy out": (
        st.builds(m.CopyResponse, formats, st.lists(formats, max_size=4).map(tuple)),
        lambda v: write.copy_response(m.COPY_OUT, *v),
        read.copy_response,
    ),
    "parameter description": (
        st.lists(oids, max_size=4).map(lambda all: m.ParameterDescription(tuple(all))),
        lambda v: write.parameter_description(v.oids),
        read.parameter_description,
    ),
    "function result": (
        st.builds(m.FunctionResult, values),
        lambda v: write.function_result(v.value),
        read.function_result,
    ),
}


def written(circles: dict[str, Circle], *more: bytes) -> st.SearchStrategy[bytes]:
    """One message of these, as its bytes."""
    made = [said.map(put) for said, put, _ in circles.values()]
    return st.one_of(*made, st.sampled_from(more)) if more else st.one_of(*made)


_data = st.binary(max_size=60).map(write.copy_data)
_rows = st.lists(values, max_size=4).map(write.data_row)
_of_client = written(CLIENT, write.sync(), write.flush(), write.copy_done(), write.terminate())
_of_server = written(
    SERVER,
    write.parse_complete(),
    write.bind_complete(),
    write.close_complete(),
    write.no_data(),
    write.portal_suspended(),
    write.empty_query(),
    write.copy_done(),
)
from_client = st.lists(st.one_of(_of_client, _data, _data), max_size=12)
from_server = st.lists(st.one_of(_of_server, _rows, _data, _rows), max_size=12)

Whole = tuple[int, bytes]  # a message's type and bytes


def split(data: bytes) -> list[Whole]:
    """The messages of a stream that is whole and good, found in the plainest way."""
    found = []
    while data:
        size = 1 + int.from_bytes(data[1:5], "big")
        found.append((data[0], data[:size]))
        data = data[size:]
    return found


def joined(frames: list[Frame], cut: int) -> list[Whole]:
    """The messages that these frames are, however they were put together; a last one may be incomplete."""
    found: list[Whole] = []
    left = 0
    for frame in frames:
        match frame:
            case Message():
                assert not left
                assert len(frame.raw) == 5 + len(frame.body)
                found.append((frame.kind, frame.raw))
            case Run():
                assert not left
                parts = split(frame.raw)
                assert [kind for kind, _ in parts] == [frame.kind] * frame.count
                assert frame.bodies() == [raw[5:] for _, raw in parts]
                found += parts
            case Piece():
                assert frame.first == (not left)
                assert frame.raw
                if frame.first:
                    assert len(frame.raw) >= min(cut, 5 + 65536)
                    assert frame.total == 1 + int.from_bytes(frame.raw[1:5], "big") > cut
                    left = frame.total
                    found.append((frame.kind, b""))
                assert frame.kind == found[-1][0]
                left -= len(frame.raw)
                assert frame.last == (not left)
                found[-1] = (frame.kind, found[-1][1] + frame.raw)
    return found


def feed_all(frames: Frames, pieces: list[bytes]) -> list[Frame]:
    found: list[Frame] = []
    for piece in pieces:
        found += frames.feed(piece)
    return found


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *[place % (len(data) + 1) for place in places]})
    return [data[a:b] for a, b in pairwise(edges)]
