from __future__ import annotations

from typing import NamedTuple

import postgast


class Unparsed(Exception): ...


class Relation(NamedTuple):
    schema: str
    name: str


class Statement(NamedTuple):
    command: str
    reads: tuple[Relation, ...] = ()
    writes: tuple[Relation, ...] = ()
    columns: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    where: bool = False
    marks: tuple[str, ...] = ()
    name: str = ""
    inner: tuple[str, ...] = ()
    start: int = 0
    end: int = 0


def statements(text: str) -> tuple[Statement, ...]:
    try:
        parts = postgast.split(text)
        postgast.parse(text)
    except Exception as e:
        raise Unparsed(str(e)) from None
    return tuple(
        Statement({"drop": "drop-table"}.get(p.split()[0].lower(), p.split()[0].lower()), end=len(text))
        for p in parts
        if p.strip()
    )
