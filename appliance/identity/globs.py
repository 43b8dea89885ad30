"""Globs: `*` is any run of characters without "/", `**` any run at all, every other character is itself.

A pattern matches the whole text or not at all. Paths come from agents, and so do the patterns of minted
placeholders: matching takes one step of a bit-parallel automaton for each character of the text, and there is
no pattern that makes it take more.
"""

from __future__ import annotations

import re
from typing import final

MAX_PATTERN = 512  # characters
_TOKEN = re.compile(r"\*+|[^*]", re.DOTALL)


@final
class Glob:
    """A compiled pattern. Raises ValueError if it is empty or longer than MAX_PATTERN."""

    __slots__ = ("_accept", "_across", "_literal", "_literals", "_stars", "_start", "_within", "pattern")

    def __init__(self, pattern: str) -> None:
        if not pattern:
            raise ValueError("a pattern is not empty")
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"a pattern has at most {MAX_PATTERN} characters, this one has {len(pattern)}")
        self.pattern = pattern
        # Bit i of a set of states: the first i tokens have matched what was read so far.
        self._literals: dict[str, int] = {}
        self._within = 0  # states before a `*`
        self._across = 0  # states before a `**`
        tokens = _TOKEN.findall(pattern)
        for place, token in enumerate(tokens):
            bit = 1 << place
            if token == "*":  # noqa: S105  # a token of the pattern, not a credential
                self._within |= bit
            elif token[0] == "*":
                self._across |= bit
            else:
                self._literals[token] = self._literals.get(token, 0) | bit
        self._stars = self._within | self._across
        self._literal = pattern if not self._stars else None
        self._accept = 1 << len(tokens)
        self._start = self._skip(1)

    def _skip(self, states: int) -> int:
        """Adds the states that a star reaches by matching nothing. Two stars never stand side by side."""
        return states | ((states & self._stars) << 1)

    def matches(self, text: str) -> bool:
        if self._literal is not None:
            return text == self._literal
        states = self._start
        literals, across = self._literals, self._across
        for character in text:
            staying = states & (across if character == "/" else self._stars)
            states = self._skip(((states & literals.get(character, 0)) << 1) | staying)
            if not states:
                return False
        return bool(states & self._accept)

    def __repr__(self) -> str:
        return f"Glob({self.pattern!r})"
