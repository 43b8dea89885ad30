"""Rows in the forms that a server writes and a client reads, written down a second time, simply."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from appliance.masking.copy import CopyFormat

Row = Sequence[bytes | None]
SIGNATURE = b"PGCOPY\n\xff\r\n\0"


def data_row(row: Row) -> bytes:
    body = struct.pack(">H", len(row)) + b"".join(field(value) for value in row)
    return b"D" + struct.pack(">I", len(body) + 4) + body


def field(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def data_rows(run: bytes) -> list[list[bytes | None]]:
    """The rows of a run, read as a client reads them; asserts that nothing is left over."""
    rows = []
    while run:
        assert run[:1] == b"D"
        (length,) = struct.unpack_from(">i", run, 1)
        message, run = run[5 : 1 + length], run[1 + length :]
        assert len(message) == length - 4
        row, rest = binary_fields(message)
        assert not rest
        rows.append(row)
    return rows


def binary_fields(data: bytes) -> tuple[list[bytes | None], bytes]:
    (count,) = struct.unpack_from(">H", data)
    at = 2
    row: list[bytes | None] = []
    for _ in range(count):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if size < 0:
            assert size == -1
            row.append(None)
        else:
            assert at + size <= len(data)
            row.append(data[at : at + size])
            at += size
    return row, data[at:]


def copy_binary(rows: Sequence[Row], extension: bytes = b"") -> bytes:
    head = SIGNATURE + struct.pack(">II", 0, len(extension)) + extension
    body = b"".join(struct.pack(">H", len(row)) + b"".join(field(value) for value in row) for row in rows)
    return head + body + b"\xff\xff"


def read_copy_binary(data: bytes) -> list[list[bytes | None]]:
    assert data.startswith(SIGNATURE)
    (extension,) = struct.unpack_from(">I", data, 15)
    data = data[19 + extension :]
    rows = []
    while data[:2] != b"\xff\xff":
        row, data = binary_fields(data)
        rows.append(row)
    assert data == b"\xff\xff"
    return rows


def copy_text(rows: Sequence[Row], options: CopyFormat) -> bytes:
    """As CopyAttributeOutText writes it."""
    named = {8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 92: b"\\\\"}
    out = b""
    for row in rows:
        fields = []
        for value in row:
            if value is None:
                fields.append(options.null)
                continue
            text = b""
            for byte in value:
                here = bytes((byte,))
                text += named[byte] if byte in named else b"\\" + here if here == options.delimiter else here
            fields.append(text)
        out += options.delimiter.join(fields) + b"\n"
    return out


def read_copy_text(data: bytes, options: CopyFormat) -> list[list[bytes | None]]:
    """As CopyReadAttributesText reads it: byte by byte."""
    named = {b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
    rows: list[list[bytes | None]] = []
    assert not data or data.endswith(b"\n")
    row: list[bytes | None] = []
    raw = value = b""
    at = 0
    while at < len(data):
        here = data[at : at + 1]
        at += 1
        if here in (b"\n", options.delimiter):
            row.append(None if raw == options.null else value)
            raw = value = b""
            if here == b"\n":
                rows.append(row)
                row = []
        elif here == b"\\":
            after = data[at : at + 1]
            at += 1
            raw += here + after
            value += named.get(after, after)
        else:
            raw += here
            value += here
    assert not raw
    return rows


def copy_csv(rows: Sequence[Row], options: CopyFormat) -> bytes:
    """As CopyAttributeOutCSV writes it."""
    out = b""
    for row in rows:
        fields = []
        for index, value in enumerate(row):
            if value is None:
                fields.append(options.null)
                continue
            special = {options.delimiter, options.quote, b"\n", b"\r"}
            if (
                index in options.force_quote
                or value == options.null
                or any(one in value for one in special)
                or (len(row) == 1 and value == b"\\.")
            ):
                text = b""
                for byte in value:
                    here = bytes((byte,))
                    text += options.escape + here if here in (options.quote, options.escape) else here
                value = options.quote + text + options.quote
            fields.append(value)
        out += options.delimiter.join(fields) + b"\n"
    return out


def read_copy_csv(data: bytes, options: CopyFormat) -> list[list[bytes | None]]:
    """As CopyReadAttributesCSV reads it: byte by byte."""
    rows: list[list[bytes | None]] = []
    row: list[bytes | None] = []
    value = b""
    quoted = inside = False
    at = 0
    while at < len(data):
        here = data[at : at + 1]
        at += 1
        if inside:
            after = data[at : at + 1]
            if here == options.escape and after and after in (options.escape, options.quote):
                value += after
                at += 1
            elif here == options.quote:
                inside = False
            else:
                value += here
        elif here in (b"\n", options.delimiter):
            row.append(None if value == options.null and not quoted else value)
            value, quoted = b"", False
            if here == b"\n":
                rows.append(row)
                row = []
        elif here == options.quote:
            inside = quoted = True
        else:
            value += here
    assert (inside, value, row) == (False, b"", [])
    return rows
