"""DataRow messages, with some of their columns hidden (PostgreSQL documentation, chapter 55.7).

A DataRow is `D`, int32 length (itself included), int16 number of columns; then for each column int32 length (-1: NULL)
and that many bytes. Rows come in runs of whole messages. What does not change is copied in slices that are as long as
they can be, over the ends of rows, too; a row is written anew only where it changes.

This is the hot loop: ints, bytes, one list a run. mypyc compiles it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from appliance.masking.masker import Masker
from appliance.model.errors import InternalError, PeerError

_DATA_ROW: Final = 0x44  # 'D'
_HEAD: Final = 7  # bytes: type, length, number of columns
_NULL: Final = b"\xff\xff\xff\xff"
_MOST_COLUMNS: Final = 0xFFFF


class RowMasker:
    """Hides columns of one statement's rows.

    `columns`: for each column of the result what hides it; None: it stays. `scrub`: is given each run before anything
    else and gives it back in the same length; None: nothing is to be scrubbed.
    `rows`, `received`, `sent`: how many rows so far, of how many bytes before and after.
    """

    __slots__ = ("_constant", "_count", "_maskers", "_scrub", "_steps", "_tail", "received", "rows", "sent")

    def __init__(self, columns: Sequence[Masker | None], scrub: Callable[[bytes], bytes] | None = None) -> None:
        if len(columns) > _MOST_COLUMNS:
            raise ValueError("a row has no more than 65,535 columns")
        self.rows = 0
        self.received = 0
        self.sent = 0
        self._scrub = scrub
        self._count = len(columns)
        # For each masked column: how many columns stand before it since the last one, what hides it, and, where that is
        # a constant, its bytes with their length.
        self._steps: list[int] = []
        self._maskers: list[Masker] = []
        self._constant: list[bytes | None] = []
        self._tail = 0  # columns after the last masked one
        for masker in columns:
            if masker is None:
                self._tail += 1
                continue
            self._steps.append(self._tail)
            self._maskers.append(masker)
            self._constant.append(_piece(masker.value) if masker.constant else None)
            self._tail = 0

    def mask(self, run: bytes) -> bytes:
        """The same rows with their columns hidden. `run`: whole DataRow messages, one after the other.

        Raises PeerError if they are not what the protocol and the result's description say; nothing of the run may be
        passed on then.
        """
        if self._scrub is not None:
            scrubbed = self._scrub(run)
            if len(scrubbed) != len(run):
                raise InternalError("scrubbing has changed the length of rows")
            run = scrubbed
        end = len(run)
        out: list[bytes] = []
        copied = 0
        at = 0
        rows = 0
        count_high = self._count >> 8
        count_low = self._count & 0xFF
        steps = self._steps
        maskers = self._maskers
        constants = self._constant
        masked = len(steps)
        tail = self._tail
        while at < end:
            if end - at < _HEAD or run[at] != _DATA_ROW:
                raise PeerError("masking-rows", "a run of rows has something else in it")
            length = (run[at + 1] << 24) | (run[at + 2] << 16) | (run[at + 3] << 8) | run[at + 4]
            stop = at + 1 + length
            if stop > end or length < _HEAD - 1:
                raise PeerError("masking-rows", "a row is longer than its run, or shorter than its head")
            if run[at + 6] != count_low or run[at + 5] != count_high:
                raise PeerError("masking-rows", "a row has another number of columns than its description")
            place = -1  # in `out`: the row's new length
            grown = 0  # bytes that the row is longer now
            head = at + 1
            at += _HEAD
            index = 0
            skip = steps[0] if masked else tail
            while True:
                while skip:
                    if at + 4 > stop:
                        raise PeerError("masking-rows", "a column is not within its row")
                    if run[at] == 0xFF:
                        if run[at + 1] != 0xFF or run[at + 2] != 0xFF or run[at + 3] != 0xFF:
                            raise PeerError("masking-rows", "a column has a negative length")
                        at += 4
                    else:
                        at += 4 + ((run[at] << 24) | (run[at + 1] << 16) | (run[at + 2] << 8) | run[at + 3])
                    skip -= 1
                if index == masked:
                    break
                if at + 4 > stop:
                    raise PeerError("masking-rows", "a column is not within its row")
                if run[at] == 0xFF:
                    if run[at + 1] != 0xFF or run[at + 2] != 0xFF or run[at + 3] != 0xFF:
                        raise PeerError("masking-rows", "a column has a negative length")
                    at += 4
                else:
                    size = (run[at] << 24) | (run[at + 1] << 16) | (run[at + 2] << 8) | run[at + 3]
                    after = at + 4 + size
                    if after > stop:
                        raise PeerError("masking-rows", "a column is not within its row")
                    piece = constants[index]
                    if piece is None:
                        before = run[at + 4 : after]
                        value = maskers[index].mask(before)
                        if value is not before:
                            piece = _piece(value)
                    if piece is not None:
                        if place < 0:
                            out.append(run[copied:head])
                            place = len(out)
                            out.append(b"")
                            copied = head + 4
                        out.append(run[copied:at])
                        out.append(piece)
                        copied = after
                        grown += len(piece) - 4 - size
                    at = after
                index += 1
                skip = steps[index] if index < masked else tail
            if at != stop:
                raise PeerError("masking-rows", "a row's columns do not add up to its length")
            if place >= 0:
                out[place] = _int32(length + grown)
            rows += 1
        self.rows += rows
        self.received += end
        if not out:
            self.sent += end
            return run
        out.append(run[copied:])
        masked_run = b"".join(out)
        self.sent += len(masked_run)
        return masked_run


def _piece(value: bytes | None) -> bytes:
    """A column as it stands in a row."""
    if value is None:
        return _NULL
    return _int32(len(value)) + value


def _int32(number: int) -> bytes:
    if number >> 31:
        raise PeerError("masking-rows", "a row with its columns hidden is longer than 2**31-1 bytes")
    return number.to_bytes(4, "big")
