"""Rows: one attempt each, with what stops it. docs/bypass.md is made of them: `python -m tests.bypass.rows`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

KINDS = ("other ways out", "other identities", "taking the secret", "PostgreSQL", "the local API")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "bypass.md"
BEGIN, END = "<!-- rows: begin -->\n", "<!-- rows: end -->\n"


@dataclass(frozen=True)
class Row:
    """`script` is Python for `Driver.run`, which must come out as one of `outcomes` (a text that starts with it
    will do); rows without a script are tried by a test function under `tries(name)`, or by the function `elsewhere`
    ("file::function"). `holds` False: it is not stopped, and `stopped_by` says what helps."""

    name: str
    stopped_by: str
    script: str = ""
    outcomes: tuple[str, ...] = ()
    elsewhere: str = ""
    holds: bool = True


_Test = TypeVar("_Test", bound=Callable[..., None])
TRIED: dict[str, str] = {}  # row -> the test function that tries it


def tries(*names: str) -> Callable[[_Test], _Test]:
    """Marks a test function as the one that tries these rows."""

    def mark(test: _Test) -> _Test:
        for name in names:
            if name in TRIED:
                raise ValueError(f"two tests try {name!r}: {TRIED[name]} and {test.__name__}")
            TRIED[name] = test.__name__
        return test

    return mark


def rows() -> dict[str, tuple[Row, ...]]:
    """All rows by kind. Raises ValueError if two have one name."""
    from tests.bypass import databases, identities, local_api, taking, ways_out

    found = dict(zip(KINDS, (ways_out.ROWS, identities.ROWS, taking.ROWS, databases.ROWS, local_api.ROWS), strict=True))
    names = [row.name for kind in found.values() for row in kind]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"rows of one name: {twice}")
    return found


def table() -> str:
    """The part of docs/bypass.md between its two marks."""
    lines = [BEGIN]
    for kind, found in rows().items():
        lines += [f"\n## {kind[0].upper()}{kind[1:]}\n\n", "| attempt | stopped by |\n", "|---|---|\n"]
        lines += [f"| {row.name} | {row.stopped_by} |\n" for row in found if row.holds]
        if any(not row.holds for row in found):
            lines += ["\nNot stopped:\n\n", "| attempt | why, and what helps |\n", "|---|---|\n"]
            lines += [f"| {row.name} | {row.stopped_by} |\n" for row in found if not row.holds]
    return "".join([*lines, "\n", END])


def written() -> str:
    """What docs/bypass.md has there now."""
    text = DOCUMENT.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


if __name__ == "__main__":
    DOCUMENT.write_text(DOCUMENT.read_text().replace(written(), table()))
