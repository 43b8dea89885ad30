"""A model of a PostgreSQL server: what it answers to each message, in which state (PostgreSQL documentation 55.2).

Statements are words: `rows N`, `fail`, `begin`, `commit`, `rollback`, `copyin`, `nothing`, `prepare NAME TEXT…`,
`execute NAME`; several are parted by `;`. With `denies`, the model is a server that itself refuses those of which this
holds, the way it refuses anything: that is what an agent behind the appliance is to see.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.wire.postgres import Frames, Message, Run, read, write
from appliance.wire.postgres import messages as m

DENIED = "42501"


class _Failed(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


class Model:
    def __init__(self, denies: Callable[[bytes], bool] | None = None) -> None:
        self._denies = denies
        self._frames = Frames(False, login=False)
        self._out: list[bytes] = []
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
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
        if self._status == m.FAILED and text not in (b"rollback", b"commit"):
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
        elif words[0] == b"rows":
            if not described:
                self._out.append(_FIELDS)
            self._out += [write.data_row([b"v"])] * int(words[1])
        self.done.append(text)
        self._out.append(write.command_complete(tag))

    def _fail(self, failed: _Failed) -> None:
        self._out.append(write.error("ERROR", failed.sqlstate, "failed"))
        if self._status == m.IN_TRANSACTION:
            self._status = m.FAILED

    def _ready(self) -> None:
        if self._status == m.IDLE:
            self._portals.clear()
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
            if parse.name and parse.name in self._statements:
                raise _Failed("42P05")
            self._statements[parse.name] = parse.text
            self._out.append(write.parse_complete())
        elif kind == m.BIND:
            bind = read.bind(frame.body)
            if bind.statement not in self._statements:
                raise _Failed("26000")
            text = self._statements[bind.statement]
            if text:
                self._check(text)
            if bind.portal and bind.portal in self._portals:
                raise _Failed("42P03")
            self._portals[bind.portal] = text
            self._out.append(write.bind_complete())
        elif kind == m.DESCRIBE:
            self._describe(read.describe(frame.body))
        elif kind == m.EXECUTE:
            self._execute(read.execute(frame.body).portal)
        elif kind == m.CLOSE:
            close = read.close(frame.body)
            (self._portals if close.kind == m.PORTAL else self._statements).pop(close.name, None)
            self._out.append(write.close_complete())
        else:
            raise _Failed("08P01")

    def _describe(self, describe: m.Describe) -> None:
        known = self._portals if describe.kind == m.PORTAL else self._statements
        if describe.name not in known:
            raise _Failed("34000" if describe.kind == m.PORTAL else "26000")
        if describe.kind == m.STATEMENT:
            self._out.append(write.message(m.PARAMETER_DESCRIPTION, b"\0\0"))
        self._out.append(_FIELDS if self._gives_rows(known[describe.name]) else write.no_data())

    def _gives_rows(self, text: bytes) -> bool:
        if text.startswith(b"execute "):
            return self._statements.get(text.split()[1], b"").startswith(b"rows")
        return text.startswith(b"rows")

    def _execute(self, portal: bytes) -> None:
        if portal not in self._portals:
            raise _Failed("34000")
        text = self._portals[portal]
        if not text:
            self._out.append(write.empty_query())
            return
        self._check(text)
        if text == b"copyin":
            self._copying = "extended"
            self._out.append(write.message(m.COPY_IN, b"\0\0\0"))
            return
        self._run(text, described=True)


_FIELDS = write.row_description([m.Field(b"a", 7, 1, 25, -1, -1, 0)])
