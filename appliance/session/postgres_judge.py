"""What policy says of SQL texts, and what masks make of them. Remembered by the text without its constants.

A judge belongs to one decider (principal, destination, plan), one database, user and catalogue; sessions that have all
of this in common share it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from appliance.lineage.lineage import Flow, lineage
from appliance.lineage.relations import Catalogue
from appliance.model.errors import Denied, PeerError
from appliance.model.recurring import Recurring
from appliance.model.verdict import PostgresPlan, SqlOperation, Verdict
from appliance.policy.statements import function_pattern, part_of
from appliance.session.sql_operation import (
    fast_path,
    functions_named,
    operation_of,
    search_path,
    server_first,
    unparsed,
)
from appliance.sql.copy import CopyOptions, copy_options
from appliance.sql.normal import normal
from appliance.sql.shape import shape
from appliance.sql.statements import Statement, statements

_KNOWN_MOST: Final = 2048  # texts
_KNOWN_LARGEST: Final = 16_384  # bytes of one
_KNOWN_STATEMENTS: Final = 16  # of one
_SHAPE_MOST: Final = 8192  # characters
_BY_NAME: Final = frozenset(("execute", "fetch", "move", "close", "deallocate"))  # the session knows the names
_NOT_KNOWN: Final = frozenset(("EXECUTE", "FETCH"))  # so a Flow says that it does not
_NO_FLOW: Final = Flow(frozenset(), frozenset(), frozenset(), frozenset(), (), None)
# What a replication connection takes beside SQL (documentation 55.4): told apart by the first word, as the server does
_REPLICATION: Final = re.compile(
    rb"\s*(IDENTIFY_SYSTEM|START_REPLICATION|CREATE_REPLICATION_SLOT|DROP_REPLICATION_SLOT|ALTER_REPLICATION_SLOT"
    rb"|READ_REPLICATION_SLOT|TIMELINE_HISTORY|BASE_BACKUP|UPLOAD_MANIFEST)\b",
    re.IGNORECASE,
)
_SETTINGS: Final = frozenset(("search-path", "role", "standard-conforming-strings", "client-encoding", "dynamic"))
_OF_ITS_OWN: Final = "an agent may not set a role's password: it would know one that is no placeholder"
_UNREADABLE: Final = "<a statement that cannot be read>"


class Decider(Protocol):
    def verdict(self, operation: SqlOperation) -> Verdict: ...


class Setting(NamedTuple):
    """What a session is: the same for all of its statements."""

    destination: str
    database: str
    user: str
    credentials: tuple[str, ...]
    codec: str  # of the agent's texts, as Python names it
    replicates: bool  # a replication connection, which the plan allows
    is_utf8: bool  # the server's encoding: there names are folded as they are here


class Ruling(NamedTuple):
    """One statement with its verdict. `unnamed`: masks (by index in the plan) that hide every column of the result that
    the server says no table for: a masked column may have gone into it."""

    command: str
    name: bytes  # of what it prepares, executes (EXPLAIN and CREATE TABLE AS may), declares or fetches from
    tables: tuple[str, ...]  # for the record
    shape: str  # without constants
    verdict: Verdict
    unnamed: tuple[int, ...]
    flow: Flow | None  # where masked columns go, but for what it names; None: nothing is masked
    copy: CopyOptions | None = None  # of COPY … TO STDOUT

    @property
    def allowed(self) -> bool:
        return self.verdict.decision == "allow"

    @property
    def probes(self) -> bool:
        return self.flow is not None and bool(self.flow.probes)


class Judge:
    """`catalogue` is empty where the plan has no masks of columns. `clock`: seconds; by it `spent` grows."""

    def __init__(
        self,
        decider: Decider,
        plan: PostgresPlan,
        setting: Setting,
        catalogue: Catalogue,
        clock: Callable[[], float] = float,
    ) -> None:
        self.decider = decider
        self._clock = clock
        self._plan = plan
        self._schemas = search_path(plan, setting.user)
        self._server_first = server_first(plan)
        self._opaque = [re.compile(function_pattern(glob)) for glob in plan.opaque_functions]
        self._setting = setting
        self._any_text = setting.codec == "utf-8"  # elsewhere `normal` is sure of ASCII only
        self.catalogue = catalogue
        self.strict = plan.judged or bool(plan.masks)  # what is not known is refused
        self.replicates = setting.replicates
        self._known: Recurring[bytes, tuple[Ruling, ...]] = Recurring(_KNOWN_MOST)
        self.spent = 0.0  # seconds, on texts that were not known

    def judge(self, text: bytes) -> tuple[Ruling, ...]:
        """The statements of one Query or Parse message; () for an empty one."""
        key = normal(text) if self._any_text or text.isascii() else None
        if key is None:
            key = b"\0" + text  # no text has a NUL: the two kinds of keys are apart
        known = self._known.get(key)
        if known is None:
            began = self._clock()
            known = self._judge(text)
            self.spent += self._clock() - began
            if known and known[0].command == "unparsed":
                key = b"\0" + text  # a longer constant may be why: that says nothing of others
            if len(key) <= _KNOWN_LARGEST and len(known) <= _KNOWN_STATEMENTS:
                self._known.put(key, known)
        return known

    def fastpath(self, oid: int) -> Ruling:
        """A FunctionCall message."""
        setting = self._setting
        verdict = self.decider.verdict(fast_path(oid, setting.database, setting.user, setting.credentials))
        if verdict.decision == "allow" and self._plan.masks:
            verdict = self._masked("opaque", "a function that is called by its number cannot be seen through")
        return Ruling("fastpath", b"", (), f"<function {oid}>", verdict, (), None)

    def _judge(self, text: bytes) -> tuple[Ruling, ...]:
        setting = self._setting
        if setting.replicates:
            command = _REPLICATION.match(text)
            if command is not None:
                verdict = Verdict("allow", f"{setting.destination}/replication")
                return (Ruling("replication", b"", (), command[1].decode().upper(), verdict, (), None),)
        try:
            words = text.decode(setting.codec)
            utf8 = words.encode()
            found = statements(utf8, server_first=self._server_first)
            flows = () if self.catalogue.is_empty else lineage(words, self.catalogue, self._schemas)
        except (UnicodeDecodeError, PeerError) as error:
            verdict = self.decider.verdict(unparsed(setting.database, setting.user, setting.credentials))
            if verdict.decision != "allow" and isinstance(error, PeerError):
                verdict = replace(verdict, reason=f"{verdict.reason}: {error}")
            if verdict.decision == "allow" and not self.catalogue.is_empty:
                verdict = self._masked("unparsed", "a statement that cannot be read could show what is masked")
            return (Ruling("unparsed", b"", (), _UNREADABLE, verdict, (), None),)
        rulings = []
        for index, each in enumerate(found):
            statement = self._read_otherwise(each)
            operation = operation_of(
                statement, self._plan, setting.database, setting.user, setting.credentials, is_utf8=setting.is_utf8
            )
            verdict = self.decider.verdict(operation)
            if "password" in statement.marks:
                verdict = Verdict("deny", f"{setting.destination}/role-password", _OF_ITS_OWN)
            if self.strict and _turns_strings(statement):
                verdict = self._unreadable_strings()
            flow = flows[index] if flows else None
            if flow is not None and statement.command in _BY_NAME:  # what EXECUTE is given may be calls; no more
                flow = _NO_FLOW._replace(opaque=tuple(name for name in flow.opaque if name not in _NOT_KNOWN))
            unnamed: tuple[int, ...] = ()
            if verdict.decision != "deny" and flow is not None:
                marks = frozenset(statement.marks)
                if not marks & _SETTINGS:  # where set_config leads, the statement's marks say better
                    flow = flow._replace(opaque=tuple(name for name in flow.opaque if name != "set_config"))
                verdict, unnamed = self._hold_against_masks(flow, verdict)
            name = _name(statement.name or _executed(statement), setting.codec)
            tables = tuple(sorted({*operation.reads, *operation.writes}))
            words_of_it = shape(utf8[statement.start : statement.end])[:_SHAPE_MOST]
            copy = copy_options(utf8[statement.start : statement.end]) if statement.command == "copy-out" else None
            rulings.append(Ruling(statement.command, name, tables, words_of_it, verdict, unnamed, flow, copy))
        return tuple(rulings)

    def _read_otherwise(self, statement: Statement) -> Statement:
        """UTF8 is harmless to set where it is what texts are read in, or the next one would be read otherwise: it may
        have come already."""
        if self._any_text or not (statement.name == "client_encoding" or "set-config" in statement.marks):
            return statement
        return statement._replace(marks=tuple(sorted({*statement.marks, "client-encoding"})))

    def _unreadable_strings(self) -> Verdict:
        """Whatever a rule says: the session would end with it, but what comes right behind would be misread first."""
        rule = f"{self._setting.destination}/standard-conforming-strings"
        return Verdict("deny", rule, "with standard_conforming_strings off, statements cannot be judged")

    def _hold_against_masks(self, flow: Flow, verdict: Verdict) -> tuple[Verdict, tuple[int, ...]]:
        masks = self._plan.masks
        for index in sorted(flow.writes):
            return self._masked(masks[index].name, "a masked column would go where it is no longer masked"), ()
        for index in sorted(flow.probes):
            if masks[index].probing == "deny":
                return self._masked(masks[index].name, "a masked column may not be searched, joined or sorted by"), ()
        for index in sorted(flow.expressions):
            if masks[index].expressions == "deny":
                return self._masked(masks[index].name, "nothing may be computed from a masked column"), ()
        opaque = [name for name in flow.opaque if not self._may_be_opaque(name)]
        if opaque:
            return self._masked("opaque", f"{opaque[0]} cannot be seen through: it could show what is masked"), ()
        return verdict, tuple(sorted(flow.expressions))

    def _may_be_opaque(self, name: str) -> bool:
        names = [name]
        if "." not in name:
            if not self._schemas:
                return False
            names = functions_named(name, self._schemas)
            if name in self.catalogue.own_functions or not self._server_first:  # its arguments may fit better there
                names += [f"{part_of(schema)}.{part_of(name)}" for schema in self._schemas]
        return all(any(each.search(full) for each in self._opaque) for full in names)

    def _masked(self, name: str, reason: str) -> Verdict:
        return Verdict("deny", f"{self._setting.destination}/mask-{name}", reason)


def _name(name: str, codec: str) -> bytes:
    """As a message of the protocol has it. One that no message can have (of U&"…") is not to be taken for another."""
    try:
        return name.encode(codec)
    except UnicodeEncodeError:
        return b"\0" + name.encode()


def _executed(statement: Statement) -> str:
    """The name that EXPLAIN EXECUTE, CREATE TABLE … AS EXECUTE and EXPLAIN CREATE TABLE … AS EXECUTE execute."""
    for inner in statement.inner:
        name = inner.name if inner.command == "execute" else _executed(inner)
        if name:
            return name
    return ""


def _turns_strings(statement: Statement) -> bool:
    """Whether it plainly makes a backslash in '…' mean something."""
    marks = statement.marks
    return statement.command in ("set", "select") and "standard-conforming-strings" in marks and "dynamic" not in marks


def denied(verdict: Verdict) -> Denied:
    return Denied(verdict.rule, verdict.reason or "policy does not allow this statement", verdict.ask)


class Judges:
    """Of one worker: those that sessions share. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: Recurring[tuple[object, ...], Judge] = Recurring(256)

    def get(self, decider: Decider, plan: PostgresPlan, setting: Setting, catalogue: Catalogue) -> Judge:
        key = (id(decider), id(catalogue), setting)
        known = self._known.get(key)
        if known is None or known.decider is not decider or known.catalogue is not catalogue:
            known = Judge(decider, plan, setting, catalogue, self._clock)
            self._known.put(key, known)
        return known
