"""COPY's FORMAT text (PostgreSQL documentation, COPY, "Text Format")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from appliance.masking.copy_base import CopyFormat, CopyMasker, broken
from appliance.masking.masker import Masker

_ESCAPES: Final[dict[bytes, bytes]] = {
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    b"\v": b"\\v",
}
_NAMED_ESCAPES: Final = frozenset(b"bfnrtvxN01234567.")
_VALUES: Final[dict[bytes, bytes]] = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_ESCAPED: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)


def _odd_backslashes(piece: bytes) -> bool:
    return (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1


def _escape(found: re.Match[bytes]) -> bytes:
    character = found.group()
    return _ESCAPES.get(character, b"\\" + character)


def _unescape(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, character = found.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    return _VALUES.get(character, bytes(character))


def _unescaped(field: bytes) -> bytes:
    return field if b"\\" not in field else _ESCAPED.sub(_unescape, field)


def null_may_be_value(options: CopyFormat) -> bool:
    """Whether the server writes some value as it writes NULL: who guesses that one sees which rows have it."""
    special = _special(options.delimiter)
    return options.format == "text" and special.sub(_escape, _unescaped(options.null)) == options.null


def _special(delimiter: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"[\x08\t\n\x0b\x0c\r\\" + re.escape(delimiter) + rb"]")


class TextCopy(CopyMasker):
    """FORMAT text: a row is a line; `\\` escapes the delimiter, and a line's end is never in a value."""

    __slots__ = ("_delimiter", "_header", "_null_form", "_plain", "_special")

    def __init__(self, options: CopyFormat, columns: Sequence[Masker | None], max_row: int) -> None:
        super().__init__(columns, max_row)
        self._delimiter = options.delimiter
        self._null_form = options.null
        self._header = options.header
        # A tab in a value is always written `\t`, so that a line's tabs are all delimiters.
        self._plain = options.delimiter == b"\t"
        self._special = _special(options.delimiter)

    def _feed(self, payload: bytes) -> bytes:
        last = payload.rfind(b"\n") + 1
        if not last:
            self._hold(payload)
            return b""
        lines = self._take(payload[:last]).split(b"\n")
        lines.pop()  # after the last newline there is nothing
        self._hold(payload[last:])
        out: list[bytes] = []
        for line in lines:
            out.append(self._line(line))
        out.append(b"")
        return b"\n".join(out)

    def _line(self, line: bytes) -> bytes:
        if b"\r" in line:
            raise broken("has a bare carriage return in it")
        fields = self._fields(line)
        if self._header:
            self._header = False
            return line
        self.rows += 1
        changed = False
        index = 0
        for masker in self._maskers:
            if masker is not None:
                field = fields[index]
                if field != self._null_form:
                    if masker.constant:
                        after = masker.value
                    else:
                        before = _unescaped(field)
                        after = masker.mask(before)
                        if after is before:
                            index += 1
                            continue
                    fields[index] = self._null_form if after is None else self._escaped(after)
                    changed = True
            index += 1
        return self._delimiter.join(fields) if changed else line

    def _fields(self, line: bytes) -> list[bytes]:
        """A line's fields as they stand there. Raises PeerError for another number of them than there are columns."""
        if not self._count:
            if line:
                raise broken("has fields, but its table has no column")
            return []
        fields = line.split(self._delimiter)
        if b"\\" in line:
            if not self._plain:
                fields = self._rejoined(fields)
            for field in fields:
                if field.endswith(b"\\") and _odd_backslashes(field):
                    raise broken("has a backslash with nothing after it")
        if len(fields) != self._count:
            raise broken("has a row with another number of columns than its table")
        return fields

    def _rejoined(self, pieces: list[bytes]) -> list[bytes]:
        """Fields of which some were split at an escaped delimiter."""
        fields: list[bytes] = []
        pending: list[bytes] = []
        for piece in pieces:
            pending.append(piece)
            if not (piece.endswith(b"\\") and _odd_backslashes(piece)):
                fields.append(pending[0] if len(pending) == 1 else self._delimiter.join(pending))
                pending = []
        if pending:
            fields.append(self._delimiter.join(pending))
        return fields

    def _escaped(self, value: bytes) -> bytes:
        if self._special.search(value) is not None:
            value = self._special.sub(_escape, value)
        if value == self._null_form:  # it would be read as NULL: any character may have a backslash before it
            value = b"\\" + value if value and value[0] not in _NAMED_ESCAPES else value
        return value
