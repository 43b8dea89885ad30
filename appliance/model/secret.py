"""The type that real credentials live in. It does not print, compare by value in logs, pickle or serialise.

LIMITS. CPython cannot promise that no copy of a byte string stays in memory. The type guards against
the ways in which secrets are lost in practice: a repr, a traceback, a log line, a JSON encoder, a core
dump (the daemons set PR_SET_DUMPABLE to 0).
"""

from __future__ import annotations

import hmac
from typing import NoReturn, final


@final
class Secret:
    """A real credential. `reveal()` is the one way out; call it only where the bytes are written to a
    verified peer, turned into a scan pattern, or handed over the vault's own socket."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes) or not value:
            raise ValueError("a secret is a non-empty byte string")
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> NoReturn:
        raise TypeError("a Secret is not a dictionary key")

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
