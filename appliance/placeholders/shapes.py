"""A placeholder's text: the same length and shape as the real one, and nothing of it.

The shape comes from the real value, a sample or a regular expression. From a value: a leading marker (`ghp_`, `sk-…`,
`AKIA`, `eyJ`) and all punctuation stay where they are; each letter or digit after it is drawn anew from the kinds
(lower, upper, digits; hex alone if there is nothing else) that occur in the value. At least 128 bits are random, or
there is no placeholder: it must not be guessed by a job that sees others.

A UUID keeps its hyphens only: with its version digits kept it would have 122 bits.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Sequence
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final, Protocol

from appliance.model.secret import Secret

MIN_BITS: Final = 128
Random = Callable[[int], bytes]

_MARKER: Final = re.compile(
    r"github_pat_|gh[a-z]_|gl[a-z]{2,8}-|xox[a-z]-|sk-(?:[a-z]{2,8}[-_])*|(?:[srp]k|whsec)_(?:live_|test_)?|AKIA|ASIA"
    r"|AIza|eyJ|hv[sbr]\.|dop_v1_|npm_|pypi-|[A-Za-z]{2,8}_"
)
_HEX: Final = re.compile(r"[0-9a-f]+|[0-9A-F]+")
# What may be drawn: nothing that any encoding would have to escape, so that each form keeps its length
_SAFE: Final = frozenset(string.ascii_letters + string.digits + "-_.~")
_TRIES: Final = 16


class Shape(Protocol):
    """`config.schema.Shape`: at most one of the two is given."""

    @property
    def regex(self) -> str | None: ...
    @property
    def sample(self) -> str | None: ...


def make(real: Secret, shape: Shape, random: Random) -> str:
    """A placeholder for `real`, as long as it. `random(n)` gives n random bytes.

    Raises ValueError, with what to change, if the shape does not fit the value or leaves under 128 random bits. The
    message says nothing of the value but its length.
    """
    text = _ascii(real)
    if shape.regex is not None:
        places = _places_of_regex(shape.regex, len(text))
    else:
        model = text if shape.sample is None else shape.sample
        if len(model) != len(text):
            raise ValueError(f"the sample has {len(model)} characters, the secret {len(text)}: give one as long")
        places = _places_of_text(model)
    bits = sum(math.log2(len(place)) for place in places)
    if bits < MIN_BITS:
        raise ValueError(
            f"the shape leaves {int(bits)} random bits, but {MIN_BITS} are needed so that nobody can guess it: "
            "the secret is too short, or its shape too narrow; use a longer secret, or a wider shape"
        )
    for _ in range(_TRIES):
        made = "".join(place if len(place) == 1 else _draw(place, random) for place in places)
        if not _alike(made, text, places):
            if shape.regex is not None and re.fullmatch(shape.regex, made) is None:
                raise ValueError("shape.regex: only literals, classes, groups and counts are understood")
            return made
    raise ValueError("the shape leaves the placeholder too much like the secret; use a wider shape")


def _ascii(real: Secret) -> str:
    value = real.reveal()
    if not all(0x21 <= code <= 0x7E for code in value):
        raise ValueError("a secret that has a placeholder is printable ASCII without spaces")
    return value.decode("ascii")


def _places_of_text(model: str) -> list[str]:
    """For each position the characters that it may have."""
    marker = _MARKER.match(model)
    kept = marker.end() if marker is not None else 0
    body = [char for char in model[kept:] if char.isascii() and char.isalnum()]
    joined = "".join(body)
    if len(body) >= 16 and not joined.isdigit() and _HEX.fullmatch(joined):
        drawn = "0123456789" + ("abcdef" if joined == joined.lower() else "ABCDEF")
    else:
        kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
        drawn = "".join(kind for kind in kinds if any(char in kind for char in body))
    return list(model[:kept]) + [drawn if char.isascii() and char.isalnum() else char for char in model[kept:]]


def _draw(place: str, random: Random) -> str:
    """One of the characters, each as likely as the others."""
    limit = 256 - 256 % len(place)
    while True:
        for number in random(4):
            if number < limit:
                return place[number % len(place)]


def _alike(made: str, real: str, places: Sequence[str]) -> bool:
    """They share eight drawn characters in a row, or are equal."""
    run = 0
    for ours, theirs, place in zip(made, real, places, strict=True):
        run = run + 1 if ours == theirs and len(place) > 1 else 0
        if run >= 8:
            return True
    return made == real


# ---- regular expressions ----


def _places_of_regex(pattern: str, length: int) -> list[str]:
    """Positions of a text of `length` characters that matches. Variable counts grow from the left until it is long
    enough. Raises ValueError for what is not understood, or if no such length is possible."""
    try:
        parsed = parser.parse(pattern)
    except re.error as error:
        raise ValueError(f"shape.regex: {error}") from None
    atoms: list[tuple[list[str], int, int]] = []
    _flatten(parsed, atoms)
    places: list[list[str]] = [atom * low for atom, low, _ in atoms]
    missing = length - sum(len(place) for place in places)
    for index, (atom, low, high) in enumerate(atoms):
        while missing >= len(atom) and low < high and atom:
            places[index] += atom
            missing -= len(atom)
            low += 1
    if missing:
        raise ValueError(f"shape.regex matches no text as long as the secret ({length} characters)")
    return [place for each in places for place in each]


def _flatten(parsed: Any, atoms: list[tuple[list[str], int, int]]) -> None:
    for op, argument in parsed:
        if op is ops.AT:
            continue
        if op is ops.SUBPATTERN:
            _flatten(argument[3], atoms)
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            low, high, body = argument
            inner: list[tuple[list[str], int, int]] = []
            _flatten(body, inner)
            if any(a != b for _, a, b in inner):
                raise ValueError("shape.regex: a count within a counted group is not understood")
            row = [place for atom, count, _ in inner for place in atom * count]
            atoms.append((row, low, 1 << 16 if high is ops.MAXREPEAT else high))
        else:
            atoms.append(([_characters(op, argument)], 1, 1))


def _characters(op: Any, argument: Any) -> str:
    if op is ops.LITERAL:
        return chr(argument)
    if op is ops.IN:
        found = "".join(sorted({char for each in argument for char in _class(*each)} & _SAFE))
        if not found:
            raise ValueError("shape.regex: a class holds no letter, digit or one of - _ . ~")
        return found
    raise ValueError("shape.regex: only literals, classes, groups and counts are understood")


def _class(op: Any, argument: Any) -> str:
    if op is ops.LITERAL:
        return chr(argument)
    if op is ops.RANGE:
        return "".join(map(chr, range(argument[0], min(argument[1], 0x7E) + 1)))
    if op is ops.CATEGORY and argument is ops.CATEGORY_DIGIT:
        return string.digits
    if op is ops.CATEGORY and argument is ops.CATEGORY_WORD:
        return string.ascii_letters + string.digits + "_"
    raise ValueError("shape.regex: of the classes only ranges, \\d and \\w are understood")
