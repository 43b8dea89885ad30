"""COPY streams with columns hidden are read as the same rows but for these columns, however they are cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.masking.copy import BINARY, CSV, CopyFormat, CopyMasker, copy_masker
from appliance.masking.hiding import Token
from appliance.masking.kinds import known
from appliance.masking.masker import Masker
from appliance.masking.values import masker
from appliance.model.errors import PeerError
from tests.masking import forms

TOKEN = Token(b"key of one job")
CANARY = b"canary-7f3a9c"
HOSTILE = [
    b"\\",
    b"\t",
    b"\n",
    b"\r",
    b'"',
    b",",
    b"|",
    b"'",
    b"*",
    b"\\N",
    b"\\.",
    b"",
    b"~",
    b"N",
    b"a",
    b"\b",
    b"\xc3\xbc",
]
PIECES = st.lists(st.sampled_from(HOSTILE), max_size=6).map(b"".join)
FORMATS = [
    CopyFormat(),
    CopyFormat(delimiter=b"|"),
    CopyFormat(delimiter=b"*", null=b""),
    CopyFormat(delimiter=b",", null=b"***", header=True),
    CopyFormat(delimiter=b'"', null=b"NULL"),
    CSV,
    CSV._replace(header=True, delimiter=b"\t"),
    CSV._replace(null=b"***", force_quote=frozenset({0, 2})),
    CSV._replace(escape=b"\\"),
    CSV._replace(quote=b"'", escape=b"*", delimiter=b"|", null=b"\\N"),
    CSV._replace(quote=b"~", escape=b",", force_quote=frozenset(range(9))),
    BINARY,
]


def written(options: CopyFormat, rows: list[list[bytes | None]]) -> bytes:
    if options.format == "binary":
        return forms.copy_binary(rows, b"extension" if len(rows) % 2 else b"")
    names: list[list[bytes | None]] = [[b"na,me|*"] * len(rows[0])] if options.header else []
    return (forms.copy_text if options.format == "text" else forms.copy_csv)(names + rows, options)


def read(options: CopyFormat, data: bytes) -> list[list[bytes | None]]:
    if options.format == "binary":
        return forms.read_copy_binary(data)
    rows = (forms.read_copy_text if options.format == "text" else forms.read_copy_csv)(data, options)
    return rows[1:] if options.header else rows


@st.composite
def tables(draw: st.DrawFn) -> tuple[CopyFormat, list[str | None], list[list[bytes | None]]]:
    options = draw(st.sampled_from(FORMATS))
    hows = draw(st.lists(st.none() | st.sampled_from(["hide", "null", "partial", "token"]), min_size=1, max_size=5))
    secret = st.tuples(PIECES, PIECES).map(lambda ends: ends[0] + CANARY + ends[1])
    row = st.tuples(*[st.none() | (PIECES if how is None else secret) for how in hows]).map(list)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    return options, hows, rows


def columns(hows: list[str | None], binary: bool) -> list[Masker | None]:
    return [None if how is None else masker(how, (), known(25), binary, TOKEN) for how in hows]


def fed(masking: CopyMasker, pieces: list[bytes]) -> bytes:
    out = b"".join([masking.feed(piece) for piece in pieces])
    masking.end()
    return out


def same_value(options: CopyFormat, value: bytes | None) -> bytes | None:
    """A value as the server's own text form keeps it: one that is written like NULL is read as NULL."""
    if options.format == "text" and value is not None and forms.copy_text([[value]], options)[:-1] == options.null:
        return None
    return value


@given(tables(), st.data())
def test_only_the_hidden_columns_change(
    table: tuple[CopyFormat, list[str | None], list[list[bytes | None]]], data: st.DataObject
) -> None:
    options, hows, rows = table
    stream = written(options, rows)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    binary = options.format == "binary"
    masking = copy_masker(options, columns(hows, binary))
    out = fed(masking, pieces)
    assert out == fed(copy_masker(options, columns(hows, binary)), [stream[i : i + 1] for i in range(len(stream))])
    assert (masking.rows, masking.received, masking.sent) == (len(rows), len(stream), len(out))
    assert CANARY not in out
    masked = read(options, out)
    assert len(masked) == len(rows)
    for old, new in zip(rows, masked, strict=True):
        for how, was, now in zip(hows, old, new, strict=True):
            was = same_value(options, was)
            if how is None or was is None:
                assert now == was
            else:
                expected = masker(how, (), known(25), binary, TOKEN).mask(was)
                assert now == expected


@given(tables())
def test_without_masks_the_stream_is_the_same(
    table: tuple[CopyFormat, list[str | None], list[list[bytes | None]]],
) -> None:
    options, hows, rows = table
    stream = written(options, rows)
    assert fed(copy_masker(options, [None] * len(hows)), [stream]) == stream


@given(tables(), st.data())
def test_damaged_streams_have_one_fate(
    table: tuple[CopyFormat, list[str | None], list[list[bytes | None]]], data: st.DataObject
) -> None:
    """Whatever a stream is changed to, it is refused, or it is what a client reads, too: with nothing but what hides it
    in a masked column."""
    options, hows, rows = table
    stream = bytearray(written(options, rows))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at : at + 1] = data.draw(st.sampled_from([*HOSTILE, b"\0", b"\xff"]))
    binary = options.format == "binary"
    hidden = [None if how is None else masker("hide", (), known(25), binary, TOKEN) for how in hows]

    def fate(pieces: list[bytes]) -> bytes | None:
        try:
            return fed(copy_masker(options, hidden), pieces)
        except PeerError:
            return None

    whole = fate([bytes(stream)])
    assert whole == fate([bytes(stream[i : i + 1]) for i in range(len(stream))])
    if whole is None:
        return
    for row in read(options, whole):
        assert len(row) == len(hows)
        for how, value in zip(hows, row, strict=True):
            assert how is None or value in (None, b"***")


def test_quotes_that_are_forced() -> None:
    options = CSV._replace(force_quote=frozenset({1, 2}))
    masking = copy_masker(options, columns([None, "hide", "null", "hide"], False))
    assert masking.feed(b'a,"b","c",d\n') == b'a,"***",,***\n'


def test_a_row_in_a_message_comes_out_in_a_message() -> None:
    masking = copy_masker(CopyFormat(), columns([None, "hide"], False))
    assert masking.feed(b"a\tb\n") == b"a\t***\n"
    assert masking.feed(b"c\t\\N\n") == b"c\t\\N\n"
    run = b"".join(b"d" + struct.pack(">I", len(line) + 4) + line for line in (b"a\tb\n", b"c\t", b"d\n"))
    out = b"".join(b"d" + struct.pack(">I", len(line) + 4) + line for line in (b"a\t***\n", b"c\t***\n"))
    assert masking.mask(run) == out
    masking.end()


@pytest.mark.parametrize("run", [b"d", b"d\0\0\0\4d", b"d\0\0\0\3", b"c\0\0\0\4", b"d\0\0\0\5", b"d\xff\xff\xff\xff"])
def test_a_run_that_is_no_copy_data(run: bytes) -> None:
    with pytest.raises(PeerError):
        copy_masker(CopyFormat(), [None]).mask(run)


@pytest.mark.parametrize(
    ("options", "stream"),
    [
        (CopyFormat(), b"a\n"),
        (CopyFormat(), b"a\tb\tc\n"),
        (CopyFormat(), b"a\tb"),
        (CopyFormat(), b"a\\\tb\n"),
        (CopyFormat(), b"a\tb\\\n"),
        (CopyFormat(), b"a\tb\r\n"),
        (CopyFormat(), b"\n"),
        (CopyFormat(delimiter=b"|"), b"a\\|b\n"),
        (CSV, b"a\n"),
        (CSV, b'a"b,c\n'),
        (CSV, b'"a"b,c\n'),
        (CSV, b'"a,b\n'),
        (CSV, b"a,b\r\n"),
        (CSV, b'"a""\n'),
        (CSV._replace(escape=b"\\"), b'"a\\b",c\n'),
        (BINARY, b"PGCOPY\n\xff\n\n\0" + bytes(8) + b"\xff\xff"),
        (BINARY, forms.copy_binary([])[:-1]),
        (BINARY, forms.copy_binary([]) + b"\0"),
        (BINARY, forms.copy_binary([[b"a"]])),
        (BINARY, forms.copy_binary([[b"a", b"b", None]])),
        (BINARY, forms.SIGNATURE + bytes(8) + b"\0\3" + bytes(8) + b"\xff\xff"),
        (BINARY, forms.SIGNATURE + b"\0\1\0\0" + bytes(4) + b"\xff\xff"),
        (BINARY, forms.SIGNATURE + bytes(8) + b"\0\2\xff\xff\xff\xfe\0\0\0\0\xff\xff"),
        (BINARY, forms.SIGNATURE + bytes(8) + b"\0\2\x80\0\0\0\0\0\0\0\xff\xff"),
        (BINARY, b""),
    ],
)
def test_what_is_refused(options: CopyFormat, stream: bytes) -> None:
    for size in (1, len(stream) or 1):
        with pytest.raises(PeerError):
            fed(
                copy_masker(options, columns(["hide", None], options.format == "binary")),
                [stream[at : at + size] for at in range(0, len(stream), size)],
            )


@pytest.mark.parametrize(
    "options",
    [
        CopyFormat("json"),
        CopyFormat(delimiter=b""),
        CopyFormat(delimiter=b"||"),
        CopyFormat(delimiter=b"n"),
        CopyFormat(delimiter=b"\\"),
        CopyFormat(delimiter=b"\n"),
        CopyFormat(null=b"a\tb"),
        CopyFormat(null=b"\n"),
        CopyFormat(null=b"\\"),
        CSV._replace(quote=b","),
        CSV._replace(quote=b""),
        CSV._replace(escape=b"ab"),
        CSV._replace(null=b'"'),
    ],
)
def test_options_that_are_refused(options: CopyFormat) -> None:
    with pytest.raises(PeerError):
        copy_masker(options, [None])


@pytest.mark.parametrize("options", [CopyFormat(), CSV, BINARY])
def test_a_row_that_does_not_end_is_refused_before_it_is_large(options: CopyFormat) -> None:
    head = forms.SIGNATURE + bytes(8) + b"\0\1\0\1\0\0" if options.format == "binary" else b"x"
    masking = copy_masker(options, [None], max_row=1000)
    with pytest.raises(PeerError):
        fed(masking, [head, *[b"x" * 100] * 11])
    assert masking.received < 1200


@pytest.mark.parametrize("options", [CopyFormat(), CSV])
def test_a_table_without_columns(options: CopyFormat) -> None:
    assert fed(copy_masker(options, []), [b"\n", b"\n"]) == b"\n\n"
    with pytest.raises(PeerError):
        fed(copy_masker(options, []), [b"a\n"])
