"""What must be known of a PostgreSQL type to hide its values: is it text, and if not, which value of it says nothing.

Sources: PostgreSQL's documentation, chapter 8 (text forms) and 55.7 (formats), `src/include/catalog/pg_type.dat` (OIDs)
and each type's `*_recv` function (binary forms).

LIMITS. The text forms of dates and of money are those of `DateStyle` ISO and of the locale C.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

TEXT: Final = 0  # text and binary form are the characters
JSON: Final = 1  # the same, but what takes a value's place must be JSON
JSONB: Final = 2  # the same; the binary form begins with the version, 1
ARRAY: Final = 3
OTHER: Final = 4

HIDDEN: Final = b"***"
HIDDEN_JSON: Final = b'"***"'
JSONB_VERSION: Final = b"\x01"

FIRST_MADE: Final = 16384  # transam.h: FirstNormalObjectId. Lower OIDs are the server's own
_MOST_WITHIN: Final = 32  # domains over arrays of domains over …


class ValueType(NamedTuple):
    """`neutral_text`, `neutral_binary`: a value that says nothing, in both formats; None: only NULL is known to fit.
    `element`, for arrays: the kind of their elements; `element_oid`, their type."""

    oid: int
    kind: int
    neutral_text: bytes | None
    neutral_binary: bytes | None
    element: int = OTHER
    element_oid: int = 0


_TEXT_TYPES: Final = {
    19: "name",
    25: "text",
    142: "xml",
    705: "unknown",
    1042: "bpchar",
    1043: "varchar",
    1790: "refcursor",
    2275: "cstring",
}
_JSON_OID: Final = 114
_JSONB_OID: Final = 3802

_EMPTY_RANGE: Final = (b"empty", b"\x01")  # rangetypes.h: RANGE_EMPTY
_NO_RANGES: Final = (b"{}", bytes(4))
_NO_OBJECT: Final = (b"-", bytes(4))  # the reg… types print OID 0 so
_ZERO: Final = b"0"

# Type OID -> its neutral value as text, and in binary. Dates count from 2000-01-01, so there all is zero.
_NEUTRAL: Final[dict[int, tuple[bytes, bytes]]] = {
    16: (b"f", bytes(1)),  # bool
    17: (b"\\x", b""),  # bytea
    18: (b"*", b"*"),  # "char"
    20: (_ZERO, bytes(8)),  # int8
    21: (_ZERO, bytes(2)),  # int2
    23: (_ZERO, bytes(4)),  # int4
    24: _NO_OBJECT,  # regproc
    26: (_ZERO, bytes(4)),  # oid
    27: (b"(0,0)", bytes(6)),  # tid: block, offset
    28: (_ZERO, bytes(4)),  # xid
    29: (_ZERO, bytes(4)),  # cid
    600: (b"(0,0)", bytes(16)),  # point
    601: (b"[(0,0),(0,0)]", bytes(32)),  # lseg
    603: (b"(0,0),(0,0)", bytes(32)),  # box
    650: (b"0.0.0.0/32", b"\x02\x20\x01\x04" + bytes(4)),  # cidr: family, bits, is_cidr, length, address
    700: (_ZERO, bytes(4)),  # float4
    701: (_ZERO, bytes(8)),  # float8
    718: (b"<(0,0),0>", bytes(24)),  # circle
    774: (b"00:00:00:00:00:00:00:00", bytes(8)),  # macaddr8
    790: (b"$0.00", bytes(8)),  # money
    829: (b"00:00:00:00:00:00", bytes(6)),  # macaddr
    869: (b"0.0.0.0", b"\x02\x20\x00\x04" + bytes(4)),  # inet
    1082: (b"2000-01-01", bytes(4)),  # date: days
    1083: (b"00:00:00", bytes(8)),  # time: microseconds
    1114: (b"2000-01-01 00:00:00", bytes(8)),  # timestamp: microseconds
    1184: (b"2000-01-01 00:00:00+00", bytes(8)),  # timestamptz
    1186: (b"00:00:00", bytes(16)),  # interval: microseconds, days, months
    1266: (b"00:00:00+00", bytes(12)),  # timetz: microseconds, zone in seconds
    1560: (_ZERO, b"\x00\x00\x00\x01\x00"),  # bit: number of bits, bits
    1562: (b"", bytes(4)),  # varbit
    1700: (_ZERO, bytes(8)),  # numeric: digits, weight, sign, scale
    2202: _NO_OBJECT,  # regprocedure
    2203: (_ZERO, bytes(4)),  # regoper
    2204: (_ZERO, bytes(4)),  # regoperator
    2205: _NO_OBJECT,  # regclass
    2206: _NO_OBJECT,  # regtype
    2278: (b"", b""),  # void
    2950: (b"00000000-0000-0000-0000-000000000000", bytes(16)),  # uuid
    3220: (b"0/0", bytes(8)),  # pg_lsn
    3614: (b"", bytes(4)),  # tsvector: number of lexemes
    3734: _NO_OBJECT,  # regconfig
    3769: _NO_OBJECT,  # regdictionary
    3904: _EMPTY_RANGE,  # int4range
    3906: _EMPTY_RANGE,  # numrange
    3908: _EMPTY_RANGE,  # tsrange
    3910: _EMPTY_RANGE,  # tstzrange
    3912: _EMPTY_RANGE,  # daterange
    3926: _EMPTY_RANGE,  # int8range
    4072: (b"$", b"\x01$"),  # jsonpath: version, text
    4089: _NO_OBJECT,  # regnamespace
    4096: _NO_OBJECT,  # regrole
    4191: _NO_OBJECT,  # regcollation
    4451: _NO_RANGES,  # int4multirange
    4532: _NO_RANGES,  # nummultirange
    4533: _NO_RANGES,  # tsmultirange
    4534: _NO_RANGES,  # tstzmultirange
    4535: _NO_RANGES,  # datemultirange
    4536: _NO_RANGES,  # int8multirange
    5069: (_ZERO, bytes(8)),  # xid8
}

# An array's OID -> its elements'. int2vector and oidvector are not here: they have no array syntax. (An array of boxes
# has semicolons between them; nobody looks into it.)
# fmt: off
_ARRAYS: Final[dict[int, int]] = {
    143: 142, 199: 114, 271: 5069, 629: 628, 651: 650, 719: 718, 775: 774, 791: 790, 1000: 16, 1001: 17, 1002: 18,
    1003: 19, 1005: 21, 1007: 23, 1008: 24, 1009: 25, 1010: 27, 1011: 28, 1012: 29, 1014: 1042, 1015: 1043, 1016: 20,
    1017: 600, 1018: 601, 1019: 602, 1020: 603, 1021: 700, 1022: 701, 1027: 604, 1028: 26, 1034: 1033, 1040: 829,
    1041: 869, 1115: 1114, 1182: 1082, 1183: 1083, 1185: 1184, 1187: 1186, 1231: 1700, 1263: 2275, 1270: 1266,
    1561: 1560, 1563: 1562, 2201: 1790, 2207: 2202, 2208: 2203, 2209: 2204, 2210: 2205, 2211: 2206, 2287: 2249,
    2951: 2950, 3221: 3220, 3643: 3614, 3645: 3615, 3735: 3734, 3770: 3769, 3807: 3802, 3905: 3904, 3907: 3906,
    3909: 3908, 3911: 3910, 3913: 3912, 3927: 3926, 4073: 4072, 4090: 4089, 4097: 4096, 4192: 4191, 6150: 4451,
    6151: 4532, 6152: 4533, 6153: 4534, 6155: 4535, 6157: 4536,
}
# fmt: on


def text_like(oid: int) -> ValueType:
    return ValueType(oid, TEXT, HIDDEN, HIDDEN)


def array_of(oid: int, element: ValueType) -> ValueType:
    """The array type `oid` of this type. Neutral is the empty array; in binary: dimensions, flags, type."""
    return ValueType(oid, ARRAY, b"{}", bytes(8) + element.oid.to_bytes(4, "big"), element.kind, element.oid)


def known(oid: int) -> ValueType:
    """What is known of a type by its OID alone: the server's own types. Of others only NULL can be said."""
    if oid in _TEXT_TYPES:
        return text_like(oid)
    if oid == _JSON_OID:
        return ValueType(oid, JSON, HIDDEN_JSON, HIDDEN_JSON)
    if oid == _JSONB_OID:
        return ValueType(oid, JSONB, HIDDEN_JSON, JSONB_VERSION + HIDDEN_JSON)
    if oid in _ARRAYS:
        return array_of(oid, known(_ARRAYS[oid]))
    neutral = _NEUTRAL.get(oid)
    if neutral is not None:
        return ValueType(oid, OTHER, neutral[0], neutral[1])
    return _unknown(oid)


def made(oid: int, form: str, inner_oid: int, inner: ValueType) -> ValueType:
    """A type that the server's users made.

    `form`: d domain, e enum, r range, m multirange, t what is written as text is (citext), a array. `inner`: of a
    domain its base type, of an array its elements' type; `inner_oid`: how the server names that (`inner` of an array of
    domains is what they are made of).
    """
    if form == "d":
        return inner
    if form in ("e", "t"):
        return text_like(oid)
    if form == "r":
        return ValueType(oid, OTHER, _EMPTY_RANGE[0], _EMPTY_RANGE[1])
    if form == "m":
        return ValueType(oid, OTHER, _NO_RANGES[0], _NO_RANGES[1])
    if form == "a":
        whole = array_of(oid, inner)
        element = OTHER if inner.kind == ARRAY else inner.kind  # of a domain over an array: an array is no text
        return whole._replace(neutral_binary=bytes(8) + inner_oid.to_bytes(4, "big"), element=element)
    return _unknown(oid)


def value_type(oid: int, types: Mapping[int, tuple[str, int]]) -> ValueType:
    """`known`, and of those that are not: by `types`, the form of each type that users made, and the OID within it."""
    return _within(oid, types, _MOST_WITHIN)


def _within(oid: int, types: Mapping[int, tuple[str, int]], deep: int) -> ValueType:
    row = types.get(oid) if oid >= FIRST_MADE else None
    if row is None:
        return known(oid)
    if not deep:
        return _unknown(oid)
    form, inner = row
    return made(oid, form, inner, _within(inner, types, deep - 1))


def _unknown(oid: int) -> ValueType:
    return ValueType(oid, OTHER, None, None)
