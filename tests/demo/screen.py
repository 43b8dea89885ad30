"""What is printed. Columns where there is room, blocks where there is not; plain text where it goes to a pipe."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TextIO, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.demo.checks import Check
from tests.demo.seen import Agent, Attempt, Client, Log, Token
from tests.demo.setting import CREDENTIAL

PIPE_WIDTH = 120  # characters, unless COLUMNS says otherwise
FOLDED = 100  # columns of long text side by side from this width on
HELD, RECEIVED, RETURNED = "the agent held", "the service received", "the agent got back"


class Screen:
    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 shows ? for what it lacks
                stream.reconfigure(errors="replace")
        width = None if terminal else int(os.environ.get("COLUMNS") or PIPE_WIDTH)
        pipe = None if terminal else cast(IO[str], _Trimmed(sys.stdout))  # what Console uses of one
        self._out = Console(file=pipe, width=width, highlight=False, soft_wrap=False, emoji=False)
        self._progress = Console(stderr=True, highlight=False)
        self._box = box.SIMPLE_HEAD if terminal else None
        self._start = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Says what is being done now: a spinner on a terminal, else a line."""
        if self._progress.is_terminal:
            with self._progress.status(f"{what} …"):
                yield
        else:
            self._progress.print(f"· {time.monotonic() - self._start:4.1f} s  {what} …", markup=False, soft_wrap=True)
            yield

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    # ---- chapters ----

    def title(self) -> None:
        self._out.print(Text("Coatcheck: the agent carries a claim check, the coat stays behind the counter", "bold"))
        self._out.print("One job (uid 65534, its own cgroup) with DEMO_TOKEN in its environment; three clients.")

    def requests(self, clients: Sequence[Client]) -> None:
        self._heading("What each side saw of the credential")
        rows = [
            (
                each.name,
                each.slot,
                _credential(each.held),
                _credential(each.received or "(nothing)"),
                _credential(f"{each.returned or '(nothing)'}"),
            )
            for each in clients
        ]
        self._rows(("client", "in", HELD, RECEIVED, RETURNED), rows)
        for each in clients:
            self._out.print(Text(f"  $ {each.command}   -> {each.status}", "dim"))

    def facts(self, clients: Sequence[Client], agent: Agent) -> None:
        self._heading("Who the kernel said it was")
        rows = []
        for client in clients:
            opened = next((each for each in client.records if each["type"] == "flow.opened"), {})
            keys = ("pid", "uid", "exe", "exe_sha256", "job")
            rows.append((client.name, *(_short(str(opened.get(key, "?"))) for key in keys)))
        self._rows(("client", "pid", "uid", "executable", "SHA-256", "job"), rows)
        self._out.print(Text(f"  cgroup {agent.cgroup}"))

    def token(self, token: Token) -> None:
        self._heading("The identity token (coatcheck whoami, in the job)")
        claims = token.claims
        known = {key: claims.get(key) for key in ("iss", "sub", "groups", "job", "jti")}
        known["life"] = f"{claims.get('exp', 0) - claims.get('iat', 0)} s"
        facts = claims.get("facts", {})
        shown = ("pid", "uid", "exe", "exe_sha256", "cgroup", "job_label", "launched_uid")
        known |= {f"facts.{key}": _short(str(facts.get(key))) for key in shown}
        known["signature"] = token.verified or "verified with the public key of GET /jwks"
        self._pairs((key, ", ".join(value) if isinstance(value, list) else str(value)) for key, value in known.items())

    def records(self, client: Client) -> None:
        self._heading(f"The audit record of {client.name}'s connection")
        rows = []
        for record in client.records:
            rest = [(key, value) for key, value in record.items() if key not in ("type", "time", "flow", "jti", "job")]
            words = (
                f"{key} {_short(','.join(value) if isinstance(value, list) else str(value))}" for key, value in rest
            )
            rows.append((record["type"], ", ".join(words)))
        self._pairs(rows)

    def attempts(self, attempts: Sequence[Attempt]) -> None:
        self._heading("What must not work")
        rows = [(each.what, each.said, each.record, _arrived(each)) for each in attempts]
        self._rows(("the agent tried", "the agent saw", "on the record", "arrived"), rows, fold=True)

    def log(self, log: Log) -> None:
        self._heading("The audit log")
        checked = log.verified
        self._out.print(
            f"  coatcheck audit verify: {'whole' if checked.get('ok') else 'BROKEN'}, {checked.get('lines', 0)} lines"
        )
        findings = log.forged.get("findings") or [{}]
        self._out.print(
            Text(f"  the same of a copy in which one deny was made an allow: {findings[0].get('message', '?')}")
        )

    def verdict(self, checks: Sequence[Check]) -> None:
        failed = [check for check in checks if not check.ok]
        self._out.print()
        for check in failed:
            line = Text("FAILED  ", "bold red")
            line.append(f"{check.what}; seen: {check.seen[:2000]}", "default")
            self._out.print(line)
        text = f"{len(checks)} checks in {self.elapsed:.1f} s: "
        if failed:
            self._out.print(Text(f"{text}{len(failed)} failed", "bold red"))
        else:
            self._out.print(Text(f"{text}all as they should be; nothing was left behind", "bold green"))

    def trouble(self, text: str) -> None:
        """On stderr."""
        self._progress.print(Text(text), soft_wrap=True)

    # ---- parts ----

    def _heading(self, text: str) -> None:
        self._out.print()
        self._out.print(Text(text, "bold underline" if self._box else "bold"))

    def _pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for key, value in pairs:
            grid.add_row(Text(f"  {key}", "cyan"), Text(value))
        self._out.print(grid)

    def _rows(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], fold: bool = False) -> None:
        """A table; or blocks if it is too wide. With `fold`, long cells take several lines first."""
        table = Table(box=self._box, pad_edge=False, header_style="cyan", padding=(0, 2, 0, 0))
        table.add_column("")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row("", *(Text(cell) if isinstance(cell, str) else cell for cell in row))
        needed = FOLDED if fold else self._out.measure(table, options=self._out.options.update(width=1000)).maximum
        if needed > self._out.width:
            self._blocks(columns, rows)
        else:
            self._out.print(table)

    def _blocks(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """One below the other: label and value."""
        width = max(len(column) for column in columns[1:])
        for first, *rest in rows:
            self._out.print(Text("  ").append(first), style="bold")
            grid = Table.grid(padding=(0, 2))
            grid.add_column(no_wrap=True)
            grid.add_column(overflow="fold")
            for column, cell in zip(columns[1:], rest, strict=True):
                grid.add_row(Text(f"    {column:{width}}", "cyan"), Text(cell) if isinstance(cell, str) else cell)
            self._out.print(grid)


class _Trimmed(io.TextIOBase):
    """A pipe without the spaces that fill a table's last column."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, text: str) -> int:
        self._to.write(re.sub(r" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def flush(self) -> None:
        self._to.flush()


def _credential(text: str) -> Text:
    """The real one in red, anything else that was held in green."""
    return Text(text, "bold red" if CREDENTIAL in text else "green")


def _short(value: str) -> str:
    """A digest by its first 16 digits."""
    return f"{value[:16]}…" if len(value) == 64 and value.isalnum() else value


def _arrived(attempt: Attempt) -> str:
    arrived = ", ".join(attempt.reached) or "nothing"
    return f"{arrived}; without a job it {attempt.outside}" if attempt.outside else arrived
