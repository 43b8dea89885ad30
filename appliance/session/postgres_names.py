"""What an agent's names mean to the server: prepared statements, portals, cursors.

Pure. A name that was asked for means what it will mean if the server agrees; where it does not, the name means again
what it meant before. Whether that is known yet is what `is_open` and its kind answer: nobody may use a name before.
"""

from __future__ import annotations

import re
from typing import Final, final

from appliance.model.errors import Denied, PeerError
from appliance.session import postgres_steps as steps
from appliance.session.postgres_judge import Ruling
from appliance.session.postgres_steps import Cursor, Portal, Prepared, Step
from appliance.wire.postgres import messages as m

_MOST: Final = 10_000  # prepared statements, portals and cursors of a session, each
_TEXTS_MOST: Final = 32 << 20  # bytes of the prepared statements' texts, and of the portals' parameters
_LENGTH: Final = 63  # bytes: names that begin with the same ones are the same name to the server (NAMEDATALEN)
_SURE: Final = _LENGTH // 4  # bytes that are in no encoding of the server more than that
_PREPARED_NAMES: Final = frozenset(("execute", "prepare", "explain", "create-table-as"))
FETCHING: Final = frozenset(("fetch", "move"))
_SETTLING: Final = frozenset(("prepare", "deallocate", "discard", "declare", "close"))
_ALL: Final = re.compile(r"\ball\b", re.IGNORECASE)


def checked(name: bytes) -> bytes:
    """Two names that the server takes for one must not be two here. Raises PeerError."""
    if len(name) > (_LENGTH if name.isascii() else _SURE):
        raise PeerError("postgres-names", f"a name of over {_LENGTH} bytes (of a statement or portal)")
    return name


@final
class Names:
    __slots__ = ("_asked", "_parameters", "_statements", "cursors", "portals", "texts")

    def __init__(self) -> None:
        self._statements: dict[bytes, Prepared] = {}
        self._asked: dict[bytes, Prepared] = {}  # the server has not said yet whether it has them
        self.texts = 0  # bytes
        self.portals: dict[bytes, Portal] = {}
        self._parameters = 0  # bytes, that portals keep for the record
        self.cursors: dict[bytes, Cursor] = {}

    @property
    def kept(self) -> int:
        """Bytes of texts and parameters."""
        return self.texts + self._parameters

    # ---- whether the server has still to say what a name means ----

    @property
    def may_be_open(self) -> bool:
        return bool(self._asked) or bool(self.portals)

    def is_asked(self, name: bytes, group: int) -> bool:
        """Whether a statement of this name was asked for before `group`, and the server has not answered."""
        prepared = self._asked.get(name)
        return prepared is not None and prepared.step.group != group

    def are_open(self, ruling: Ruling, group: int) -> bool:
        """The same of the name that a statement uses."""
        if not ruling.name:
            return False
        if ruling.command in _PREPARED_NAMES:
            return self.is_asked(ruling.name, group)
        portal = self.portals.get(ruling.name) if ruling.command in FETCHING else None
        return portal is not None and portal.is_open(group)

    # ---- prepared statements ----

    def statement(self, name: bytes) -> Prepared | None:
        return self._asked.get(name) or self._statements.get(name)

    def ask_for(self, name: bytes, prepared: Prepared) -> Denied | None:
        """The server is asked to call `prepared` so; or why it is not."""
        if len(self._statements) + len(self._asked) >= _MOST or self.texts + len(prepared.text) > _TEXTS_MOST:
            return Denied("too-many-names", "this session has too many prepared statements")
        self.texts += len(prepared.text)
        self._asked[name] = prepared
        return None

    def keep(self, name: bytes, prepared: Prepared) -> None:
        """The server has it."""
        if self._asked.get(name) is prepared:
            del self._asked[name]
        self._gone(self._statements.get(name))
        self._statements[name] = prepared

    def forget(self, step: Step) -> None:
        """What `step` would have prepared does not come to be."""
        if step.kind == steps.PARSE and step.prepared is not None:
            self._drop(step.name, step.prepared)
        elif step.prepares:
            for index, prepared in step.prepares.items():
                self._drop(step.rulings[index].name, prepared)
            step.prepares = {}

    def _drop(self, name: bytes, prepared: Prepared) -> None:
        self._gone(prepared)
        if self._asked.get(name) is prepared:
            del self._asked[name]

    def _gone(self, prepared: Prepared | None) -> None:
        if prepared is not None:
            self.texts -= len(prepared.text)

    # ---- portals ----

    def bind(self, step: Step, portal: Portal) -> None:
        """At once: what follows in this pipeline happens only if this succeeds. Raises PeerError."""
        if len(self.portals) >= _MOST:
            raise PeerError("postgres-names", f"a session may have {_MOST} portals")
        step.before = self._set(step.name, portal)
        if self._parameters > _TEXTS_MOST:
            raise PeerError("postgres-names", f"a session's portals may have {_TEXTS_MOST} bytes of parameters")

    def _set(self, name: bytes, portal: Portal | None) -> Portal | None:
        """What the name means now; what it meant."""
        before = self.portals.pop(name, None)
        if before is not None:
            self._parameters -= before.size
        if portal is not None:
            self._parameters += portal.size
            self.portals[name] = portal
        return before

    def end_portals(self) -> None:
        """Their transaction is over."""
        self.portals.clear()
        self._parameters = 0

    def unbind(self, step: Step) -> None:
        """`step` has failed: the name means what it meant before, if it was a Bind."""
        if step.kind == steps.BIND and self.portals.get(step.name) is step.portal:
            self._set(step.name, step.before)

    def closed(self, step: Step) -> None:
        """The server has closed what `step`, a Close, was about."""
        if step.index == m.PORTAL:
            if self.portals.get(step.name) is step.portal:  # and not one that was bound in the meantime
                self._set(step.name, None)
            self._cursors_closed(step.name)
        elif step.prepared is not None and self._statements.get(step.name) is step.prepared:
            self._gone(self._statements.pop(step.name))

    # ---- cursors, and what SQL does to all of them ----

    @property
    def compute_later(self) -> bool:
        """A cursor WITH HOLD may compute from masked columns in whatever ends its transaction."""
        for cursor in self.cursors.values():
            for declared in (cursor.declared, cursor.before):
                ruling = declared.ruling if declared is not None else None
                if ruling is not None and "hold" in ruling.shape.lower() and (cursor.unnamed or ruling.probes):
                    return True
        return False

    def declare(self, ruling: Ruling, declared: Prepared) -> Denied | None:
        """DECLARE goes to the server; or why it does not."""
        cursor = self.cursors.get(ruling.name)
        if cursor is None and len(self.cursors) >= _MOST:
            return Denied("too-many-names", f"a session may have {_MOST} cursors")
        if cursor is None:
            self.cursors[ruling.name] = Cursor(declared, ruling.unnamed)
        else:
            if cursor.done:
                cursor.before = cursor.declared
            cursor.declared, cursor.done = declared, False
            cursor.unnamed = tuple({*cursor.unnamed, *ruling.unnamed})
        return None

    def done(self, step: Step, ruling: Ruling) -> None:
        """The server has carried out the statement of `step` that it is at."""
        command = ruling.command
        if command not in _SETTLING:
            return
        if command == "prepare":
            prepared = step.prepares.pop(step.index, None) if step.prepares is not None else None
            if prepared is not None:
                self.keep(ruling.name, prepared)
        elif command == "deallocate" and ruling.name:
            self._gone(self._statements.pop(ruling.name, None))
        elif command == "declare":
            cursor = self.cursors.get(ruling.name)
            if cursor is not None and cursor.declared.step is step and cursor.declared.index == step.index:
                cursor.made()
        elif command == "close":
            self._cursors_closed(ruling.name)
        elif command == "deallocate" or (command == "discard" and _ALL.search(ruling.shape)):
            for prepared in self._statements.values():
                self._gone(prepared)
            self._statements.clear()
            if command == "discard":
                self._cursors_closed(b"")

    def _cursors_closed(self, name: bytes) -> None:
        """Those that were declared later than that are still to be answered. `name` empty: all."""
        if name:
            cursor = self.cursors.get(name)
            if cursor is not None and cursor.done:
                del self.cursors[name]
        else:
            self.cursors = {name: cursor for name, cursor in self.cursors.items() if not cursor.done}
