"""A PostgreSQL session after its login: which of the agent's messages go on, and what of the server's comes back.

In goes the agent's and the server's frames, out goes what each of them is to be sent, and what is to be recorded.
The session knows at every moment what the server will answer next (`_steps`): so an error is known to belong to the
message that caused it, and a row to the statement that asked for it. What names mean is in `postgres_names`.

A statement that policy refuses is not left out: the server gets, in its place, one that is a syntax error to it
whatever its state. So the server itself does what PostgreSQL does after an error (fails the transaction, skips the
pipeline to its Sync, answers in order), and its ErrorResponse is replaced by ours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from appliance.model.errors import Denied, PeerError
from appliance.model.verdict import Verdict
from appliance.session import postgres_steps as steps
from appliance.session.postgres_judge import Ruling, denied
from appliance.session.postgres_names import FETCHING, Names, checked
from appliance.session.postgres_output import Output
from appliance.session.postgres_problem import state_of
from appliance.session.postgres_reports import may_show, without_values
from appliance.session.postgres_steps import (
    Cursor,
    Decision,
    Ending,
    Judging,
    Masks,
    Portal,
    Prepared,
    Scrub,
    Step,
    Whole,
)
from appliance.wire.postgres import Frame, Message, Piece, Run, read, write
from appliance.wire.postgres import messages as m

_POISON_TEXT: Final = b"Coatcheck denied this statement"
POISON_QUERY: Final = write.query(_POISON_TEXT)
POISON_PARSE: Final = write.parse(b"", _POISON_TEXT)
POISON_NAMED: Final = write.parse(b"coatcheck", _POISON_TEXT)  # one without a name ends the unnamed statement
_STEPS_MOST: Final = 10_000  # under way; an unsent rest of answers (8 KB of the server's) is of fewer
_NO_COPY_DATA: Final = "only COPY data may come while the server takes COPY data"


@final
class Session:
    """`refuse` puts a denial into an ErrorResponse; `scrub` is for the output; `values`: parameters are wanted for the
    record.

    What is to be sent and recorded is left in `to_server`, `output`, `decisions` and `endings`, which the caller
    empties; decisions must be on record before `to_server` is sent. `held` is the statement that waits for a
    person's yes: until `answer_hold` the agent's next frames wait, too.
    """

    def __init__(
        self,
        judge: Judging,
        masks: Masks | None,
        refuse: Callable[[Denied], bytes],
        scrub: Scrub | None,
        *,
        values: bool = False,
    ) -> None:
        self.judge = judge
        self.masks = masks
        self._refuse = refuse
        self._values = values
        self._steps: deque[Step] = deque()
        self._names = Names()
        self._group = 0
        self._skipping = False  # the server skips to a Sync that the agent has not sent yet
        self._copy_in = False  # the server takes COPY data
        self._barrier: Step | None = None  # it may ask for COPY data: only then is it known what follows
        self._dropping = False  # the rest of a message in pieces
        self.to_server: list[bytes] = []
        self.output = Output(scrub)
        self.decisions: list[Decision] = []
        self.endings: list[Ending] = []
        self.held: Step | None = None
        self._last: _Judged | None = None
        self.stop_server = False  # a limit is passed: the statement under way is to be cancelled
        self.server_ends = False  # it has said so
        self.ended = False  # the agent has said goodbye
        self.operations = 0
        self.masked_rows = 0  # that went through a mask
        self.status = m.IDLE  # of the transaction, as the server said last
        self.now = 0.0  # seconds, any clock; set by the caller
        self.spend_until = math.inf  # of the judge's `spent`: then no more frames are taken; set by the caller
        self.settings_changed = False
        self.statuses: dict[bytes, bytes] = {}  # the server's parameters that say how it reads a text

    @property
    def idle(self) -> bool:
        """Nothing is under way, and no transaction is open."""
        return not self._steps and self.held is None and self.status == m.IDLE

    @property
    def kept(self) -> int:
        """Bytes of the agent's that stay beyond its messages: texts, parameters, what is held."""
        held = 0 if self.held is None else len(self.held.text) + len(self.held.raw)
        return self._names.kept + held

    @property
    def under_way(self) -> bool:
        return bool(self._steps)

    # ---- the agent's messages ----

    def from_agent(self, frames: Sequence[Frame], index: int = 0) -> int:
        """Takes frames from `index` on; answers how many are taken in all: fewer than there are while a statement is
        held, until it is known whether the server takes COPY data, or when the judge has spent enough. Raises
        PeerError."""
        count = len(frames)
        judge = self.judge
        while index < count:
            if judge.spent > self.spend_until:
                return index
            frame = frames[index]
            if self.held is not None or (self._barrier is not None and not self._passes_barrier(frame)):
                return index
            if self._steps and (
                len(self._steps) >= _STEPS_MOST or (self._steps[0].group != self._group and self._is_open(frame))
            ):
                return index
            index += 1
            if isinstance(frame, Piece) and not frame.first:
                if not self._dropping:
                    self.to_server.append(frame.raw)
                continue
            self._dropping = False
            if isinstance(frame, Run):
                if not self._skipping:
                    self.to_server.append(frame.raw)
                continue
            kind = frame.kind
            if self._skipping and kind != m.SYNC and kind != m.TERMINATE:
                self._dropping = True  # as the server would
                continue
            if kind == m.QUERY:
                self._query(frame)
            elif kind == m.PARSE:
                self._parse(frame)
            elif kind == m.BIND:
                self._bind(frame)
            elif kind == m.EXECUTE:
                self._execute(frame)
            elif kind == m.DESCRIBE:
                self._describe(frame)
            elif kind == m.SYNC:
                self._sync(frame)
            elif kind == m.CLOSE:
                self._close(frame)
            elif kind == m.FUNCTION_CALL:
                self._function(frame)
            elif kind == m.TERMINATE:
                self.ended = True
                self.to_server.append(frame.raw)
                return count
            elif kind == m.FLUSH:
                self.to_server.append(frame.raw)
            else:
                self._copy_data(frame)
        return index

    def _is_open(self, frame: Frame) -> bool:
        """Whether it uses a name of which only the server's answer to an earlier group tells what it means: if a Parse
        or Bind of that group failed, the name still means what it meant before."""
        if isinstance(frame, Run) or (isinstance(frame, Piece) and not frame.first):
            return False
        if frame.kind == m.PARSE:
            return self._names.is_asked(read.parse(frame.body).name, self._group)
        if frame.kind == m.BIND:
            return self._names.is_asked(read.bind_names(frame.body)[1], self._group)
        if frame.kind == m.EXECUTE:
            portal = self._names.portals.get(read.execute_portal(frame.body))
            if portal is None or portal.is_open(self._group):
                return portal is not None
            ruling = portal.prepared.ruled_by(self.judge) if portal.prepared is not None else None
            return ruling is not None and self._names.are_open(ruling, self._group)
        if frame.kind == m.QUERY and self._names.may_be_open:
            return any(
                self._names.are_open(ruling, self._group) for ruling in self._judged(read.query_text(frame.body))
            )
        return False

    def _judged(self, text: bytes) -> tuple[Ruling, ...]:
        """What the judge says; it is not asked again for the text that it was asked for last."""
        last = self._last
        if last is None or (last.text is not text and last.text != text) or last.judge is not self.judge:
            last = self._last = _Judged(text, self.judge, self.judge.judge(text))
        return last.rulings

    def _check_name(self, name: bytes) -> bytes:
        """Raises PeerError."""
        return checked(name) if self.judge.strict else name

    def _passes_barrier(self, frame: Frame) -> bool:
        kind = frame.kind
        if kind == m.TERMINATE:
            return True
        if not self._copy_in:
            return False
        if kind not in (m.COPY_DATA, m.COPY_DONE, m.COPY_FAIL, m.SYNC, m.FLUSH):
            raise PeerError("postgres-state", _NO_COPY_DATA)
        return True

    def _query(self, frame: Whole) -> None:
        text = read.query_text(frame.body)
        self._group += 1
        step = Step(steps.QUERY, self._group)
        self._group += 1
        step.text = text
        step.rulings = self._judged(text)
        self._last = None
        self._consider(step, frame.raw)

    def _consider(self, step: Step, raw: bytes) -> None:
        """Whether the statements of `step`, a Query or Execute, may go on as `raw`."""
        hold = False
        unnamed: set[int] = set(step.unnamed)
        for index, ruling in enumerate(step.rulings):
            verdict = ruling.verdict
            if verdict.decision == "deny":
                return self._deny(step, denied(verdict), index)
            hold = hold or verdict.decision == "hold"
            unnamed.update(ruling.unnamed)
            step.probes = step.probes or ruling.probes
            step.limit_by(verdict)
            if ruling.name or ruling.command == "copy-in":
                error = self._name(step, ruling, index, unnamed)
                if error is not None:
                    return self._deny(step, error, index)
        step.unnamed = tuple(sorted(unnamed)) if unnamed else ()
        if hold:
            step.raw = raw
            self.held = step
            return None
        return self._go_on(step, raw)

    def _name(self, step: Step, ruling: Ruling, index: int, unnamed: set[int]) -> Denied | None:
        """What a statement does with names: of prepared statements and of cursors."""
        command, name = ruling.command, ruling.name
        if command == "copy-in":
            self._barrier = step
        elif command == "prepare":
            prepared = Prepared(step.text, index, self.judge, ruling, step)
            error = self._names.ask_for(name, prepared)
            if error is None:
                if step.prepares is None:
                    step.prepares = {}
                step.prepares[index] = prepared
            return error
        elif command in _EXECUTING:
            known = self._names.statement(name)
            if known is None and not self.judge.strict:
                return None
            if known is None:
                return Denied("unknown-statement", "no statement of this name was prepared where it could be judged")
            return self._another_meaning(step, (known,)) or self._within(step, known, unnamed)
        elif command == "declare":
            return self._names.declare(ruling, Prepared(step.text, index, self.judge, ruling, step))
        elif command in FETCHING:
            cursor, portal = self._names.cursors.get(name), self._names.portals.get(name)
            if cursor is None and portal is None and self.masks is not None:
                return Denied("unknown-cursor", "no cursor of this name was declared where it could be judged")
            error = self._another_meaning(step, (cursor.declared if cursor is not None else None, portal))
            if error is not None:
                return error
            if cursor is not None:
                step.comes_from(cursor, index)
                error = self._of_cursor(step, cursor)
                unnamed.update(cursor.unnamed)
                if error is not None:
                    return error
            elif portal is not None:
                step.comes_from(portal, index)
            if portal is not None and portal.prepared is not None:
                return self._within(step, portal.prepared, unnamed)
        return None

    def _another_meaning(self, step: Step, meant: tuple[object, ...]) -> Denied | None:
        """Of a portal in parts: the rows that are left are of what the name meant at first, and the server describes
        them as what it means now."""
        portal = step.portal
        if portal is None or self.masks is None:
            return None
        if not portal.meant:
            portal.meant = meant
        if all(now is before for now, before in zip(meant, portal.meant, strict=True)):
            return None
        return Denied("unknown-portal", "the name that this portal uses means something else now")

    def _within(self, step: Step, prepared: Prepared, unnamed: set[int]) -> Denied | None:
        """Whether a statement may execute another one by its name."""
        inner = prepared.ruled_by(self.judge)
        if inner is None:
            return None
        if inner.verdict.decision != "allow":
            return denied(inner.verdict)
        if inner.name and prepared.step.kind == steps.PARSE:  # it would have to be followed through names that change
            return Denied("unknown-statement", "what itself uses a name is not judged within another statement")
        if inner.command == "copy-in":
            self._barrier = step
        step.limit_by(inner.verdict)
        step.probes = step.probes or inner.probes
        unnamed.update(inner.unnamed)
        return None

    def _of_cursor(self, step: Step, cursor: Cursor) -> Denied | None:
        """Whether a cursor's rows may be asked for now; what had to be held was held when it was declared."""
        for declared in (cursor.declared, cursor.before):
            ruling = declared.ruled_by(self.judge) if declared is not None else None
            if ruling is not None:
                if ruling.verdict.decision == "deny":
                    return denied(ruling.verdict)
                step.probes = step.probes or ruling.probes
                step.limit_by(ruling.verdict)
        return None

    def _deny(self, step: Step, error: Denied, index: int = 0) -> None:
        """The server is asked for an error in place of the statement."""
        self._refused(step, error, index)
        simple = step.kind in (steps.QUERY, steps.FUNCTION)
        poison = Step(steps.QUERY if simple else steps.PARSE, step.group)
        poison.error = error
        poison.number = self.operations if step.rulings else 0
        poison.started = self.now
        self._steps.append(poison)
        unnamed = step.kind == steps.PARSE and not step.name
        self.to_server.append(POISON_QUERY if simple else POISON_PARSE if unnamed else POISON_NAMED)

    def _refused(self, step: Step, error: Denied, index: int) -> None:
        """It does not go to the server, and nothing that it would have named comes to be."""
        if self._barrier is step:
            self._barrier = None
        self.operations += 1
        if step.rulings:
            verdict = Verdict("deny", error.rule, error.reason, error.ask)
            self.decisions.append(Decision(self.operations, step.rulings[index], verdict, step.text, ()))
        self._names.forget(step)

    def _go_on(self, step: Step, raw: bytes) -> None:
        rulings = step.rulings
        if rulings:
            step.number = self.operations + 1
            step.started = self.now
            parameters = step.portal.parameters if step.portal is not None else ()
            for ruling in rulings:
                self.operations += 1
                verdict = ruling.verdict
                if verdict.decision == "hold":  # and somebody has said yes
                    verdict = Verdict("allow", verdict.rule)
                self.decisions.append(Decision(self.operations, ruling, verdict, step.text, parameters))
        if step.kind == steps.EXECUTE and self.masks is not None:
            self._ask_for_rows(step)
        self._steps.append(step)
        self.to_server.append(raw)

    def answer_hold(self, error: Denied | None) -> None:
        """What was held goes on, or is refused."""
        step, self.held = self.held, None
        if step is None:
            return
        index = [ruling.verdict.decision for ruling in step.rulings].index("hold")
        if error is None and not self._skipping:
            self._go_on(step, step.raw)
            return
        self.operations += index  # so its number is the one that it was held under
        if error is not None and not self._skipping:
            self._deny(step, error, index)
        else:  # what came before it has failed: the server would skip it
            error = error or Denied(step.rulings[index].verdict.rule, "what came before it failed")
            self._refused(step, error, index)
            self.endings.append(Ending(self.operations, 0, 0, state_of(error), self.now))

    def _parse(self, frame: Whole) -> None:
        message = read.parse(frame.body)
        step = Step(steps.PARSE, self._group, self._check_name(message.name))
        step.text = message.text
        rulings = self.judge.judge(message.text)
        for index, ruling in enumerate(rulings):
            if ruling.verdict.decision == "deny":
                step.rulings = rulings
                return self._deny(step, denied(ruling.verdict), index)
        prepared = Prepared(message.text, 0, self.judge, rulings[0] if rulings else None, step)
        error = self._names.ask_for(message.name, prepared)
        if error is not None:
            return self._deny(step, error)
        step.prepared = prepared
        self._steps.append(step)
        self.to_server.append(frame.raw)
        return None

    def _bind(self, frame: Whole) -> None:
        name, statement = read.bind_names(frame.body)
        self._check_name(statement)
        portal = Portal(self._names.statement(statement), self._group)
        if self._values and isinstance(frame, Message):
            portal.parameters = read.bind(frame.body).parameters
            portal.size = frame.end - frame.start
        step = Step(steps.BIND, self._group, self._check_name(name))
        step.portal = portal
        self._names.bind(step, portal)
        self._steps.append(step)
        self.to_server.append(frame.raw)

    def _execute(self, frame: Whole) -> None:
        name = self._check_name(read.execute_portal(frame.body))
        step = Step(steps.EXECUTE, self._group, name)
        step.portal = portal = self._names.portals.get(name)
        cursor = self._names.cursors.get(name)  # SQL may have closed the portal, and a cursor has its name now
        if cursor is not None:
            step.comes_from(cursor, 0)
            step.unnamed = cursor.unnamed
            error = self._of_cursor(step, cursor)
            if error is not None:
                step.rulings = (_UNKNOWN_PORTAL,)
                return self._deny(step, error)
        if portal is None or portal.prepared is None:
            step.rulings = (_UNKNOWN_PORTAL,)
            if self.judge.strict and (portal is not None or cursor is None):
                return self._deny(
                    step, Denied("unknown-portal", "no portal of this name was bound where it could be judged")
                )
            return self._go_on(step, frame.raw)
        ruling = portal.prepared.ruled_by(self.judge)
        if ruling is None:
            return self._go_on(step, frame.raw)
        step.text = portal.prepared.text
        step.rulings = (ruling,)
        return self._consider(step, frame.raw)

    def _ask_for_rows(self, step: Step) -> None:
        """What the rows of an Execute are is said right before it, or they could not be masked: by then the portal may
        be another one of the same name. Where the agent does not ask, we do."""
        last = self._steps[-1] if self._steps else None
        if last is None or last.kind != steps.DESCRIBE_PORTAL or last.name != step.name or last.group != step.group:
            last = Step(steps.DESCRIBE_PORTAL, step.group, step.name)
            last.hidden = True
            self._steps.append(last)
            self.to_server.append(write.describe(m.PORTAL, step.name))
        last.executed = step

    def _describe(self, frame: Whole) -> None:
        message = read.describe(frame.body)
        kind = steps.DESCRIBE_PORTAL if message.kind == m.PORTAL else steps.DESCRIBE_STATEMENT
        self._steps.append(Step(kind, self._group, self._check_name(message.name)))
        self.to_server.append(frame.raw)

    def _close(self, frame: Whole) -> None:
        message = read.close(frame.body)
        step = Step(steps.CLOSE, self._group, self._check_name(message.name))
        step.index = message.kind
        if message.kind == m.PORTAL:
            step.portal = self._names.portals.get(message.name)
        else:
            step.prepared = self._names.statement(message.name)
        self._steps.append(step)
        self.to_server.append(frame.raw)

    def _sync(self, frame: Frame) -> None:
        if self._copy_in:
            return  # the server passes over it (55.2.6)
        self._skipping = False
        self._steps.append(Step(steps.SYNC, self._group))
        self._group += 1
        self.to_server.append(frame.raw)

    def _function(self, frame: Whole) -> None:
        self._group += 1
        step = Step(steps.FUNCTION, self._group)
        self._group += 1
        step.rulings = (self.judge.fastpath(int.from_bytes(frame.body[:4], "big")),)
        self._dropping = step.rulings[0].verdict.decision != "allow"
        if self._dropping:
            self._deny(step, denied(step.rulings[0].verdict))
        else:
            self._go_on(step, frame.raw)

    def _copy_data(self, frame: Whole) -> None:
        self.to_server.append(frame.raw)
        if frame.kind != m.COPY_DATA and self._copy_in:
            self._copy_in = False
            if self._barrier is not None and self._barrier.kind == steps.EXECUTE:
                self._barrier = None  # of a Query another statement may follow that takes data

    # ---- the server's messages ----

    def from_server(self, frames: Sequence[Frame]) -> None:
        """Takes all of them. Raises PeerError("upstream-…") if they do not answer what was asked, Denied where a denial
        can only be had by the session's end."""
        for frame in frames:
            kind = frame.kind
            if isinstance(frame, Run) or kind == m.DATA_ROW or kind == m.COPY_DATA:
                self._rows(frame)
            elif kind == m.COMMAND_COMPLETE:
                self._complete(frame)
            elif kind == m.READY:
                self._ready(frame)
            elif kind == m.ROW_DESCRIPTION:
                self._fields(frame)
            elif kind == m.ERROR:
                self._error(frame)
            elif kind == m.NOTICE or kind == m.NOTIFICATION:
                self._aside(frame)
            elif kind == m.PARAMETER_STATUS:
                status = read.parameter_status(frame.body)
                if status.name in _SETTINGS:
                    self.statuses[status.name] = status.value
                    self.settings_changed = True
                value = status.value if self.masks is None else self.masks.words(status.value)
                if value == status.value:
                    self.output.pass_on(frame)
                else:  # set_config of what a detector finds
                    self.output.replace(write.parameter_status(status.name, value or b""))
            else:
                self._answer(frame)
        self.output.flush()

    def _head(self, kind: int, other: int = -1, third: int = -1) -> Step:
        """What the server answers, which must be of one of these kinds."""
        steps = self._steps
        if steps:
            step = steps[0]
            if step.kind in (kind, other, third):
                return step
        raise PeerError("upstream-postgres", "the server answers what was not asked")

    def _answer(self, frame: Whole) -> None:
        kind = frame.kind
        if kind == m.PARSE_COMPLETE:
            step = self._head(steps.PARSE)
            if step.prepared is None:
                raise PeerError("upstream-postgres", "the server takes what is no statement for one")
            self._steps.popleft()
            self._names.keep(step.name, step.prepared)
        elif kind == m.BIND_COMPLETE:
            step = self._head(steps.BIND)
            self._steps.popleft()
            if step.portal is not None:
                step.portal.bound = True
        elif kind == m.CLOSE_COMPLETE:
            self._names.closed(self._head(steps.CLOSE))
            self._steps.popleft()
        elif kind == m.NO_DATA:
            step = self._head(steps.DESCRIBE_STATEMENT, steps.DESCRIBE_PORTAL)
            self._steps.popleft()
            if step.hidden:
                return
        elif kind == m.PARAMETER_DESCRIPTION:
            self._head(steps.DESCRIBE_STATEMENT)
        elif kind == m.EMPTY_QUERY:
            if self._head(steps.QUERY, steps.EXECUTE).kind == steps.EXECUTE:
                self._steps.popleft()
        elif kind == m.PORTAL_SUSPENDED:
            self._head(steps.EXECUTE)
            self._complete(frame)
            return
        elif kind == m.COPY_IN:
            step = self._head(steps.QUERY, steps.EXECUTE)
            self._copy_in = True
            while len(self._steps) > 1 and self._steps[1].kind == steps.SYNC:
                del self._steps[1]  # the server passes over it (55.2.6)
            if len(self._steps) > 1:  # of a text that cannot be read it was not known: the server eats what follows
                raise PeerError("postgres-state", _NO_COPY_DATA)
            self._barrier = step
        elif kind == m.COPY_OUT:
            self._copy_out(frame)
        elif kind == m.COPY_BOTH:
            self._head(steps.QUERY)
            if not self.judge.replicates:
                raise PeerError("upstream-postgres", "the server begins to replicate, which nobody asked for")
        elif kind == m.FUNCTION_RESULT:
            self._head(steps.FUNCTION)
        elif kind != m.COPY_DONE:
            raise PeerError("upstream-postgres", f"the server sends a message of type {kind}")
        self.output.pass_on(frame)

    def _fields(self, frame: Whole) -> None:
        step = self._head(steps.QUERY, steps.DESCRIBE_STATEMENT, steps.DESCRIBE_PORTAL)
        masks = self.masks
        if step.kind == steps.QUERY:
            if masks is not None:
                step.masker = masks.rows(read.row_description(frame.body).fields, step.unnamed)
                step.known = True
        else:
            self._steps.popleft()
            executed = step.executed
            if executed is not None and masks is not None:
                executed.masker = masks.rows(read.row_description(frame.body).fields, executed.unnamed)
                executed.known = True
            if step.hidden:
                return
        self.output.pass_on(frame)

    def _rows(self, frame: Frame) -> None:
        step = self._head(steps.QUERY, steps.EXECUTE)
        if not isinstance(frame, Piece):
            step.bytes += frame.end - frame.start
            step.rows += frame.count if isinstance(frame, Run) else 1
        elif frame.first:  # all of it counts now: what the agent has the beginning of, it must get whole
            step.bytes += frame.total
            step.rows += 1
        if step.limited is None and (step.limit_rows or step.limit_bytes):
            self._limit(step)
        if step.limited is not None:
            return
        masks = self.masks
        if masks is None:
            self.output.pass_on(frame)
            return
        masker = step.masker
        if not step.copying and not step.known:
            raise PeerError("upstream-postgres", "rows come that were not described")
        if masker is None:
            self.output.pass_on(frame)
        elif isinstance(frame, Piece):
            step.limited = Denied("row-too-long", "a row is too long to be masked")
            self.stop_server = True
        else:
            self.masked_rows += frame.count if isinstance(frame, Run) else 1
            self.output.replace(masker.mask(frame.raw))

    def _limit(self, step: Step) -> None:
        """Of what is fetched in portions all count."""
        rows, size, source = step.rows, step.bytes, step.source()
        if source is not None:
            rows += source.rows
            size += source.bytes
        if step.limit_rows and rows > step.limit_rows:
            step.limited = Denied("max-rows", f"the result has more than {step.limit_rows} rows")
        elif step.limit_bytes and size > step.limit_bytes:
            step.limited = Denied("max-bytes", f"the result has more than {step.limit_bytes} bytes")
        else:
            return
        self.stop_server = True

    def _copy_out(self, frame: Whole) -> None:
        step = self._head(steps.QUERY, steps.EXECUTE)
        step.copying = True
        if self.masks is None:
            return
        response = read.copy_response(frame.body)
        ruling = step.rulings[min(step.index, len(step.rulings) - 1)] if step.rulings else _UNKNOWN_PORTAL
        try:
            step.masker = self.masks.copy(ruling, response.format == m.BINARY, len(response.column_formats))
        except Denied as error:
            step.limited = error
            self.stop_server = True

    def _complete(self, frame: Whole) -> None:
        step = self._head(steps.QUERY, steps.EXECUTE)
        limited = step.limited
        self._end(step, "" if limited is None else state_of(limited))
        source = step.source()
        if source is not None:
            source.rows += step.rows
            source.bytes += step.bytes
        if step.index < len(step.rulings):
            self._names.done(step, step.rulings[step.index])
        if step.kind == steps.EXECUTE:
            self._steps.popleft()
            if self._barrier is step:
                self._barrier = None
        else:
            step.index += 1
            step.rows = step.bytes = 0
            step.masker, step.copying, step.known = None, False, False
        if limited is not None:
            step.limited = None
            if step.kind == steps.QUERY:
                more = len(self._steps) > 1 or step.index < len(step.rulings)
            else:
                more = any(other.kind != steps.SYNC for other in self._steps)
            if more or self.status != m.IDLE:
                raise limited  # it was over before it could be stopped: only the session's end takes back what it did
            self._skipping = step.kind == steps.EXECUTE and not self._steps  # as after any error
            self.output.replace(self._refuse(limited))
        else:
            self.output.pass_on(frame)

    def _end(self, step: Step, sqlstate: str) -> None:
        if step.number and step.index < max(1, len(step.rulings)):
            self.endings.append(Ending(step.number + step.index, step.rows, step.bytes, sqlstate, step.started))

    def _error(self, frame: Whole) -> None:
        report = read.report(frame.body)
        self.server_ends = self.server_ends or report.severity in (b"FATAL", b"PANIC")
        step = self._steps[0] if self._steps else None
        if step is None:
            self.output.pass_on(frame)
            return
        error = step.error or step.limited
        sqlstate = report.sqlstate[:5].decode("ascii", "replace") if error is None else state_of(error)
        self._end(step, sqlstate)
        self._copy_in = False
        if self._barrier is step:
            self._barrier = None
        self._fail(step, sqlstate)
        if error is not None:
            self.output.replace(self._refuse(error))
        elif self.masks is not None:
            self.output.replace(without_values(m.ERROR, report, may_show(step, report, self._names), self.masks))
        else:
            self.output.pass_on(frame)

    def _aside(self, frame: Whole) -> None:
        """What functions and triggers of the database say may have the values of masked columns in it."""
        if self.masks is None:
            self.output.pass_on(frame)
        elif frame.kind == m.NOTICE:
            report = read.report(frame.body)
            step = self._steps[0] if self._steps else None
            self.output.replace(without_values(m.NOTICE, report, may_show(step, report, self._names), self.masks))
        else:
            notification = read.notification(frame.body)
            self.output.replace(write.notification(notification.pid, notification.channel, b""))

    def _skip(self, step: Step, first: int, sqlstate: str) -> None:
        """The statements from `first` on end with the error that keeps them from being carried out."""
        if step.number:
            for index in range(first, max(1, len(step.rulings))):
                self.endings.append(Ending(step.number + index, 0, 0, sqlstate, step.started))

    def _fail(self, step: Step, sqlstate: str) -> None:
        """The server skips what was asked up to the next Sync, or ends the Query."""
        waiting = self._steps
        if step.kind in (steps.QUERY, steps.FUNCTION):
            self._names.forget(step)
            self._skip(step, step.index + 1, sqlstate)
            step.error = step.limited = None
            step.number = 0  # its end is on record
            return
        gone: list[Step] = []
        while waiting and waiting[0].kind != steps.SYNC:
            if gone:
                self._skip(waiting[0], 0, sqlstate)
            gone.append(waiting.popleft())
        for step in reversed(gone):  # the last Bind of a name first: it is the one that the name means
            self._names.forget(step)
            if self._barrier is step:
                self._barrier = None
            self._names.unbind(step)
        self._skipping = not waiting

    def _ready(self, frame: Whole) -> None:
        step = self._head(steps.QUERY, steps.SYNC, steps.FUNCTION)
        if step.kind == steps.FUNCTION:
            self._end(step, "")
        self._steps.popleft()
        self._copy_in = False
        if self._barrier is step:
            self._barrier = None
        self.status = read.ready(frame.body)
        if self.status == m.IDLE and not self._steps:
            self._names.end_portals()
        self.output.pass_on(frame)


@final
class _Judged:
    __slots__ = ("judge", "rulings", "text")

    def __init__(self, text: bytes, judge: Judging, rulings: tuple[Ruling, ...]) -> None:
        self.text = text
        self.judge = judge
        self.rulings = rulings


_SETTINGS: Final = frozenset((b"client_encoding", b"standard_conforming_strings"))
_EXECUTING: Final = frozenset(("execute", "explain", "create-table-as"))  # with a name: of what they execute
_UNKNOWN_PORTAL: Final = Ruling(
    "execute", b"", (), "<a portal that is not known>", Verdict("allow", "portal"), (), None
)
