"""Arrays, element by element (PostgreSQL documentation, chapter 8.15.6; binary: `array_send` in arrayfuncs.c).

Dimensions, bounds and NULLs stay as they are: how many elements there are is not hidden.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.masking.masker import Masker

_BOUNDS: Final = re.compile(rb"(?:\[[+-]?[0-9]{1,10}:[+-]?[0-9]{1,10}\]){1,6}=")
# A quoted element, a bare one, or the structure between them.
_PART: Final = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([^"\\{},]++)|([{},]++)', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED: Final = re.compile(rb'["\\]')
_BARE: Final = re.compile(rb'(?![Nn][Uu][Ll][Ll]\Z)[^"\\{},\s]+')  # what needs no quotes (array_out)
_MOST_DIMENSIONS: Final = 6  # MAXDIM in array.h
_NULL: Final = b"\xff\xff\xff\xff"


def _quoted(value: bytes | None) -> bytes:
    if value is None:
        return b"NULL"
    if _BARE.fullmatch(value) is not None:
        return value
    return b'"' + _ESCAPED.sub(rb"\\\g<0>", value) + b'"'


class ArrayText:
    """An array in text form. `element` hides one element."""

    __slots__ = ("_element",)

    def __init__(self, element: Masker) -> None:
        self._element = element

    def rewrite(self, value: bytes) -> bytes | None:
        """The array with its elements hidden; the same object if none changed; None if it cannot be read."""
        out: list[bytes] = []
        copied = 0
        bounds = _BOUNDS.match(value)
        at = 0 if bounds is None else bounds.end()
        if value[at : at + 1] != b"{":
            return None
        depth = 0
        element_may_be = False  # an element stands only after { or a comma
        while at < len(value):
            found = _PART.match(value, at)
            if found is None:
                return None
            quoted, bare, structure = found.groups()
            end = found.end()
            if structure is not None:
                depth += structure.count(b"{") - structure.count(b"}")
                if b"}{" in structure or depth < 0 or (depth == 0 and end != len(value)):
                    return None
                element_may_be = not structure.endswith(b"}")
            elif not element_may_be:
                return None
            else:
                element_may_be = False
                if quoted is not None or bare.upper() != b"NULL":
                    before = bare if quoted is None else _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted
                    after = self._element.mask(before)
                    if after is not before:
                        out.append(value[copied:at])
                        out.append(_quoted(after))
                        copied = end
            at = end
        if depth:
            return None
        if not out:
            return value
        out.append(value[copied:])
        return b"".join(out)


class ArrayBinary:
    """An array in binary form: number of dimensions, whether NULLs are in it, element type; for each dimension its size
    and lower bound; then the elements, each with its length. All int32."""

    __slots__ = ("_element",)

    def __init__(self, element: Masker) -> None:
        self._element = element

    def rewrite(self, value: bytes) -> bytes | None:
        """As ArrayText's."""
        dimensions = int.from_bytes(value[:4], "big")
        at = 12 + 8 * dimensions
        if len(value) < 12 or dimensions > _MOST_DIMENSIONS or at > len(value):
            return None
        count = 1 if dimensions else 0
        for dimension in range(dimensions):
            count *= int.from_bytes(value[12 + 8 * dimension : 16 + 8 * dimension], "big")
        if count > (len(value) - at) // 4:
            return None
        out: list[bytes] = []
        copied = 8  # the first two words are written anew if anything changes
        nulls = value[4:8]
        for _ in range(count):
            head = value[at : at + 4]
            if len(head) < 4:
                return None
            if head == _NULL:
                at += 4
                continue
            end = at + 4 + int.from_bytes(head, "big")
            if end > len(value):
                return None
            before = value[at + 4 : end]
            after = self._element.mask(before)
            if after is not before:
                out.append(value[copied:at])
                if after is None:
                    nulls = b"\x00\x00\x00\x01"
                    out.append(_NULL)
                else:
                    out.append(len(after).to_bytes(4, "big"))
                    out.append(after)
                copied = end
            at = end
        if at != len(value):
            return None
        if not out:
            return value
        out.append(value[copied:])
        return value[:4] + nulls + b"".join(out)
