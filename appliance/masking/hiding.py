"""What is put in the place of a text that must be hidden. `how` of a mask:

    hide     `***`, whatever it was
    null     NULL
    partial  `***` and the last characters: a quarter of them, at most four
    token    `tok_` and 24 characters: the same for the same text under the same key, so that joins and counts work

LIMITS. Who can have a text of his own hidden by a token, under the same key, can compare: tokens say which values are
equal, and no more. A quarter of a short text may be enough to guess it.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from appliance.masking.detectors import Detector
from appliance.masking.kinds import HIDDEN

HOWS: Final = ("hide", "null", "partial", "token")
_MOST_KEPT: Final = 4  # characters that "partial" leaves
_TOKEN_PREFIX: Final = b"tok_"
_DIGEST: Final = 15  # bytes: 120 bits are 24 base32 characters
_MOST_TOKENS: Final = 4096  # tokens that are remembered
_LONGEST_REMEMBERED: Final = 256  # bytes of a value


class Hiding:
    """One way to hide a text."""

    __slots__ = ("fixed", "nulls")

    def __init__(self) -> None:
        self.fixed = False  # what comes out never depends on what goes in
        self.nulls = False  # what comes out is NULL

    def text(self, value: bytes) -> bytes | None:
        """What stands for this text; None: NULL; the same object: it stays."""
        raise NotImplementedError


class Hide(Hiding):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.fixed = True

    def text(self, value: bytes) -> bytes | None:
        return HIDDEN


class Null(Hiding):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.fixed = True
        self.nulls = True

    def text(self, value: bytes) -> bytes | None:
        return None


class Partial(Hiding):
    __slots__ = ()

    def text(self, value: bytes) -> bytes | None:
        try:
            characters = value.decode("utf-8")
        except UnicodeDecodeError:  # another encoding: a character could be cut in two
            return HIDDEN
        kept = min(len(characters) // 4, _MOST_KEPT)
        return HIDDEN + characters[len(characters) - kept :].encode("utf-8")


class Token(Hiding):
    """`key`: 1 to 64 bytes, the same wherever tokens are to be comparable. One object serves many columns."""

    __slots__ = ("_key", "_known")

    def __init__(self, key: bytes) -> None:
        super().__init__()
        if not 1 <= len(key) <= 64:
            raise ValueError(f"a key for tokens has 1 to 64 bytes, not {len(key)}")
        self._key = key
        self._known: dict[bytes, bytes] = {}

    def text(self, value: bytes) -> bytes | None:
        token = self._known.get(value)
        if token is None:
            digest = blake2b(value, digest_size=_DIGEST, key=self._key).digest()
            token = _TOKEN_PREFIX + b32encode(digest).lower()
            if len(value) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _MOST_TOKENS:
                    self._known.clear()
                self._known[value] = token
        return token


class Hits(Hiding):
    """Hides only what detectors find; with `null`, all of a text in which they find anything."""

    __slots__ = ("_detectors", "_hiding")

    def __init__(self, detectors: Sequence[Detector], hiding: Hiding) -> None:
        super().__init__()
        self._detectors = list(detectors)
        self._hiding = hiding

    def text(self, value: bytes) -> bytes | None:
        for detector in self._detectors:
            if not detector.possible(value):
                continue
            found = detector.next(value, 0)
            if found is None:
                continue
            out: list[bytes] = []
            copied = 0
            while found is not None:
                start, end = found
                stand_in = self._hiding.text(value[start:end])
                if stand_in is None:
                    return None
                out.append(value[copied:start])
                out.append(stand_in)
                copied = end
                found = detector.next(value, end)
            out.append(value[copied:])
            value = b"".join(out)
        return value


def hiding(how: str, token: Token) -> Hiding:
    """The way that a mask names. Raises ValueError for another word."""
    if how == "hide":
        return Hide()
    if how == "null":
        return Null()
    if how == "partial":
        return Partial()
    if how == "token":
        return token
    raise ValueError(f"a mask hides by {', '.join(HOWS)}, not by {how!r}")
