"""What people and programs read: tables, JSON, and errors of one sentence with the next step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

OK, NO, USAGE, UNAVAILABLE, FORBIDDEN, CONFIGURATION = 0, 1, 64, 69, 77, 78


def fail(message: str, status: int) -> NoReturn:
    """Ends the program: `message` on stderr, one sentence."""
    print(f"coatcheck: {message}", file=sys.stderr)
    raise SystemExit(status)


def show_json(value: Any) -> None:
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """A plain table that survives a pipe; `empty` is said where there is no row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    count = 0
    for row in rows:
        count += 1
        table.add_row(*(Text(_plain(cell)) for cell in row))
    if not count:
        print(empty)
        return
    Console(soft_wrap=not sys.stdout.isatty(), highlight=False, width=None if sys.stdout.isatty() else 240).print(table)


def _plain(cell: Any) -> str:
    """Text that came from a job never moves a terminal's cursor."""
    text = ", ".join(map(str, cell)) if isinstance(cell, (list, tuple)) else "" if cell is None else str(cell)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
