"""A bounded memory of what is met again: a key that comes once leaves next to nothing behind."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recurring(Generic[Key, Value]):
    """Values by key, `most` of them; kept from the second time on that a key is put. When it is full it is emptied:
    what recurs is soon there again."""

    __slots__ = ("_met", "_most", "_values", "get")

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[Key, Value] = {}
        self._met: set[int] = set()  # hashes of the keys that were put once
        self.get = self._values.get

    def put(self, key: Key, value: Value) -> None:
        mark = hash(key)
        if mark in self._met:
            if len(self._values) >= self._most:
                self._values.clear()
            self._values[key] = value
        else:
            if len(self._met) >= 4 * self._most:
                self._met.clear()
            self._met.add(mark)
