"""A model of a PostgreSQL server: what it answers to each message, in which state (PostgreSQL documentation 55.2).

Statements are words: `rows N`, `fail`, `begin`, `commit`, `rollback`, `savepoint`, `rollbackto`, `copyin`, `nothing`,
`say`, `defer`, `prepare NAME TEXT…`, `execute NAME`, `explain NAME` (EXPLAIN ANALYZE EXECUTE), `declare NAME TEXT…`,
`fetch NAME`, `close NAME`; several are parted by `;`. `mask N` gives rows of the masked column, `made N` what is
computed from it: both show CANARY, as does what `say` makes a trigger say. Names are cut as the server's are.

With `denies`, the model is a server that itself refuses those of which this holds, the way it refuses anything: that is
what an agent behind the appliance is to see.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.wire.postgres import Frames, Message, Run, read, write
from appliance.wire.postgres import messages as m

DENIED = "42501"
CANARY = b"canary-of-the-masked-column"
MASKED = 2  # the masked column's attnum; the table's is 7
_GIVING = (b"rows", b"mask", b"made", b"hold")


class Portal:
    def __init__(self, text: bytes) -> None:
        self.text = text
        self.left = int(text.split()[1]) if text.startswith(_GIVING) else 0
        self.begun = False


def cut(name: bytes) -> bytes:
    return name[:63]


class _Failed(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


class Model:
    def __init__(self, denies: Callable[[bytes], bool] | None = None) -> None:
        self._denies = denies
        self._frames = Frames(False, login=False)
        self._out: list[bytes] = []
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, Portal] = {}
        self._saved: dict[bytes, Portal] | None = None
        self._deferred = False
        self._status = m.IDLE
        self._implicit = False
        self._skipping = False
        self._copying = ""  # "query" or "extended"
        self._rest: list[bytes] = []  # statements of a Query after its COPY
        self.done: list[bytes] = []  # what was carried out
        self.over = False

    @property
    def copying(self) -> bool:
        """It waits for COPY data."""
        return bool(self._copying)

    def feed(self, data: bytes) -> bytes:
        for frame in self._frames.feed(data):
            if self.over:
                break
            if isinstance(frame, Run):
                continue  # COPY data, taken or passed over
            assert isinstance(frame, Message)
            self._message(frame)
        out, self._out = b"".join(self._out), []
        return out

    def _message(self, frame: Message) -> None:
        kind = frame.kind
        if kind == m.TERMINATE:
            self.over = True
        elif self._copying:
            self._during_copy(kind)
        elif self._skipping and kind != m.SYNC:
            pass
        elif kind == m.QUERY:
            self._query([part.strip() for part in read.query(frame.body).text.split(b";")])
        elif kind == m.SYNC:
            self._skipping = False
            if self._deferred and self._status == m.IDLE:
                self._fail(_Failed("23503"))
            self._ready()
        elif kind == m.FUNCTION_CALL:
            if self._status == m.FAILED:
                self._fail(_Failed("25P02"))
            else:
                self.done.append(b"function")
                self._out.append(write.message(m.FUNCTION_RESULT, b"\xff\xff\xff\xff"))
            self._ready()
        elif kind not in (m.FLUSH, m.COPY_DONE, m.COPY_FAIL):
            try:
                self._extended(frame)
            except _Failed as failed:
                self._fail(failed)
                self._skipping = True

    # ---- COPY ----

    def _during_copy(self, kind: int) -> None:
        if kind in (m.SYNC, m.FLUSH):
            return
        simple, self._copying = self._copying == "query", ""
        if kind == m.COPY_DONE:
            self.done.append(b"copyin")
            self._out.append(write.command_complete(b"COPY 1"))
            if simple:
                self._query(self._rest)
            return
        self._fail(_Failed("57014" if kind == m.COPY_FAIL else "08P01"))
        if simple:
            self._ready()
        else:
            self._skipping = True

    # ---- simple ----

    def _query(self, parts: list[bytes]) -> None:
        if not any(parts):
            if not self._rest:
                self._out.append(write.empty_query())
            self._rest = []
            self._ready()
            return
        try:
            self._parse_all(parts)
            for index, part in enumerate(parts):
                if part:
                    self._check(part)
                    if part == b"copyin":
                        self._rest = parts[index + 1 :] or [b""]
                        self._copying = "query"
                        self._out.append(write.message(m.COPY_IN, b"\0\0\0"))
                        return
                    self._run(part, described=False)
        except _Failed as failed:
            self._fail(failed)
        self._rest = []
        self._ready()

    def _parse_all(self, parts: list[bytes]) -> None:
        for part in parts:
            self._parse(part)
        if self._denies is not None and any(part and self._denies(part) for part in parts):
            raise _Failed(DENIED)  # the whole message is refused before any of it

    def _parse(self, text: bytes) -> None:
        if text.startswith(b"Coatcheck"):
            raise _Failed("42601")

    def _check(self, text: bytes) -> None:
        if self._status == m.FAILED and text not in (b"rollback", b"commit", b"rollbackto"):
            raise _Failed("25P02")

    def _run(self, text: bytes, described: bool) -> None:
        words = text.split()
        tag = words[0].upper()
        if words[0] == b"execute":
            known = self._statements.get(words[1])
            if not known or known.startswith((b"execute", b"prepare")):
                raise _Failed("26000")
            self._run(known, described)
            return
        if words[0] == b"explain":
            known = self._statements.get(words[1])
            if not known or not known.startswith(_GIVING):
                raise _Failed("26000")
            self.done.append(known)
        if text == b"fail":
            raise _Failed("22012")
        if words[0] == b"prepare":
            if words[1] in self._statements:
                raise _Failed("42P05")
            self._statements[words[1]] = b" ".join(words[2:])
        elif text == b"begin":
            self._status = m.IN_TRANSACTION
        elif text in (b"commit", b"rollback"):
            tag = b"ROLLBACK" if self._status == m.FAILED else tag
            self._status = m.IDLE
            self._portals.clear()
            self._saved = None
            if self._deferred and text == b"commit" and tag != b"ROLLBACK":
                raise _Failed("23503")
            self._deferred = False
        elif text in (b"savepoint", b"rollbackto"):
            if self._status == m.IDLE or (text == b"rollbackto" and self._saved is None):
                raise _Failed("25P01")
            if text == b"savepoint":
                self._saved = dict(self._portals)
            else:
                assert self._saved is not None
                self._status = m.IN_TRANSACTION
                self._portals = {n: each for n, each in self._portals.items() if self._saved.get(n) is each}
        elif words[0] == b"declare":
            if self._status == m.IDLE:
                raise _Failed("25P01")
            if words[1] in self._portals:
                raise _Failed("42P03")
            self._portals[words[1]] = Portal(b" ".join(words[2:]))
        elif words[0] == b"close":
            if words[1] not in self._portals:
                raise _Failed("34000")
            del self._portals[words[1]]
        elif words[0] == b"fetch":
            portal = self._portals.get(words[1])
            if portal is None:
                raise _Failed("34000")
            if not portal.text.startswith(_GIVING):
                raise _Failed("0A000")
            if not described:
                self._out.append(_fields(portal.text))
            self._give(portal, 1)
        elif words[0] == b"say":
            self._out.append(write.report(m.NOTICE, [(0x53, b"NOTICE"), (0x4D, CANARY), (0x57, b"trigger")]))
            self._out.append(write.notification(1, b"channel", CANARY))
        elif words[0] == b"defer":
            self._deferred = True
        elif words[0] in _GIVING:
            if not described:
                self._out.append(_fields(text))
            self._give(Portal(text), 0)
        if words[0] not in (b"fetch", b"explain", *_GIVING):
            self.done.append(text)
        self._out.append(write.command_complete(tag))

    def _give(self, portal: Portal, most: int) -> None:
        """`most` rows; 0: all there are."""
        if not portal.begun:
            portal.begun = True
            self.done.append(portal.text)
        count = min(most or portal.left, portal.left)
        value = CANARY if portal.text.startswith((b"mask", b"made")) else b"v"
        self._out += [write.data_row([value])] * count
        portal.left -= count

    def _fail(self, failed: _Failed) -> None:
        self._deferred = False
        self._out.append(write.error("ERROR", failed.sqlstate, "failed"))
        if self._status == m.IN_TRANSACTION:
            self._status = m.FAILED

    def _ready(self) -> None:
        if self._status == m.IDLE:
            self._portals.clear()
            self._deferred = False
        self._out.append(write.ready(self._status))

    # ---- extended ----

    def _extended(self, frame: Message) -> None:
        kind = frame.kind
        if kind == m.PARSE:
            parse = read.parse(frame.body)
            self._parse(parse.text)
            if self._denies is not None and parse.text and self._denies(parse.text):
                raise _Failed(DENIED)
            if parse.text:
                self._check(parse.text)
            if parse.name and cut(parse.name) in self._statements:
                raise _Failed("42P05")
            self._statements[cut(parse.name)] = parse.text
            self._out.append(write.parse_complete())
        elif kind == m.BIND:
            bind = read.bind(frame.body)
            if cut(bind.statement) not in self._statements:
                raise _Failed("26000")
            text = self._statements[cut(bind.statement)]
            if text:
                self._check(text)
            if bind.portal and cut(bind.portal) in self._portals:
                raise _Failed("42P03")
            self._portals[cut(bind.portal)] = Portal(text)
            self._out.append(write.bind_complete())
        elif kind == m.DESCRIBE:
            self._describe(read.describe(frame.body))
        elif kind == m.EXECUTE:
            self._execute(read.execute(frame.body))
        elif kind == m.CLOSE:
            close = read.close(frame.body)
            if close.kind == m.PORTAL:
                self._portals.pop(cut(close.name), None)
            else:
                self._statements.pop(cut(close.name), None)
            self._out.append(write.close_complete())
        else:
            raise _Failed("08P01")

    def _describe(self, describe: m.Describe) -> None:
        name = cut(describe.name)
        if describe.kind == m.STATEMENT:
            if name not in self._statements:
                raise _Failed("26000")
            text = self._statements[name]
            self._out.append(write.message(m.PARAMETER_DESCRIPTION, b"\0\0"))
        else:
            if name not in self._portals:
                raise _Failed("34000")
            text = self._portals[name].text
        given = self._given(text)
        self._out.append(_fields(given) if given else write.no_data())

    def _given(self, text: bytes) -> bytes:
        """The statement whose rows those of `text` are; empty: it has none."""
        words = text.split()
        if text.startswith(b"execute "):
            text = self._statements.get(words[1], b"")
        elif text.startswith(b"fetch ") and words[1] in self._portals:
            text = self._portals[words[1]].text
        return text if text.startswith(_GIVING) else b""

    def _execute(self, execute: m.Execute) -> None:
        portal = self._portals.get(cut(execute.portal))
        if portal is None:
            raise _Failed("34000")
        if not portal.text:
            self._out.append(write.empty_query())
            return
        self._check(portal.text)
        if portal.text == b"copyin":
            self._copying = "extended"
            self._out.append(write.message(m.COPY_IN, b"\0\0\0"))
        elif not portal.text.startswith(_GIVING):
            self._run(portal.text, described=True)
        else:
            self._give(portal, execute.limit)
            suspended = execute.limit and portal.left
            self._out.append(write.message(m.PORTAL_SUSPENDED, b"") if suspended else write.command_complete(b"ROWS"))


def _fields(text: bytes) -> bytes:
    """The masked column says which one it is; what is computed says no table."""
    table, attribute = (0, 0) if text.startswith(b"made") else (7, MASKED if text.startswith(b"mask") else 1)
    return write.row_description([m.Field(b"a", table, attribute, 25, -1, -1, 0)])
