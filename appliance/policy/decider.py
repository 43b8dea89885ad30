"""Answers that are remembered, and so are not asked for again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from appliance.model.verdict import AnyOperation, Operation, Verdict

_VERDICTS = 2048  # of one plan
_LARGEST = 500  # names in a statement: an agent could have gigabytes of longer ones remembered
Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """At most `most` answers; the one unused for longest goes first."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._known: OrderedDict[Key, Value] = OrderedDict()
        self._most = most

    def get(self, key: Key) -> Value | None:
        value = self._known.get(key)
        if value is not None:
            self._known.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> Value:
        self._known[key] = value
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return value


def _names(operation: AnyOperation) -> int:
    if isinstance(operation, Operation):
        return 0
    return len(operation.reads) + len(operation.writes) + len(operation.columns) + len(operation.functions)


class Decider:
    """One plan's verdicts by operation; `ask` gives one that is not known."""

    __slots__ = ("_ask", "_known")

    def __init__(self, ask: Callable[[AnyOperation], Verdict]) -> None:
        self._ask = ask
        self._known: Remembered[AnyOperation, Verdict] = Remembered(_VERDICTS)

    def verdict(self, operation: AnyOperation) -> Verdict:
        if _names(operation) > _LARGEST:
            return self._ask(operation)
        known = self._known.get(operation)
        return known if known is not None else self._known.put(operation, self._ask(operation))
