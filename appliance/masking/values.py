"""How the values of one column are hidden: by its type, its format, and what the mask says.

    text and what is like it   by `how`: `***`, NULL, a part, a token
    json, jsonb                whole: `"***"` or a token as a JSON string; by paths: those leaves, each in its own type
                               (a string as a text, a number 0, true and false false, an object {}, an array [])
    arrays of these            each element; arrays of anything else: empty
    any other type             a value that says nothing: 0, false, 2000-01-01, …; NULL where none is known (composite
                               values, path, polygon, types of which nothing is known). "partial" and "token", too

A value that cannot be read as what its type says is hidden whole.

ENCODINGS. Texts are looked into on the assumption that an ASCII byte is an ASCII character. That holds for UTF8, for
the ISO, Windows and EUC encodings, but not for SJIS, BIG5, GBK, UHC, GB18030 and JOHAB: a session with masks must not
use them as its client_encoding, nor COPY as its ENCODING.
"""

from __future__ import annotations

import struct
from typing import Final

from appliance.masking.array_value import ArrayBinary, ArrayText
from appliance.masking.detectors import Detector
from appliance.masking.hiding import Hiding, Hits, Token, hiding
from appliance.masking.json_text import JsonText, Path, parse_path, string_of
from appliance.masking.kinds import ARRAY, HIDDEN_JSON, JSON, JSONB, JSONB_VERSION, OTHER, TEXT, ValueType, known
from appliance.masking.masker import Masker

_INT8: Final = 20
_FLOAT8: Final = 701
_NUMERIC: Final = 1700
_BYTEA: Final = 17
_CIDR: Final = 650
_INET: Final = 869
_MOST_NUMERIC_DIGITS: Final = 16  # base 10,000: more are no number that a detector knows
# No detector can find anything in these: bool, int2, int4, oid, xid, dates and times, uuid, hardware addresses, …
_NOT_LOOKED_AT: Final = frozenset(
    {16, 18, 21, 23, 24, 26, 27, 28, 29, 600, 601, 603, 718, 774, 790, 829, 1082, 1083, 1114, 1184, 1186, 1266}
    | {1560, 1562, 2202, 2203, 2204, 2205, 2206, 2278, 2950, 3220, 3734, 3769, 4089, 4096, 4191}
)


class _Text(Masker):
    __slots__ = ("_hiding",)

    def __init__(self, way: Hiding) -> None:
        super().__init__()
        self._hiding = way

    def mask(self, value: bytes) -> bytes | None:
        return self._hiding.text(value)


class _Json(Masker):
    """JSON of which leaves are hidden. `version`: bytes in front of the text."""

    __slots__ = ("_hidden", "_text", "_version")

    def __init__(self, text: JsonText, version: bytes) -> None:
        super().__init__()
        self._text = text
        self._version = version
        self._hidden = version + HIDDEN_JSON

    def mask(self, value: bytes) -> bytes | None:
        if not self._version:
            after = self._text.rewrite(value)
            return self._hidden if after is None else after
        if not value.startswith(self._version):
            return self._hidden
        before = value[len(self._version) :]
        after = self._text.rewrite(before)
        return self._hidden if after is None else value if after is before else self._version + after


class _WholeJson(Masker):
    """JSON that is hidden whole, by a token of its text."""

    __slots__ = ("_hiding", "_version")

    def __init__(self, way: Hiding, version: bytes) -> None:
        super().__init__()
        self._hiding = way
        self._version = version

    def mask(self, value: bytes) -> bytes | None:
        after = self._hiding.text(value[len(self._version) :])
        return None if after is None else self._version + string_of(after)


class _Array(Masker):
    __slots__ = ("_array", "_hidden")

    def __init__(self, array: ArrayText | ArrayBinary, hidden: bytes | None) -> None:
        super().__init__()
        self._array = array
        self._hidden = hidden

    def mask(self, value: bytes) -> bytes | None:
        after = self._array.rewrite(value)
        return self._hidden if after is None else after


class _Other(Masker):
    """A value that is no text, hidden if something is found in it."""

    __slots__ = ("_binary", "_hidden", "_hits", "_oid")

    def __init__(self, oid: int, hits: Hits, binary: bool, hidden: bytes | None) -> None:
        super().__init__()
        self._oid = oid
        self._hits = hits
        self._binary = binary
        self._hidden = hidden

    def mask(self, value: bytes) -> bytes | None:
        readable = _readable(self._oid, value, self._binary)
        return value if self._hits.text(readable) is readable else self._hidden


def _readable(oid: int, value: bytes, binary: bool) -> bytes:
    """A value as a detector can read it; as it is, where there is no better form."""
    if oid == _BYTEA and not binary:
        try:
            return bytes.fromhex(value[2:].decode("ascii")) if value.startswith(b"\\x") else value
        except ValueError:
            return value
    if oid == _FLOAT8:
        try:
            number = float(struct.unpack(">d", value)[0]) if binary else float(value)
            return b"%d" % int(number) if number.is_integer() else b""
        except (ValueError, struct.error):
            return value
    if not binary:
        return value
    if oid == _INT8 and len(value) == 8:
        return b"%d" % int.from_bytes(value, "big", signed=True)
    if oid == _NUMERIC:
        return _numeric(value)
    if oid in (_INET, _CIDR) and len(value) == 8:
        return b".".join([b"%d" % byte for byte in value[4:]])
    if oid in (_INET, _CIDR) and len(value) == 20:
        return value[4:].hex(":", 2).encode("ascii")
    return value


def _numeric(value: bytes) -> bytes:
    """The whole part of a binary numeric (`numeric_send`: digits, weight, sign, scale; then digits of base 10,000)."""
    if len(value) < 8 or len(value) % 2:
        return value
    digits = (len(value) - 8) // 2
    whole = int.from_bytes(value[2:4], "big", signed=True) + 1
    if digits != int.from_bytes(value[:2], "big") or digits > _MOST_NUMERIC_DIGITS or whole > _MOST_NUMERIC_DIGITS:
        return b""
    number = 0
    for index in range(whole):
        at = 8 + 2 * index
        number = number * 10_000 + (int.from_bytes(value[at : at + 2], "big") if index < digits else 0)
    return b"%d" % number


def masker(how: str, paths: tuple[str, ...], value_type: ValueType, binary: bool, token: Token) -> Masker:
    """What hides a column of this type that comes in this format.

    `how`, `paths`: of appliance.model.verdict.Mask; paths hold for JSON (and arrays of it) alone, a column of another
    type is hidden whole. Raises ValueError for a word or a path that there is not.
    """
    way = hiding(how, token)
    steps = tuple([parse_path(path) for path in paths])
    kind = value_type.kind
    neutral = value_type.neutral_binary if binary else value_type.neutral_text
    if kind in (JSON, JSONB) and steps:
        return _element_masker(way, steps, kind, binary)
    if way.nulls and not (kind == ARRAY and steps and value_type.element in (JSON, JSONB)):
        return Masker(constant=True, value=None)
    if kind == ARRAY and value_type.element != OTHER:
        return _array(_element_masker(way, steps, value_type.element, binary), binary, neutral)
    if kind in (ARRAY, OTHER):
        return Masker(constant=True, value=neutral)
    return _element_masker(way, (), kind, binary)


def _element_masker(way: Hiding, paths: tuple[Path, ...], kind: int, binary: bool) -> Masker:
    if kind == TEXT:
        return Masker(constant=True, value=way.text(b"")) if way.fixed else _Text(way)
    version = JSONB_VERSION if kind == JSONB and binary else b""
    if paths:
        return _Json(JsonText(way, paths, everywhere=False), version)
    if isinstance(way, Token):
        return _WholeJson(way, version)
    return Masker(constant=True, value=None if way.nulls else version + HIDDEN_JSON)


def _array(element: Masker, binary: bool, hidden: bytes | None) -> Masker:
    return _Array(ArrayBinary(element) if binary else ArrayText(element), hidden)


def detecting(
    detectors: tuple[Detector, ...], how: str, value_type: ValueType, binary: bool, token: Token
) -> Masker | None:
    """What looks for these things in a column, and hides them; None if they cannot be in values of this type.

    In texts and in JSON's strings and names only what was found is hidden (with "null": the text in which it was); a
    number in JSON becomes 0. Any other value is hidden whole. Raises ValueError for a word that there is not.
    """
    hits = Hits(detectors, hiding(how, token))
    kind = value_type.element if value_type.kind == ARRAY else value_type.kind
    oid = value_type.element_oid if value_type.kind == ARRAY else value_type.oid
    if oid in _NOT_LOOKED_AT:
        return None
    if kind == TEXT:
        one: Masker = _Text(hits)
    elif kind in (JSON, JSONB):
        one = _Json(JsonText(hits, (), everywhere=True), JSONB_VERSION if kind == JSONB and binary else b"")
    else:
        single = known(oid) if value_type.kind == ARRAY else value_type
        one = _Other(oid, hits, binary, single.neutral_binary if binary else single.neutral_text)
    if value_type.kind != ARRAY:
        return one
    return _array(one, binary, value_type.neutral_binary if binary else value_type.neutral_text)
