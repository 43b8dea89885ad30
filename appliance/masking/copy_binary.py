"""COPY's FORMAT binary (PostgreSQL documentation, COPY, "Binary Format")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.masking.copy_base import CopyMasker, broken
from appliance.masking.masker import Masker
from appliance.model.errors import PeerError

_NULL_FIELD: Final = b"\xff\xff\xff\xff"
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEAD: Final = len(_SIGNATURE) + 8  # then int32 flags, int32 length of the extension
_TRAILER: Final = 0xFFFF


class BinaryCopy(CopyMasker):
    """FORMAT binary: signature, flags, extension; then rows: int16 number of columns, for each int32 length (-1: NULL)
    and bytes; at the end -1 instead of a number of columns."""

    __slots__ = ("_ended", "_need", "_started")

    def __init__(self, columns: Sequence[Masker | None], max_row: int) -> None:
        super().__init__(columns, max_row)
        self._started = False
        self._ended = False
        self._need = _HEAD  # bytes without which there is no use in looking

    def end(self) -> None:
        super().end()
        if not self._ended:
            raise broken("ends without its trailer")

    def _feed(self, payload: bytes) -> bytes:
        if self._held_size + len(payload) < self._need:
            self._hold(payload)
            return b""
        data = self._take(payload)
        out: list[bytes] = []
        at = 0
        if not self._started:
            at = self._head(data)
            if at < 0:
                self._hold(data)
                return b""
            out.append(data[:at])
        while at < len(data):
            if self._ended:
                raise broken("goes on after its trailer")
            start = at
            at = self._row(data, start, out)
            if at < 0:
                self._hold(data[start:])
                return b"".join(out)
        self._need = 0
        return b"".join(out)

    def _head(self, data: bytes) -> int:
        """Where the head ends; -1 if it is not all there."""
        if not data.startswith(_SIGNATURE):
            raise broken("in binary has no signature")
        flags = len(_SIGNATURE)
        if data[flags] or data[flags + 1]:  # bits 16 to 31: what a reader must know of
            raise broken("in binary has flags that nobody knows")
        end = _HEAD + int.from_bytes(data[flags + 4 : _HEAD], "big")
        if end > self._max_row:
            raise broken("in binary has too long a head")
        if len(data) < end:
            self._need = end
            return -1
        self._started = True
        return end

    def _row(self, data: bytes, start: int, out: list[bytes]) -> int:
        """Puts the row at `start` in `out`, hidden, and returns where it ends; -1 if it is not all there."""
        size = len(data)
        if start + 2 > size:
            self._need = 2
            return -1
        count = (data[start] << 8) | data[start + 1]
        at = start + 2
        if count == _TRAILER:
            self._ended = True
            out.append(data[start:at])
            return at
        if count != self._count:
            raise broken("has a row with another number of columns than its table")
        pieces: list[bytes] = []
        copied = start
        for masker in self._maskers:
            if at + 4 > size:
                self._need = at + 4 - start
                return -1
            if data[at] == 0xFF:
                if data[at : at + 4] != _NULL_FIELD:
                    raise broken("in binary has a field of negative length")
                at += 4
                continue
            end = at + 4 + ((data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3])
            if end - start > self._max_row:
                raise PeerError("masking-copy", f"a row of COPY is longer than {self._max_row} bytes")
            if end > size:
                self._need = end - start
                return -1
            if masker is not None:
                if masker.constant:
                    pieces.append(data[copied:at])
                    pieces.append(_field(masker.value))
                    copied = end
                else:
                    before = data[at + 4 : end]
                    after = masker.mask(before)
                    if after is not before:
                        pieces.append(data[copied:at])
                        pieces.append(_field(after))
                        copied = end
            at = end
        out += pieces
        out.append(data[copied:at])
        self.rows += 1
        return at


def _field(value: bytes | None) -> bytes:
    return _NULL_FIELD if value is None else len(value).to_bytes(4, "big") + value
