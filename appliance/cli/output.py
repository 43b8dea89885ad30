"""What people and programs read: tables, JSON, and errors of one sentence with the next step.

Text that came from a job (a path, an argument, a host name) never moves a terminal's cursor: what is not printable is
shown by its escape. A reader that goes away (`| head`) ends the program quietly, as SIGPIPE would.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

OK, NO, USAGE, UNAVAILABLE, FORBIDDEN, CONFIGURATION = 0, 1, 64, 69, 77, 78
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it


def fail(message: str, status: int) -> NoReturn:
    """Ends the program: `message` on stderr, one sentence."""
    warn(message)
    raise SystemExit(status)


def warn(message: str) -> None:
    """One sentence on stderr."""
    try:
        print(f"coatcheck: {_lines_of(message)}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody reads it


def say(text: str) -> None:
    """Text on stdout, line feeds kept."""
    write(_lines_of(text) + "\n")


def show_json(value: Any) -> None:
    write(json_of(value, indent=2) + "\n")


def json_of(value: Any, indent: int | None = None) -> str:
    """`value` as JSON. What is not printable is escaped (RFC 8259 section 7), so that it can stand in a terminal."""
    text = json.dumps(value, indent=indent, sort_keys=indent is not None, ensure_ascii=False)
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """A plain table that survives a pipe; `empty` is said where there is no row."""
    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        say(empty)
        return
    if sys.stdout.isatty():
        _show_in_terminal(columns, cells)
        return
    widths = [max(len(row[index]) for row in (list(columns), *cells)) for index in range(len(columns))]
    for row in (columns, *cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        write("  ".join(padded).rstrip() + "\n")


def plain(cell: Any) -> str:
    """A cell's text on one line: lists by commas, nothing for None, what is not printable by its escape."""
    if isinstance(cell, (list, tuple)):
        cell = ", ".join(map(str, cell))
    text = "" if cell is None else str(cell)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def write(text: str) -> None:
    """`text` on stdout, as it is and now."""
    if sys.stdout is None:
        return  # closed by whoever started us
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # the rest of what is buffered must not fail once more at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(_BROKEN_PIPE) from None
        fail(f"the output cannot be written: {error.strerror}", NO)


def _show_in_terminal(columns: Sequence[str], cells: list[list[str]]) -> None:
    """Cells that are too wide are folded."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(table)
    write(captured.get())


def _lines_of(text: str) -> str:
    return "\n".join(plain(line) for line in text.split("\n"))


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"
