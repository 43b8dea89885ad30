"""What hides the values of one column. The rows' and the COPY streams' code knows no more of values than this."""

from __future__ import annotations

from collections.abc import Sequence


class Masker:
    """Hides values that are not NULL (a NULL stays what it is). `constant`: every value becomes `value` (None: NULL),
    without a look at it."""

    __slots__ = ("constant", "value")

    def __init__(self, constant: bool = False, value: bytes | None = None) -> None:
        self.constant = constant
        self.value = value

    def mask(self, value: bytes) -> bytes | None:
        """What the client gets for this value, in the column's type and format; None: NULL; the same object: it stays.

        Never raises: a value that cannot be read is hidden whole.
        """
        return self.value


class Chain(Masker):
    """One after the other: several masks hold for the same column."""

    __slots__ = ("_maskers",)

    def __init__(self, maskers: Sequence[Masker]) -> None:
        super().__init__()
        self._maskers = list(maskers)

    def mask(self, value: bytes) -> bytes | None:
        now: bytes | None = value
        for masker in self._maskers:
            if now is None:
                return None
            now = masker.mask(now)
        return now


def chain(maskers: Sequence[Masker]) -> Masker | None:
    """All of these as one; None if there are none. One that hides everything comes alone: of several, NULL wins."""
    constants = [masker for masker in maskers if masker.constant]
    if constants:
        for masker in constants:
            if masker.value is None:
                return masker
        return constants[0]
    if len(maskers) == 1:
        return maskers[0]
    return Chain(maskers) if maskers else None
