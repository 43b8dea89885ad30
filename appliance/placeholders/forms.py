"""What a secret may look like in a response, and how each look is turned into the placeholder's.

A form is a row of characters, each in one of several styles (plain, `%41`, `\\u0041`, …). Literals that any occurrence
must contain (`gates`) are searched for at memory speed; only where one is found does a regular expression look at
the neighbourhood. Each of its steps is decided by the next byte or two, so it takes linear time.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Final, NamedTuple

_GATE: Final = 12  # characters of a gate; a form cut once (a line break) leaves one half with as many
_BREAK: Final = rb"(?:\r?\n|\\r\\n|\\n|%0[dD]%0[aA]|%0[aA])?"  # of a line within base64, as it is or escaped
_NAMED: Final = {ord("&"): b"&amp;", ord("<"): b"&lt;", ord(">"): b"&gt;", ord('"'): b"&quot;", ord("'"): b"&apos;"}
_STANDARD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URLSAFE: Final = _STANDARD.replace(b"+/", b"-_")
Edge = tuple[int, int, int]
LONGEST_STYLE: Final = 10  # bytes of one character at most: &#000065;


def _hex_of(code: int) -> bytes:
    """A regular expression for the two hex digits of `code` in any case."""
    return b"".join(
        b"[%c%c]" % (digit, digit ^ 0x20) if digit > ord("9") else b"%c" % digit for digit in b"%02x" % code
    )


def _styles(code: int) -> list[bytes]:
    """Regular expressions of every style of one character."""
    digits = _hex_of(code)
    styles = [re.escape(bytes((code,))), b"%" + digits, b"%25" + digits]
    styles += [rb"\\u00" + digits, rb"\\x" + digits, b"&#0{0,4}%d;" % code, b"&#[xX]0{0,4}" + digits + b";"]
    if code in b"/\"'":
        styles.append(rb"\\" + bytes((code,)))
    if code == ord("\\"):
        styles.append(rb"\\\\")
    if code in _NAMED:
        styles.append(re.escape(_NAMED[code]))
    return styles


class Found(NamedTuple):
    """data[start:end] is to become `replacement`. `cut`: the data ends before the occurrence's last, shared
    character."""

    start: int
    end: int
    replacement: bytes
    cut: bool


def restyle(found: bytes, code: int) -> bytes:
    """`code` in the style, and the length, of `found`, which is one character."""
    if len(found) == 1:
        return bytes((code,))
    if found.startswith(b"&#"):
        mark = found[:3] if found[2:3] in (b"x", b"X") else found[:2]
        width = len(found) - len(mark) - 1
        digits = b"%x" % code if len(mark) == 3 else b"%d" % code
        if len(digits) > width:  # &#57; has no room for a third digit: a placeholder spoilt, a length kept
            digits = b"%d" % ord("0")
        return mark + digits.rjust(width, b"0") + b";"
    if found.startswith((b"&", b"\\")) and found[1:2] not in (b"u", b"x"):
        return found[:-1] + bytes((code,)) if found[0] == 0x5C else found
    digits = b"%02x" % code if re.search(rb"[A-F]", found[-2:]) is None else b"%02X" % code
    return found[:-2] + digits


class Form:
    """`row` becomes `new`, character by character; both have the same length.

    `wraps`: line breaks may stand between characters. `before`, `after`: for base64, the edge characters that belong in
    part to the secret (mask of its bits, their value, their new value); mask 0 if it begins or ends with a whole one.
    """

    __slots__ = (
        "_alphabet",
        "_ambiguous",
        "_pattern",
        "_wraps",
        "after",
        "before",
        "first",
        "gates",
        "lasts",
        "longest",
        "new",
        "row",
    )

    def __init__(
        self,
        row: bytes,
        new: bytes,
        *,
        gates: tuple[bytes, ...],
        wraps: bool = False,
        alphabet: bytes = b"",
        before: Edge = (0, 0, 0),
        after: Edge = (0, 0, 0),
    ) -> None:
        self.row = row
        self.new = new
        self.gates = gates
        self.before = before
        self.after = after
        self._alphabet = alphabet
        self._wraps = wraps
        self._pattern: re.Pattern[bytes] | None = None  # made at the first gate found: most leases never need it
        self._ambiguous = any(code in b"%\\&" for code in row)
        self.longest = len(row) * (LONGEST_STYLE + (6 if wraps else 0))
        # the bytes with which an occurrence can begin, and those with which a part of one can end
        self.first = frozenset((row[0], *b"%\\&"))
        ends = {*row, *b"0123456789abcdefABCDEF%\\uxX&#;", *b"amplgtquos"}
        self.lasts = frozenset(ends | {*b"\r\nrn"}) if wraps else frozenset(ends)

    def search(self, data: bytes, low: int, high: int, found: list[Found]) -> None:
        """Appends every occurrence that lies within data[low:high]."""
        if self._pattern is None:
            units = [b"(?:" + b"|".join(_styles(code)) + b")" for code in self.row]
            self._pattern = re.compile((_BREAK if self._wraps else b"").join(units))
        for match in self._pattern.finditer(data, low, high):
            found.append(self._replaced(data, match.start(), match.end()))

    def _replaced(self, data: bytes, start: int, end: int) -> Found:
        replacement = self._restyled(data, start, end)
        mask, real, new = self.before
        if mask and start > 0:
            edge = self._edge(data[start - 1], mask, real, new)
            if edge is not None:
                start, replacement = start - 1, edge + replacement
        mask, real, new = self.after
        cut = bool(mask) and end == len(data)
        if mask and not cut:
            edge = self._edge(data[end], mask, real, new)
            if edge is not None:
                end, replacement = end + 1, replacement + edge
        return Found(start, end, replacement, cut)

    def _restyled(self, data: bytes, start: int, end: int) -> bytes:
        parts: list[bytes] = []
        position = start
        for index, code in enumerate(self.new):
            match = _step(self.row[index], self._wraps and index > 0).match(data, position, end)
            if match is None:  # read in another way than it was matched: a secret with % or \ in it
                return (self.new * (1 + (end - start) // len(self.new)))[: end - start]
            parts.append(match[1] + restyle(match[2], code))
            position = match.end()
        return b"".join(parts)

    def _edge(self, code: int, mask: int, real: int, new: int) -> bytes | None:
        """The base64 character at an edge with its bits of the secret replaced, its bits of the neighbour kept; None if
        it does not carry the secret's bits."""
        value = self._alphabet.find(code)
        if value < 0 or value & mask != real:
            return None
        value = (value & ~mask) | new
        return self._alphabet[value : value + 1]

    def begins_at(self, data: bytes, start: int, plain: bool) -> bool:
        """Whether data[start:] may be the beginning of an occurrence that goes on in the next chunk. `plain`: there is
        no escape and no line break in it."""
        if self._ambiguous:
            return True  # such a secret holds back a little more rather than be read in a wrong way
        position, size = start, len(data)
        if plain:
            return size - start < len(self.row) and self.row.startswith(data[start:])
        for index, code in enumerate(self.row):
            match = _step(code, self._wraps and index > 0).match(data, position)
            if match is None:
                return self._cut_short(data[position:], index)
            position = match.end()
            if position == size:
                return index + 1 < len(self.row)
        return False

    def _cut_short(self, rest: bytes, index: int) -> bool:
        """`rest` could become character `index`, perhaps with a line break before it."""
        if len(rest) > LONGEST_STYLE + 6:
            return False
        spelled = list(_spellings(self.row[index]))
        if self._wraps and index:
            lines = (b"\n", b"\r\n", b"\\r\\n", b"\\n", b"%0d%0a", b"%0a")
            spelled += [line + one for line in lines for one in (b"", *spelled)]
        low = rest.lower()
        return any(one.startswith(low) for one in spelled)


@lru_cache(maxsize=1024)
def _step(code: int, wraps: bool) -> re.Pattern[bytes]:
    """(line break)(one character in any style)."""
    return re.compile(b"(" + (_BREAK if wraps else b"") + b")(" + b"|".join(_styles(code)) + b")")


@lru_cache(maxsize=1024)
def _spellings(code: int) -> tuple[bytes, ...]:
    """The styles of a character, in lower case."""
    spelled = [b"%%%02x" % code, b"%%25%02x" % code, b"\\u00%02x" % code, b"\\x%02x" % code, b"\\" + bytes((code,))]
    spelled += [b"&#%s%d;" % (b"0" * n, code) for n in range(5)] + [b"&#x%s%x;" % (b"0" * n, code) for n in range(5)]
    if code in _NAMED:
        spelled.append(_NAMED[code])
    return tuple(spelled)


def forms_of(real: bytes, new: bytes) -> list[Form]:
    """Every form of `real`, to become `new` of the same length. Raises ValueError if the lengths differ."""
    if len(real) != len(new):
        raise ValueError("a placeholder has its secret's length")
    forms = [Form(real, new, gates=(real,))]
    for upper in (False, True):
        row, other = real.hex().encode(), new.hex().encode()
        row, other = (row.upper(), other.upper()) if upper else (row, other)
        if upper and row == row.lower():
            continue
        forms.append(Form(row, other, gates=_ends(row)))
    seen: set[bytes] = set()
    for alphabet in (_STANDARD, _URLSAFE):
        for offset in range(3):
            form = _base64_form(real, new, offset, alphabet)
            if form.row not in seen:
                seen.add(form.row)
                forms.append(form)
    return forms


def _ends(row: bytes) -> tuple[bytes, ...]:
    return (row[:_GATE], row[-_GATE:]) if len(row) > _GATE else (row,)


def _base64_form(real: bytes, new: bytes, offset: int, alphabet: bytes) -> Form:
    def characters(value: bytes) -> bytes:
        padded = bytes(offset) + value + bytes(-(offset + len(value)) % 3)
        return base64.b64encode(padded).translate(bytes.maketrans(_STANDARD, alphabet))

    row, other = characters(real), characters(new)
    first, last = (offset * 8 + 5) // 6, (offset + len(real)) * 8 // 6  # whole characters: [first, last)

    def edge(index: int, mask: int) -> Edge:
        return mask, alphabet.find(row[index]) & mask, alphabet.find(other[index]) & mask

    before = edge(first - 1, (0, 0b001111, 0b000011)[offset]) if offset else (0, 0, 0)
    over = (offset + len(real)) * 8 % 6
    after = edge(last, (0, 0, 0b110000, 0, 0b111100, 0)[over]) if over else (0, 0, 0)
    return Form(
        row[first:last],
        other[first:last],
        gates=_ends(row[first:last]),
        wraps=True,
        alphabet=alphabet,
        before=before,
        after=after,
    )


def escape_gates(rows: list[bytes]) -> list[bytes]:
    """Literals one of which is in every occurrence that is not all plain."""
    codes = {code for row in rows for code in row}
    gates = {b"\\u00", b"\\x", b"&#", b"%25"}
    for code in codes:
        plain = b"%02x" % code
        for digits in {
            bytes((a, b)) for a in (plain[0], plain[:1].upper()[0]) for b in (plain[1], plain[1:].upper()[0])
        }:
            gates.add(b"%" + digits)
        if code in b"/\"'\\":
            gates.add(b"\\" + bytes((code,)))
        if code in _NAMED:
            gates.add(_NAMED[code])
    return sorted(gates)
