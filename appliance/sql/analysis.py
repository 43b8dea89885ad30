"""Analyses of texts, remembered: by `normal` key where a text has one, else by the whole text."""

from __future__ import annotations

from typing import Final

from appliance.sql.grammar import MAX_BYTES, Unparsed
from appliance.sql.normal import normal
from appliance.sql.shape import shape
from appliance.sql.statements import Statement, statements

# Client encodings in which non-ASCII bytes are read here. In all others, only texts in ASCII are: every encoding of
# PostgreSQL's means the same by them (documentation, "Character Set Support").
_READ: Final = frozenset(("UTF8", "UTF-8", "UNICODE", "SQL_ASCII"))

_LONG: Final = 8192  # bytes: a longer text is not remembered whole


class Analysis:
    """What is known of a text. One object serves all texts of the same key: `statements` of one statement says nothing
    of where it ends. Compared and hashed by identity, so that what a caller finds out of it can be kept by it."""

    __slots__ = ("__weakref__", "shape", "statements")

    def __init__(self, found: tuple[Statement, ...], text_shape: str) -> None:
        self.statements = found
        self.shape = text_shape

    def slices(self, text: bytes) -> list[bytes]:
        """The text of each statement, of the text that was analysed."""
        if len(self.statements) == 1:
            return [text]
        return [text[statement.start : statement.end] for statement in self.statements]


class Analyser:
    """Analyses texts and remembers up to `most` of the latest, in two generations: when the young one is full, it
    becomes the old one, and the old one is forgotten. What is asked for again is young again.

    It is shared by sessions of all jobs: it holds no text's constants but those of whole texts that were kept as keys.
    """

    __slots__ = ("_half", "_max_bytes", "_old", "_young")

    def __init__(self, most: int = 4096, max_bytes: int = MAX_BYTES) -> None:
        self._half = max(most // 2, 1)
        self._max_bytes = max_bytes
        self._young: dict[bytes, Analysis] = {}
        self._old: dict[bytes, Analysis] = {}

    def analyse(self, text: bytes, encoding: str = "UTF8") -> Analysis:
        """The analysis of a text in the session's client_encoding. Raises `Unparsed`; refusals are not remembered."""
        if not text.isascii() and encoding.upper() not in _READ:
            raise Unparsed("sql-encoding", f"text beyond ASCII is read in UTF-8 only, not in {encoding}")
        key = normal(text) or b"\0" + text  # no text has a NUL: the two kinds of keys are apart
        known = self._young.get(key)
        if known is not None:
            return known
        known = self._old.get(key)
        if known is None:
            known = Analysis(statements(text, self._max_bytes), shape(text))
        if len(key) <= _LONG:
            if len(self._young) >= self._half:
                self._old = self._young
                self._young = {}
            self._young[key] = known
        return known
