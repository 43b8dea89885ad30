"""COPY … TO STDOUT, with some of its columns hidden (PostgreSQL documentation, COPY, "File Formats").

CopyData payloads come in, cut in any way; payloads of whole rows go out. Held back is at most one unfinished row. A
server sends a row in each CopyData (PostgreSQL documentation, chapter 55.2.6: a client must not count on it), and then
a row comes out for each that goes in, so that clients that read row by row see no difference.

What the server would never write raises PeerError: a row that is read in another way than the client reads it could
show a masked column. The column's values are in text form in text and CSV.

LIMITS. A session whose client_encoding embeds ASCII (appliance.masking.values.EMBED_ASCII), or a COPY with such an
ENCODING, is for the caller to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from appliance.masking.masker import Masker
from appliance.model.errors import PeerError

MAX_ROW: Final = 16 << 20  # bytes of one row

_NEWLINE: Final = 0x0A
_NULL_FIELD: Final = b"\xff\xff\xff\xff"
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_BINARY_HEAD: Final = len(_SIGNATURE) + 8  # then int32 flags, int32 length of the extension
_TRAILER: Final = 0xFFFF


class CopyFormat(NamedTuple):
    """The options of a COPY statement, as the server takes them: single bytes, and the NULL string in the client's
    encoding. `force_quote`: indexes of the columns that FORCE_QUOTE names (all of them for `*`)."""

    format: str = "text"  # text, csv, binary
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    header: bool = False
    quote: bytes = b'"'
    escape: bytes = b'"'
    force_quote: frozenset[int] = frozenset()


CSV: Final = CopyFormat("csv", b",", b"")  # the defaults of FORMAT csv
BINARY: Final = CopyFormat("binary")


class CopyMasker:
    """Hides columns of one COPY. `rows`, `received`, `sent`: rows so far (a header is none), bytes before and after."""

    __slots__ = ("_count", "_held", "_held_size", "_maskers", "_max_row", "received", "rows", "sent")

    def __init__(self, columns: Sequence[Masker | None], max_row: int = MAX_ROW) -> None:
        self.rows = 0
        self.received = 0
        self.sent = 0
        self._maskers = list(columns)
        self._count = len(columns)
        self._max_row = max_row
        self._held: list[bytes] = []  # the unfinished row
        self._held_size = 0

    def feed(self, payload: bytes) -> bytes:
        """What the client gets for a CopyData's payload: whole rows; b"" if none is finished (then send nothing).

        Raises PeerError; nothing more may be sent then.
        """
        self.received += len(payload)
        out = self._feed(payload)
        self.sent += len(out)
        return out

    def end(self) -> None:
        """At CopyDone. Raises PeerError if a row, or a binary stream's trailer, is unfinished."""
        if self._held:
            raise _broken("ends within a row")

    def _feed(self, payload: bytes) -> bytes:
        raise NotImplementedError

    def _hold(self, rest: bytes) -> None:
        if rest:
            self._held.append(rest)
            self._held_size += len(rest)
            if self._held_size > self._max_row:
                raise PeerError("masking-copy", f"a row of COPY is longer than {self._max_row} bytes")

    def _take(self, rest: bytes) -> bytes:
        """What is held, and this after it."""
        if not self._held:
            return rest
        self._held.append(rest)
        whole = b"".join(self._held)
        self._held = []
        self._held_size = 0
        return whole


def _broken(what: str) -> PeerError:
    return PeerError("masking-copy", f"a COPY stream {what}")


class _TextCopy(CopyMasker):
    """FORMAT text: a row is a line; `\\` escapes the delimiter, and a line's end is never in a value."""

    __slots__ = ("_delimiter", "_header", "_null", "_plain", "_special")

    def __init__(self, options: CopyFormat, columns: Sequence[Masker | None], max_row: int) -> None:
        super().__init__(columns, max_row)
        self._delimiter = options.delimiter
        self._null = options.null
        self._header = options.header
        # A tab in a value is always written `\t`, so that a line's tabs are all delimiters.
        self._plain = options.delimiter == b"\t"
        self._special = re.compile(rb"[\x08\t\n\x0b\x0c\r\\" + re.escape(options.delimiter) + rb"]")

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
            raise _broken("has a bare carriage return in it")
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
                if field != self._null:
                    if masker.constant:
                        after = masker.value
                    else:
                        before = _unescaped(field)
                        after = masker.mask(before)
                        if after is before:
                            index += 1
                            continue
                    fields[index] = self._null if after is None else self._escaped(after)
                    changed = True
            index += 1
        return self._delimiter.join(fields) if changed else line

    def _fields(self, line: bytes) -> list[bytes]:
        """A line's fields as they stand there. Raises PeerError for another number of them than there are columns."""
        if not self._count:
            if line:
                raise _broken("has fields, but its table has no column")
            return []
        fields = line.split(self._delimiter)
        if b"\\" in line:
            if not self._plain:
                fields = self._rejoined(fields)
            for field in fields:
                if field.endswith(b"\\") and _odd_backslashes(field) and field != self._null:
                    raise _broken("has a backslash with nothing after it")
        if len(fields) != self._count:
            raise _broken("has a row with another number of columns than its table")
        return fields

    def _rejoined(self, pieces: list[bytes]) -> list[bytes]:
        """Fields of which some were split at an escaped delimiter."""
        fields: list[bytes] = []
        pending: list[bytes] = []
        for piece in pieces:
            pending.append(piece)
            if not (piece.endswith(b"\\") and _odd_backslashes(piece)) or piece == self._null:
                fields.append(pending[0] if len(pending) == 1 else self._delimiter.join(pending))
                pending = []
        if pending:
            fields.append(self._delimiter.join(pending))
        return fields

    def _escaped(self, value: bytes) -> bytes:
        if self._special.search(value) is not None:
            value = self._special.sub(_escape, value)
        if value == self._null:  # it would be read as NULL: any character may have a backslash before it
            value = b"\\" + value if value and value[0] not in _NAMED_ESCAPES else value
        return value


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


class _CsvCopy(CopyMasker):
    """FORMAT csv: a value that has a delimiter, a quote or a line's end in it stands in quotes; NULL never does."""

    __slots__ = (
        *("_delimiter", "_escape", "_force", "_header", "_in_quotes", "_inside", "_null", "_outside"),
        *("_pending", "_quote", "_quote_byte", "_special"),
    )

    def __init__(self, options: CopyFormat, columns: Sequence[Masker | None], max_row: int) -> None:
        super().__init__(columns, max_row)
        self._delimiter = options.delimiter
        self._quote = options.quote
        self._quote_byte = options.quote[0]
        self._escape = options.escape
        self._null = options.null
        self._header = options.header
        self._force = options.force_quote
        special = re.escape(options.delimiter + options.quote)
        self._special = re.compile(rb"[\r\n" + special + rb"]")
        # Where a row ends: a newline that is in no quotes. A doubled quote ends quotes and begins new ones.
        self._outside = re.compile(rb"[\n" + re.escape(options.quote) + rb"]")
        self._inside = re.compile(rb"[" + re.escape(options.quote + options.escape) + rb"]")
        self._in_quotes = False
        self._pending = False  # the last byte was an escape within quotes, and what it escapes is still to come

    def _feed(self, payload: bytes) -> bytes:
        out: list[bytes] = []
        row_start = 0
        at = 0
        end = len(payload)
        while at < end:
            if self._pending:
                self._pending = False
                if payload[at] not in (self._quote_byte, self._escape[0]):
                    raise _broken("escapes what needs no escape")
                at += 1
                continue
            found = (self._inside if self._in_quotes else self._outside).search(payload, at)
            if found is None:
                break
            at = found.end()
            byte = payload[at - 1]
            if byte == self._quote_byte:
                self._in_quotes = not self._in_quotes
            elif self._in_quotes:
                self._pending = True
            else:
                out.append(self._row(self._take(payload[row_start : at - 1])))
                row_start = at
        self._hold(payload[row_start:])
        return b"".join(out)

    def _row(self, row: bytes) -> bytes:
        """A row without its newline; what comes out has it."""
        starts, ends = self._fields(row)
        if self._header:
            self._header = False
            return row + b"\n"
        self.rows += 1
        out: list[bytes] = []
        copied = 0
        index = 0
        for masker in self._maskers:
            if masker is not None:
                raw = row[starts[index] : ends[index]]
                quoted = raw.startswith(self._quote)
                if quoted or raw != self._null:
                    if masker.constant:
                        after = masker.value
                    else:
                        before = self._unquoted(raw) if quoted else raw
                        after = masker.mask(before)
                        if after is before:
                            index += 1
                            continue
                    out.append(row[copied : starts[index]])
                    out.append(self._null if after is None else self._quoted(after, index))
                    copied = ends[index]
            index += 1
        out.append(row[copied:])
        out.append(b"\n")
        return b"".join(out)

    def _fields(self, row: bytes) -> tuple[list[int], list[int]]:
        """Where each field begins and ends, with its quotes. Raises PeerError."""
        starts: list[int] = []
        ends: list[int] = []
        size = len(row)
        at = 0
        while True:
            if len(starts) == self._count:
                if self._count == 0 and not size:
                    return starts, ends
                raise _broken("has a row with another number of columns than its table")
            starts.append(at)
            if at < size and row[at] == self._quote_byte:
                at = self._end_of_quotes(row, at + 1)
                if at < size and row[at] != self._delimiter[0]:
                    raise _broken("has something after a closing quote")
            else:
                found = row.find(self._delimiter, at)
                field_start = at
                at = size if found < 0 else found
                if row.find(self._quote, field_start, at) >= 0 or row.find(b"\r", field_start, at) >= 0:
                    raise _broken("has a quote or a carriage return in a field without quotes")
            ends.append(at)
            if at == size:
                break
            at += 1
        if len(starts) != self._count:
            raise _broken("has a row with another number of columns than its table")
        return starts, ends

    def _end_of_quotes(self, row: bytes, at: int) -> int:
        """The place after the quote that closes a field, of which the first byte is at `at`."""
        same = self._quote == self._escape
        while True:
            found = self._inside.search(row, at)
            if found is None:
                raise _broken("has quotes that are not closed")
            at = found.end()
            if row[at - 1] == self._quote_byte:
                if same and row[at : at + 1] == self._quote:
                    at += 1
                    continue
                return at
            at += 1  # what is escaped was checked when the row's end was found

    def _unquoted(self, raw: bytes) -> bytes:
        inner = raw[1:-1]
        if self._quote == self._escape:
            return inner.replace(self._quote + self._quote, self._quote)
        return re.sub(re.escape(self._escape) + rb"(.)", rb"\1", inner, flags=re.DOTALL)

    def _quoted(self, value: bytes, index: int) -> bytes:
        """As the server writes a value that is not NULL (`CopyAttributeOutCSV`)."""
        if (
            index not in self._force
            and value != self._null
            and self._special.search(value) is None
            and not (self._count == 1 and value == b"\\.")
        ):
            return value
        if self._quote != self._escape:
            value = value.replace(self._escape, self._escape + self._escape)
        return self._quote + value.replace(self._quote, self._escape + self._quote) + self._quote


class _BinaryCopy(CopyMasker):
    """FORMAT binary: signature, flags, extension; then rows: int16 number of columns, for each int32 length (-1: NULL)
    and bytes; at the end -1 instead of a number of columns."""

    __slots__ = ("_ended", "_need", "_started")

    def __init__(self, columns: Sequence[Masker | None], max_row: int) -> None:
        super().__init__(columns, max_row)
        self._started = False
        self._ended = False
        self._need = _BINARY_HEAD  # bytes without which there is no use in looking

    def end(self) -> None:
        super().end()
        if not self._ended:
            raise _broken("ends without its trailer")

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
                raise _broken("goes on after its trailer")
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
            raise _broken("in binary has no signature")
        flags = len(_SIGNATURE)
        if data[flags] or data[flags + 1]:  # bits 16 to 31: what a reader must know of
            raise _broken("in binary has flags that nobody knows")
        end = _BINARY_HEAD + int.from_bytes(data[flags + 4 : _BINARY_HEAD], "big")
        if end > self._max_row:
            raise _broken("in binary has too long a head")
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
            raise _broken("has a row with another number of columns than its table")
        pieces: list[bytes] = []
        copied = start
        for masker in self._maskers:
            if at + 4 > size:
                self._need = at + 4 - start
                return -1
            if data[at] == 0xFF:
                if data[at : at + 4] != _NULL_FIELD:
                    raise _broken("in binary has a field of negative length")
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


def copy_masker(options: CopyFormat, columns: Sequence[Masker | None], max_row: int = MAX_ROW) -> CopyMasker:
    """What hides columns of a COPY with these options. `columns`: for each column that is copied what hides it, or None
    (text and CSV: maskers for text form; binary: for binary form). `max_row`: bytes of one row, before it is hidden.

    Raises PeerError for a format that there is not, and for options that the server would not take.
    """
    if options.format == "binary":
        return _BinaryCopy(columns, max_row)
    single = len(options.delimiter) == 1 and options.delimiter not in b"\r\n"
    if not single or b"\n" in options.null or b"\r" in options.null or options.delimiter in options.null:
        raise _broken("has a delimiter or a NULL that the server would not take")
    if options.format == "text":
        if options.delimiter in b"\\.abcdefghijklmnopqrstuvwxyz0123456789":
            raise _broken("has a delimiter that the server would not take")
        return _TextCopy(options, columns, max_row)
    if options.format == "csv":
        quotes = (options.quote, options.escape)
        if any(len(one) != 1 or one in b"\r\n" for one in quotes) or options.quote == options.delimiter:
            raise _broken("has a quote or an escape that the server would not take")
        if options.quote in options.null:
            raise _broken("has a quote in its NULL")
        return _CsvCopy(options, columns, max_row)
    raise _broken(f"is in a format that is not known: {options.format}")
