"""COPY's FORMAT csv (PostgreSQL documentation, COPY, "CSV Format"; written by `CopyAttributeOutCSV`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.masking.copy_base import CopyFormat, CopyMasker, broken
from appliance.masking.masker import Masker


class CsvCopy(CopyMasker):
    """FORMAT csv: a value that has a delimiter, a quote or a line's end in it stands in quotes; NULL never does."""

    __slots__ = (
        *("_delimiter", "_escape", "_force", "_header", "_in_quotes", "_inside", "_null_form", "_outside"),
        *("_pending", "_quote", "_quote_byte", "_special"),
    )

    def __init__(self, options: CopyFormat, columns: Sequence[Masker | None], max_row: int) -> None:
        super().__init__(columns, max_row)
        self._delimiter = options.delimiter
        self._quote = options.quote
        self._quote_byte = options.quote[0]
        self._escape = options.escape
        self._null_form = options.null
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
                    raise broken("escapes what needs no escape")
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
                if quoted or raw != self._null_form:
                    if masker.constant:
                        after = masker.value
                    else:
                        before = self._unquoted(raw) if quoted else raw
                        after = masker.mask(before)
                        if after is before:
                            index += 1
                            continue
                    out.append(row[copied : starts[index]])
                    out.append(self._null_form if after is None else self._quoted(after, index))
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
                raise broken("has a row with another number of columns than its table")
            starts.append(at)
            if at < size and row[at] == self._quote_byte:
                at = self._end_of_quotes(row, at + 1)
                if at < size and row[at] != self._delimiter[0]:
                    raise broken("has something after a closing quote")
            else:
                found = row.find(self._delimiter, at)
                field_start = at
                at = size if found < 0 else found
                if row.find(self._quote, field_start, at) >= 0 or row.find(b"\r", field_start, at) >= 0:
                    raise broken("has a quote or a carriage return in a field without quotes")
            ends.append(at)
            if at == size:
                break
            at += 1
        if len(starts) != self._count:
            raise broken("has a row with another number of columns than its table")
        return starts, ends

    def _end_of_quotes(self, row: bytes, at: int) -> int:
        """The place after the quote that closes a field, of which the first byte is at `at`."""
        same = self._quote == self._escape
        while True:
            found = self._inside.search(row, at)
            if found is None:
                raise broken("has quotes that are not closed")
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
            and value != self._null_form
            and self._special.search(value) is None
            and not (self._count == 1 and value == b"\\.")
        ):
            return value
        if self._quote != self._escape:
            value = value.replace(self._escape, self._escape + self._escape)
        return self._quote + value.replace(self._quote, self._escape + self._quote) + self._quote
