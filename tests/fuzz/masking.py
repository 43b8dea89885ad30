"""Masks: no bytes break a masker; a run of rows or a COPY stream is refused, or what goes out of it can be read and has
nothing in its hidden columns; a COPY stream has the same fate however it is cut."""

from __future__ import annotations

import json
import random
import struct

from appliance.masking.copy import BINARY, CSV, CopyFormat, copy_masker
from appliance.masking.detectors import DETECTORS, chosen
from appliance.masking.hiding import HOWS, Token
from appliance.masking.kinds import known
from appliance.masking.masker import Masker
from appliance.masking.rows import RowMasker
from appliance.masking.values import detecting, masker
from appliance.model.errors import PeerError
from tests.fuzz.runner import Harness, main
from tests.masking import forms

TOKEN = Token(b"key of one job")
COLUMNS: list[Masker | None] = [None, masker("hide", (), known(25), False, TOKEN), None]
ROWS: list[list[bytes | None]] = [[b"a", b"secret", b"b"], [None, None, b""], [b"\\N", b"x\ty\nz", b'"q",|*\\']]
FORMATS = [
    CopyFormat(),
    CopyFormat(delimiter=b"|", null=b"", header=True),
    CSV,
    CSV._replace(escape=b"\\", quote=b"'", null=b"NULL"),
    CSV._replace(quote=b"|", escape=b"*", delimiter=b"\t", force_quote=frozenset({1})),
    BINARY,
]
OIDS = [16, 17, 20, 25, 114, 199, 650, 701, 869, 1007, 1009, 1016, 1700, 2249, 3802, 3807, 99_999]


def check_rows(data: bytes, chance: random.Random) -> None:
    masking = RowMasker(COLUMNS)
    out = masking.mask(data)
    before, after = forms.data_rows(data), forms.data_rows(out)
    if len(before) != len(after) or masking.rows != len(after):
        raise AssertionError("rows were lost or made")
    for old, new in zip(before, after, strict=True):
        if (old[0], old[2]) != (new[0], new[2]) or new[1] != (None if old[1] is None else b"***"):
            raise AssertionError(f"{old} became {new}")


def check_copy(data: bytes, chance: random.Random) -> None:
    options = chance.choice(FORMATS)

    def fate(pieces: list[bytes]) -> bytes | None:
        masking = copy_masker(options, COLUMNS, max_row=10_000)
        try:
            out = b"".join([masking.feed(piece) for piece in pieces])
            masking.end()
        except PeerError:
            return None
        return out

    whole = fate([data])
    cut = chance.randint(0, len(data))
    if len(data) < 10_000 and fate([data[:cut], data[cut:]]) != whole:
        raise AssertionError("another chunking has another fate")
    if whole is None:
        return
    if options.format == "binary":
        rows = forms.read_copy_binary(whole)
    else:
        rows = (forms.read_copy_text if options.format == "text" else forms.read_copy_csv)(whole, options)
    for number, row in enumerate(rows):
        if len(row) != 3 or (row[1] not in (None, b"***") and not (options.header and not number)):
            raise AssertionError(f"{options}: {row}")


def check_values(data: bytes, chance: random.Random) -> None:
    oid, how, binary = chance.choice(OIDS), chance.choice(HOWS), chance.random() < 0.5
    paths = chance.choice([(), ("$.a",), ("$.**.a", "$.b[*]")])
    after = masker(how, paths, known(oid), binary, TOKEN).mask(data)
    if oid == 114 and after is not None:
        json.loads(after.decode("utf-8"))
    hiding = detecting(chosen(tuple(DETECTORS)), how, known(oid), binary, TOKEN)
    found = data if hiding is None else hiding.mask(data)
    if oid == 114 and found is not None:
        json.loads(found.decode("utf-8"))


ROW_SEEDS = [b"".join(map(forms.data_row, ROWS)), forms.data_row(ROWS[0]), forms.data_row(ROWS[1])]
COPY_SEEDS = [
    forms.copy_binary(ROWS)
    if one.format == "binary"
    else (forms.copy_text if one.format == "text" else forms.copy_csv)(ROWS, one)
    for one in FORMATS
]
VALUE_SEEDS = [
    *(
        b'{"a": ["x", {"b": [1, 2.5e3, null]}], "b": true}',
        b'{"{\\"a\\": 1}",NULL}',
        b'[0:1]={{a,b},{c,"d"}}',
        b"1e400",
    ),
    *(b"to a@b.example, 4111 1111 1111 1111, DE89370400440532013000, 123-45-6789", b"2001:db8::1 10.0.0.1", b"\\x6140"),
    *(b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln", b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----", b"inf", b"nan"),
    struct.pack(">iiIiiii", 1, 0, 25, 2, 1, 1, -1)[:28] + b"\0\0\0\1a",
    struct.pack(">hhHh4h", 4, 3, 0, 0, 4111, 1111, 1111, 1111),
]
TOKENS = [
    *(
        b"\\",
        b"\n",
        b"\r",
        b"\t",
        b'"',
        b"'",
        b",",
        b"|",
        b"*",
        b"\\N",
        b"\\.",
        b'""',
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"@",
    ),
    *(b"\xff\xff\xff\xff", b"\xff\xff", b"\0\0\0\0", b"\0\0\0\1", b"\0\3", b"D", b"\x7f\xff\xff\xff", b"\x80\0\0\0"),
    *(b"\xff", b"\xc3\xbc", b"\\u0061", b"\\ud800", b"null", b"-", b".", b"eyJ", b"::", b" ", b"4111", b"a@b.co"),
]

ROW_MASKS = Harness("masking rows", ROW_SEEDS, TOKENS, check_rows)
COPY_MASKS = Harness("masking copy", COPY_SEEDS, TOKENS, check_copy)
VALUE_MASKS = Harness("masking values", VALUE_SEEDS, TOKENS, check_values)

if __name__ == "__main__":
    main(ROW_MASKS, COPY_MASKS, VALUE_MASKS)
