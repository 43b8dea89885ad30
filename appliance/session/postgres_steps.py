"""What the agent has asked for and the server has not answered in full yet, and what a session needs to know of it.

Pure. The rules of the protocol are in appliance.session.postgres.
"""

from __future__ import annotations

from typing import Final, Protocol, final

from appliance.model.errors import Denied
from appliance.model.verdict import Verdict
from appliance.session.postgres_judge import Ruling
from appliance.wire.postgres import Message, Piece
from appliance.wire.postgres import messages as m

Whole = Message | Piece  # of what may come in pieces, the first one has all that is read here

# Kinds of steps
QUERY: Final = 0
PARSE: Final = 1
BIND: Final = 2
DESCRIBE_STATEMENT: Final = 3
DESCRIBE_PORTAL: Final = 4
EXECUTE: Final = 5
CLOSE: Final = 6
SYNC: Final = 7
FUNCTION: Final = 8


class Masker(Protocol):
    """Hides what must be hidden in a run of DataRow or CopyData messages."""

    def mask(self, run: bytes) -> bytes: ...


class Judging(Protocol):
    """`appliance.session.postgres_judge.Judge`, as far as a session needs it."""

    @property
    def strict(self) -> bool: ...

    @property
    def replicates(self) -> bool: ...

    @property
    def spent(self) -> float: ...

    def judge(self, text: bytes) -> tuple[Ruling, ...]: ...

    def fastpath(self, oid: int) -> Ruling: ...


class Masks(Protocol):
    """What a plan's masks mean for results. `copy` raises Denied where it cannot be told what a column holds. `words`
    hides what detectors find in a text of the server's that is no value; None: all of it is hidden."""

    def rows(self, fields: tuple[m.Field, ...], unnamed: tuple[int, ...]) -> Masker | None: ...

    def copy(self, ruling: Ruling, binary: bool, columns: int) -> Masker | None: ...

    def words(self, text: bytes) -> bytes | None: ...


class Scrub(Protocol):
    """Puts placeholders where secrets are and keeps the length. `longest`: bytes that one may have."""

    @property
    def longest(self) -> int: ...

    def __call__(self, data: bytes) -> bytes: ...


@final
class Prepared:
    """A prepared statement: the one at `index` of a text. `ruling` is `judge`'s; another judge is asked again."""

    __slots__ = ("index", "judge", "ruling", "step", "text")

    def __init__(self, text: bytes, index: int, judge: Judging, ruling: Ruling | None, step: Step) -> None:
        self.text = text
        self.index = index
        self.judge = judge
        self.ruling = ruling  # None: an empty text
        self.step = step  # that makes it

    def ruled_by(self, judge: Judging) -> Ruling | None:
        if self.judge is not judge:
            rulings = judge.judge(self.text)
            self.ruling = rulings[self.index] if self.index < len(rulings) else None
            self.judge = judge
        return self.ruling


@final
class Portal:
    __slots__ = ("bound", "bytes", "group", "meant", "parameters", "prepared", "rows", "size")

    def __init__(self, prepared: Prepared | None, group: int) -> None:
        self.prepared = prepared  # None: nothing that was judged here
        self.group = group  # of its Bind
        self.parameters: tuple[bytes | None, ...] = ()  # for the record
        self.size = 0  # bytes of the message that they are in
        self.bound = False  # the server has said so
        self.rows = 0  # that it has given, in how many portions ever
        self.bytes = 0
        self.meant: tuple[object, ...] = ()  # what the name that it uses meant when it was executed first

    def is_open(self, group: int) -> bool:
        """Whether the server has still to say if the Bind, of an earlier group than `group`, has made it."""
        return not self.bound and self.group != group


@final
class Cursor:
    """What DECLARE gave this name to. If it had the name of one that was there, and so failed, it is the other one
    still: so what hides one hides both, until CLOSE has been answered."""

    __slots__ = ("before", "bytes", "declared", "done", "rows", "unnamed")

    def __init__(self, declared: Prepared, unnamed: tuple[int, ...]) -> None:
        self.declared = declared
        self.before: Prepared | None = None  # what it is if the last DECLARE has failed
        self.unnamed = unnamed
        self.done = False  # the server has answered the last DECLARE
        self.rows = 0  # that it has given, in how many portions ever
        self.bytes = 0

    def made(self) -> None:
        """The server has declared it (anew)."""
        self.done = True
        self.before = None
        self.rows = self.bytes = 0


@final
class Step:
    """A message of the agent's that the server has not answered in full."""

    __slots__ = (
        "before",
        "bytes",
        "copying",
        "error",
        "executed",
        "group",
        "hidden",
        "index",
        "kind",
        "known",
        "limit_bytes",
        "limit_rows",
        "limited",
        "masker",
        "name",
        "number",
        "portal",
        "prepared",
        "prepares",
        "probes",
        "raw",
        "rows",
        "rulings",
        "sources",
        "started",
        "text",
        "unnamed",
    )

    def __init__(self, kind: int, group: int, name: bytes = b"") -> None:
        self.kind = kind
        self.group = group  # of messages that fail together: up to a Sync, or a Query by itself
        self.name = name
        self.rulings: tuple[Ruling, ...] = ()
        self.prepared: Prepared | None = None
        self.prepares: dict[int, Prepared] | None = None  # by PREPARE, by index of the statement
        self.portal: Portal | None = None
        self.sources: dict[int, Portal | Cursor] | None = None  # of FETCH, by index of the statement
        self.error: Denied | None = None  # ours, in place of the server's
        self.hidden = False  # we asked, not the agent
        self.number = 0  # of the first statement; 0: not one that is recorded
        self.index = 0  # of the statement that is answered now
        self.started = 0.0
        self.rows = 0
        self.bytes = 0
        self.masker: Masker | None = None
        self.copying = False  # rows come as COPY data
        self.limited: Denied | None = None  # too much came: what is left is dropped
        self.limit_rows = 0
        self.limit_bytes = 0
        self.text = b""
        self.unnamed: tuple[int, ...] = ()
        self.probes = False  # masked columns are compared
        self.known = False  # what its rows are
        self.before: Portal | None = None  # the portal of this name until now
        self.executed: Step | None = None  # the Execute right after this Describe
        self.raw = b""  # what is held

    def comes_from(self, source: Portal | Cursor, index: int) -> None:
        if self.sources is None:
            self.sources = {}
        self.sources[index] = source

    def source(self) -> Portal | Cursor | None:
        """What gives the rows that come now, if it can give them in portions."""
        if self.sources is not None and self.index in self.sources:
            return self.sources[self.index]
        return self.portal

    def limit_by(self, verdict: Verdict) -> None:
        """The least that any of its statements may give."""
        limit = verdict.max_rows
        if limit and (not self.limit_rows or limit < self.limit_rows):
            self.limit_rows = limit
        limit = verdict.max_bytes
        if limit and (not self.limit_bytes or limit < self.limit_bytes):
            self.limit_bytes = limit


@final
class Decision:
    """A statement, for the record, before it happens."""

    __slots__ = ("number", "parameters", "ruling", "text", "verdict")

    def __init__(
        self, number: int, ruling: Ruling, verdict: Verdict, text: bytes, parameters: tuple[bytes | None, ...]
    ) -> None:
        self.number = number
        self.ruling = ruling
        self.verdict = verdict
        self.text = text
        self.parameters = parameters


@final
class Ending:
    """The same afterwards. `started`: what `now` was."""

    __slots__ = ("bytes", "number", "rows", "sqlstate", "started")

    def __init__(self, number: int, rows: int, size: int, sqlstate: str, started: float) -> None:
        self.number = number
        self.rows = rows
        self.bytes = size
        self.sqlstate = sqlstate
        self.started = started
