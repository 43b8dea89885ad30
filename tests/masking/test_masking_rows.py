"""Rows with columns hidden are the same rows but for these columns; whatever is not a row is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.masking.hiding import Token
from appliance.masking.kinds import known
from appliance.masking.masker import Masker
from appliance.masking.rows import RowMasker
from appliance.masking.values import masker
from appliance.model.errors import InternalError, PeerError
from tests.masking.forms import data_row, data_rows

TOKEN = Token(b"key of one job")
CANARY = b"canary-7f3a9c"
TEXT = known(25)

# Values without the canary's first bytes, so that what is found is the canary.
OPEN = st.none() | st.binary(max_size=300).filter(lambda value: b"canary" not in value)
SECRET = st.none() | st.tuples(st.binary(max_size=20), st.binary(max_size=20)).map(
    lambda ends: ends[0] + CANARY + ends[1]
)
HOW = st.sampled_from(["hide", "null", "partial", "token"])


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str | None], list[list[bytes | None]]]:
    hows = draw(st.lists(st.none() | HOW, max_size=8))
    row = st.tuples(*[OPEN if how is None else SECRET for how in hows]).map(list)
    return hows, draw(st.lists(row, max_size=8))


def row_masker(hows: list[str | None]) -> RowMasker:
    return RowMasker([None if how is None else masker(how, (), TEXT, False, TOKEN) for how in hows])


@given(tables(), st.integers(0, 8))
def test_only_the_hidden_columns_change(table: tuple[list[str | None], list[list[bytes | None]]], cut: int) -> None:
    hows, rows = table
    masking = row_masker(hows)
    before = [b"".join(map(data_row, rows[:cut])), b"".join(map(data_row, rows[cut:]))]
    after = [masking.mask(run) for run in before]
    masked = data_rows(b"".join(after))
    assert len(masked) == len(rows) == masking.rows
    assert (masking.received, masking.sent) == (len(b"".join(before)), len(b"".join(after)))
    assert CANARY not in b"".join(after)
    for old, new in zip(rows, masked, strict=True):
        for how, was, now in zip(hows, old, new, strict=True):
            if how is None or was is None:
                assert now == was
            elif how == "null":
                assert now is None
            elif how == "hide":
                assert now == b"***"
            elif how == "token":
                assert now == TOKEN.text(was)
            else:
                assert now is not None
                assert now.startswith(b"***")
                assert was.endswith(now[3:])


def test_a_run_without_change_is_the_same_object() -> None:
    run = data_row([b"a", None]) * 3
    assert row_masker([None, "hide"]).mask(run) is run


@given(tables(), st.data())
def test_damaged_runs_are_refused_or_read_alike(
    table: tuple[list[str | None], list[list[bytes | None]]], data: st.DataObject
) -> None:
    """Whatever one byte is changed to: either nothing goes out, or a client can read all that does, and no canary that
    stands in a masked column is in it."""
    hows, rows = table
    run = bytearray(b"".join(map(data_row, rows)))
    if not run:
        return
    at = data.draw(st.integers(0, len(run) - 1))
    run[at] = data.draw(st.integers(0, 255))
    try:
        before = data_rows(bytes(run))
    except (AssertionError, struct.error):
        with pytest.raises(PeerError):
            row_masker(hows).mask(bytes(run))
        return
    if any(len(row) != len(hows) for row in before):
        with pytest.raises(PeerError):
            row_masker(hows).mask(bytes(run))
        return
    for old, new in zip(before, data_rows(row_masker(hows).mask(bytes(run))), strict=True):
        for how, was, now in zip(hows, old, new, strict=True):
            assert now == was if how is None or was is None else now != was or now == b"***" == was


@pytest.mark.parametrize(
    "run",
    [
        data_row([b"a", b"b"])[:-1],
        data_row([b"a", b"b"]) + b"D",
        data_row([b"a", b"b"]) + b"\0",
        data_row([b"a"]),
        data_row([b"a", b"b", b"c"]),
        b"C" + data_row([b"a", b"b"])[1:],
        b"D\0\0\0\x05\0\2\0",
        b"D\0\0\0\x06\0\2",
        b"D\xff\xff\xff\xff\0\2",
        b"D\0\0\0\x10\0\2" + b"\xff\xff\xff\xfe" + b"\0\0\0\2ab",
        b"D\0\0\0\x10\0\2" + b"\0\0\0\2ab" + b"\xff\xff\xff\xfe",
        b"D\0\0\0\x0e\0\2" + b"\0\0\0\0" + b"\x7f\xff\xff\xff",
        b"D\0\0\0\x0e\0\2" + b"\0\0\0\0" + b"\x80\0\0\0",
        b"D\0\0\0\x10\0\2" + b"\0\0\0\0" + b"\0\0\0\1ab",
        b"D\0\0\0\x1d\0\2" + bytes(8) + data_row([b"", b""]),
    ],
)
@pytest.mark.parametrize("hows", [[None, None], ["hide", None], [None, "token"], ["null", "hide"]])
def test_what_is_refused(run: bytes, hows: list[str | None]) -> None:
    with pytest.raises(PeerError):
        row_masker(hows).mask(run)


def test_a_row_of_no_columns() -> None:
    assert row_masker([]).mask(data_row([]) * 2) == data_row([]) * 2


def test_a_value_of_many_bytes() -> None:
    big = b"x" * 0x01_02_03
    out = row_masker([None, "hide", None]).mask(data_row([big, big, big]))
    assert data_rows(out) == [[big, b"***", big]]


def test_scrubbing_comes_first_and_keeps_the_length() -> None:
    masking = RowMasker([None, Masker()], lambda run: run.replace(b"secret", b"place!"))
    assert data_rows(masking.mask(data_row([b"a secret", b"x"]))) == [[b"a place!", None]]
    with pytest.raises(InternalError):
        RowMasker([None], lambda run: run + b" ").mask(data_row([b"a"]))
