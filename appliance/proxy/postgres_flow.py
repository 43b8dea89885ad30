"""PostgreSQL of one flow: the agent's login, ours at the server, then the session between them.

opening    a task: startup packet, proof, dial, login, what masks need to know; the agent gets one answer
open       callbacks: frames go through `session.postgres`; a statement goes on once its decision is on record
waiting    the agent's frames wait while something is asked for (identity, lease) or a statement is held
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
import structlog

from appliance.lineage.relations import Catalogue
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, InternalError, PeerError
from appliance.model.record import SessionStarted, StatementDecided
from appliance.model.verdict import PostgresPlan
from appliance.placeholders.scrub import Scrubber
from appliance.proxy.channel import Channel
from appliance.proxy.flow import Flow
from appliance.proxy.lease import CompiledLease
from appliance.proxy.mailbox import Mailbox
from appliance.proxy.postgres_cancels import Cancel
from appliance.proxy.postgres_login import MINOR
from appliance.proxy.postgres_opening import Opening
from appliance.proxy.postgres_upstream import Server, cancel
from appliance.proxy.shares import AT_ONCE, Share
from appliance.proxy.siblings import CancelAsked
from appliance.proxy.statement_records import StatementRecords
from appliance.session.postgres import Session
from appliance.session.postgres_judge import Judge, Setting
from appliance.session.postgres_masks import ResultMasks
from appliance.session.postgres_problem import Refused, refusal
from appliance.session.postgres_startup import codec_of
from appliance.session.postgres_steps import Decision, Scrub
from appliance.wire.postgres import CancelRequest, Frame, Frames, StartupMessage, write

log = structlog.get_logger()

_REMIND: Final = 30.0  # seconds between notices to an agent whose statement is held
_TEXT_MOST: Final = 8192  # characters of a statement on record
_LOGIN_MOST: Final = 128 << 10  # bytes that the agent may send before its session begins
_UNCOUNTED: Final = 64 << 10  # bytes that a session may keep without their being counted
_UNSENT_MOST: Final = 1 << 20  # bytes of the agent's that wait for a record; it may have a read's more
_REPEATED: Final = 512  # bytes: a longer text of many statements is on record with the first of them
_AUDIT_FAILED = "the audit record cannot be written, so nothing is let through"


class PostgresFlow:
    """The sink of the agent's channel and the owner of the server's. `refusal`: the flow as a whole is refused, and the
    agent is told so. `closed` is done when the agent's connection is gone."""

    def __init__(self, flow: Flow, agent: Channel, refused: CoatcheckError | None) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._flow = flow
        self._services = flow.services
        self._limits = flow.services.config.limits
        self._tally = flow.services.tally
        self._recorder = flow.services.recorder
        self._agent = agent
        self._refused = refused
        self._mailbox = Mailbox(Frames(False), "agent", _LOGIN_MOST)
        self._server: Server | None = None
        self._session: Session | None = None
        self._judge: Judge
        self._plan = PostgresPlan()
        self._catalogue_until = 0.0  # of the monotonic clock
        self._masks: ResultMasks | None = None
        self._setting = Setting("", "", "", (), "utf-8", False, True)
        self._records = StatementRecords(flow.id, _TEXT_MOST)
        self._lease: CompiledLease | None = None
        self._inbox: list[Frame] = []  # of the agent's
        self._replies: list[Frame] = []  # of the server's, while there is no lease
        self._outgoing: list[bytes] = []
        self._unwritten = 0  # decisions that are not on record yet
        self._gone = False  # the agent sends no more
        self._decided_at = 0.0
        self._sent_at = 0  # bytes that the agent had sent when all that may go on went on last
        self._behind = False  # too much waits for a record
        self._asking: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._stop_again = False
        self._share: Share
        self._kept = 0  # bytes of the agent's, as they count with the job's
        self._resting: asyncio.TimerHandle | None = None  # others have their turn
        self._holding: asyncio.TimerHandle | None = None
        self._hold_ends = 0.0
        self._cancel: Cancel | None = None
        self._server_full = False
        self._clock = loop.time
        self.end = "eof"
        self.closed: asyncio.Future[None] = loop.create_future()
        agent.attach(self)
        self._opening = Opening(flow, agent, self._mailbox)
        self._at_opening: asyncio.Task[None] | None = loop.create_task(self._open())

    # ---- the agent's channel (Sink) ----

    def received(self, data: bytes) -> None:
        if self._session is None:
            self._mailbox.put(data)
            return
        try:
            frames = self._mailbox.frames.feed(data)
        except PeerError as error:
            self._finish(error)
            return
        if frames:
            self._inbox += frames
            self._pump()
        if self._kept or self._mailbox.frames.held + self._session.kept > _UNCOUNTED:
            self._count_kept()

    def _count_kept(self) -> None:
        """What this session keeps of the agent's counts with that of the job's others."""
        session = self._session
        if session is None:
            return
        kept = self._mailbox.frames.held + session.kept
        if self._inbox:
            kept += sum(frame.end - frame.start for frame in self._inbox)
        if self._outgoing:
            kept += self._agent.received_bytes - self._sent_at
        if kept <= _UNCOUNTED:
            kept = 0
        change, self._kept = kept - self._kept, kept
        if change and not self._share.keep(change) and change > 0:
            most = self._limits.kept_per_job
            reason = f"the sessions of this job keep over {most} bytes: unfinished messages, statements, parameters"
            self._finish(Denied("kept-per-job", reason))

    def ended(self, clean: bool) -> None:
        self._mailbox.fail(PeerError("eof", "the agent closed the connection"))
        self._gone = True
        if not (self._unwritten and self._session is not None and self._session.ended):
            self._agent.close()

    def lost(self, error: Exception | None) -> None:
        for task in (self._at_opening, self._asking):
            if task is not None:
                task.cancel()
        for timer in (self._holding, self._resting):
            if timer is not None:
                timer.cancel()
        if self._cancel is not None:
            self._services.postgres.cancels.forget(self._cancel)
        server, self._server = self._server, None
        if server is not None:
            server.sink.on_frames = server.sink.on_lost = server.sink.on_hold = None
            if self._session is not None and self._session.ended:
                server.channel.close()
            else:
                server.channel.abort()
        if self._session is not None:
            self._flow.operations = self._session.operations
            self._record_endings(self._session)
            self._share.end(self._kept)
        self._flow.close(
            sent=self._agent.received_bytes, received=self._agent.sent_bytes, end="reset" if error else self.end
        )
        if not self.closed.done():
            self.closed.set_result(None)

    def hold(self) -> None:
        if self._server is not None:
            self._server.channel.pause()

    def release(self) -> None:
        if self._server is not None and not self._replies:
            self._server.channel.resume()

    def check_time(self, now: float) -> None:
        """A session may be idle for long; what it holds of the vault may not be held that long. About once a second."""
        session, lease = self._session, self._lease
        if session is not None and session.idle and lease is not None and lease.expires <= time.time():
            self._lease = None
            session.output.scrub = None

    # ---- opening ----

    async def _open(self) -> None:
        try:
            start = await self._opening.start()
            if isinstance(start, StartupMessage):
                await self._open_session(start)
            else:
                self._pass_cancel(start)
        except Refused as refused:
            self._tally.failed(EnvironmentFailed("upstream-login", ""))
            self.end = "upstream-login"
            self._agent.write(self._without_secrets(refused.raw))
            self._agent.close()
        except CoatcheckError as error:
            self._finish(error)
        except (
            Exception
        ) as error:  # the seam: our bug must neither hang the flow nor tell the agent more than it should
            log.error("flow.bug", flow=self._flow.id, error=repr(type(error)), exc_info=True)
            self._finish(InternalError("opening a session failed"))
        finally:
            self._at_opening = None

    def _pass_cancel(self, request: CancelRequest) -> None:
        """Of this job's sessions only; whoever asks is told nothing (55.2.8). What it was sent to does not matter: it
        comes without a server's name, and another worker may have told the job the address."""
        job, services = self._flow.identity.claims.job, self._services
        if not services.postgres.cancels.request(job, request.pid, request.key):
            services.siblings.tell(CancelAsked(job, request.pid, request.key))
        self.end = "cancel"
        self._agent.close()

    async def _open_session(self, start: StartupMessage) -> None:
        if self._refused is not None:
            raise self._refused
        flow, agent, postgres = self._flow, self._agent, self._services.postgres
        opened = await self._opening.log_in(start)
        self._server, self._lease = server, lease = opened.server, opened.lease
        self._plan, self._setting = plan, setting = opened.plan, opened.setting
        known = await self._opening.catalogue(opened)
        self._catalogue_until = known.until
        claims = flow.identity.claims
        self._judge = judge = postgres.judges.get(flow.decider, plan, setting, known.catalogue)
        if plan.masks:
            self._masks = ResultMasks(plan.masks, known.catalogue, opened.key, setting.codec)
        session = Session(judge, self._masks, self._refuse, scrubber_of(lease), values=plan.record == "values")
        session.statuses = dict(server.statuses)
        session.status = server.status
        await self._record_start(server)
        self._tally.swapped(setting.credentials)
        self._cancel = Cancel(claims.job, server.pid, 32 if start.minor >= MINOR else 4, self._stop)
        postgres.cancels.add(self._cancel)
        agent.write(
            b"".join(
                (
                    write.authentication_ok(),
                    self._without_secrets(b"".join(server.greeting)),
                    write.backend_key_data(self._cancel.pid, self._cancel.key),
                    write.ready(server.status),
                )
            )
        )
        self._mailbox.frames.login_over()
        self._share = postgres.shares.begin(claims.job, self._clock())
        self._session = session
        server.sink.on_frames = self._replied
        server.sink.on_lost = self._server_lost
        server.sink.on_hold = self._server_held
        if self._mailbox.rest():
            raise PeerError("postgres-state", "the agent sends another password than it was asked for")
        if not (server.sink.mailbox.frames.between and server.sink.mailbox.empty):
            raise PeerError("upstream-postgres", "the server speaks before it is asked")
        self._pump()

    async def _record_start(self, server: Server) -> None:
        written = await self._recorder.write(
            SessionStarted(
                time=time.time(),
                flow=self._flow.id,
                database=self._setting.database,
                user=self._setting.user,
                swapped=self._setting.credentials,
                server_version=server.statuses.get(b"server_version", b"").decode("utf-8", "replace"),
                tls=server.channel.tls is not None,
            )
        )
        if not written:
            raise EnvironmentFailed("audit", _AUDIT_FAILED)

    def _refuse(self, denied: Denied) -> bytes:
        self._tally.failed(denied)
        return refusal(denied, self._flow.id, self._services.config.ask)

    def _without_secrets(self, messages: bytes) -> bytes:
        """What the server says before the session begins, or we say in its words."""
        lease = self._lease or self._opening.lease
        scrub = scrubber_of(lease) if lease is not None else None
        return messages if scrub is None else scrub(messages)

    def _finish(self, error: CoatcheckError) -> None:
        """The session ends with an error."""
        if self._agent.closing:
            return
        self._tally.failed(error)
        self.end = error.rule if isinstance(error, Denied) else getattr(error, "code", "internal")
        if isinstance(error, InternalError):
            log.error("flow.bug", flow=self._flow.id, error=str(error))
        said = refusal(error, self._flow.id, self._services.config.ask, fatal=True)
        self._agent.write(self._without_secrets(said))
        self._agent.close()

    # ---- open: from the agent ----

    def _pump(self) -> None:
        """Takes what the agent has sent as far as it can be taken now."""
        session = self._session
        if session is None or self._asking is not None or self._stopping is not None or self._agent.closing:
            return
        if self._inbox and session.held is None and not self._server_full and not self._rests(session):
            now = time.time()
            lease = self._lease
            old = self._masks is not None and self._catalogue_until <= time.monotonic()
            if lease is None or lease.expires <= now or old or not self._flow.is_fresh(now):
                self._asking = self._loop.create_task(self._ask())
                self._agent.pause()
                return
            frames, self._inbox = self._inbox, []
            judge, before = session.judge, session.judge.spent
            session.spend_until = before + AT_ONCE
            try:
                taken = session.from_agent(frames)
            except PeerError as error:
                self._finish(error)
                return
            if judge.spent > before:
                self._share.use(session.now, judge.spent - before)
            if taken < len(frames):
                self._inbox = frames[taken:]
                if judge.spent > session.spend_until:
                    self._rest(0.0)
            self._after_agent(session)
        self._behind = bool(self._outgoing) and self._agent.received_bytes - self._sent_at > _UNSENT_MOST
        if self._inbox or self._server_full or self._behind:
            self._agent.pause()
        else:
            self._agent.resume()

    def _rests(self, session: Session) -> bool:
        """Whether others have their turn: this job's share of the worker's time is used up, or this turn's part."""
        now = session.now = self._clock()
        if self._resting is None and self._share.until > now:
            self._tally.waited()
            self._rest(self._share.until - now)
        return self._resting is not None

    def _rest(self, seconds: float) -> None:
        self._resting = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._pump()

    def _after_agent(self, session: Session) -> None:
        """Records what was decided; sends what may go on, now or when that is on record."""
        if session.to_server:
            self._outgoing += session.to_server
            session.to_server = []
        if session.decisions:
            decisions, session.decisions = session.decisions, []
            self._decided_at = session.now
            text: bytes | None = None
            for decision in decisions:
                record = self._decided(decision, whole=decision.text is not text or len(text) < _REPEATED)
                text = decision.text
                if decision.verdict.decision == "deny":
                    self._recorder.put(record)
                else:
                    self._unwritten += 1
                    self._recorder.put(record, self._written)
        if not self._unwritten and self._outgoing:
            self._send()
        if session.held is not None and self._holding is None:
            self._begin_hold(session)
        self._to_agent(session)

    def _decided(self, decision: Decision, *, whole: bool) -> StatementDecided | msgspec.Raw:
        """`whole`: the text is recorded, where the plan says so, else its shape."""
        ruling, verdict = decision.ruling, decision.verdict
        if verdict is ruling.verdict and self._plan.record == "shape" and not decision.parameters:
            return self._records.decided(time.time(), decision.number, ruling)
        statement = ruling.shape
        if whole and decision.text and self._plan.record != "shape":
            statement = self._for_record(decision.text)
        return StatementDecided(
            time=time.time(),
            flow=self._flow.id,
            operation=decision.number,
            command=ruling.command,
            statement=statement[:_TEXT_MOST],
            tables=ruling.tables,
            decision=verdict.decision,
            rule=verdict.rule,
            reason=verdict.reason,
            parameters=tuple(
                "NULL" if value is None else self._for_record(value)[:_TEXT_MOST] for value in decision.parameters
            ),
        )

    def _for_record(self, text: bytes) -> str:
        """No secret, and no placeholder."""
        lease = self._lease
        if lease is not None:
            text = lease.scrubber.text(text)[0]
            text = lease.swapper.without_placeholders(text)
        return text.decode(self._setting.codec, "replace")

    def _written(self, written: bool) -> None:
        self._unwritten -= 1
        if not written:
            self._finish(EnvironmentFailed("audit", _AUDIT_FAILED))
            return
        self._tally.statements(1, self._clock() - self._decided_at)
        if not self._unwritten and self._outgoing:
            self._send()
            if self._behind:
                self._pump()

    def _send(self) -> None:
        server = self._server
        outgoing, self._outgoing = self._outgoing, []
        self._sent_at = self._agent.received_bytes
        if server is not None and not self._agent.closing:
            server.channel.write_now(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))
            if self._gone:  # it said goodbye; else it waits for the answers, and the server ends the connection
                self._agent.close()
        if self._kept:
            self._count_kept()

    async def _ask(self) -> None:
        """Brings identity, policy and lease up to date."""
        session, flow = self._session, self._flow
        try:
            await flow.refresh()
            plan = flow.plan.postgres
            if plan != self._plan or session is None:
                raise Denied("policy-changed", "the policy of this destination has changed; connect again")
            lease = await flow.lease()
            if lease is not self._lease:
                self._lease = lease
                session.output.scrub = scrubber_of(lease)
            catalogue = self._judge.catalogue
            if self._masks is not None and self._catalogue_until <= time.monotonic():
                known = await self._opening.renewed_catalogue(self._setting, lease, catalogue)
                self._catalogue_until = known.until
                if known.catalogue is not catalogue:
                    catalogue = known.catalogue
                    self._masks.renew(catalogue)
            if self._judge.decider is not flow.decider or self._judge.catalogue is not catalogue:
                self._judge_anew(session, catalogue)
        except CoatcheckError as error:
            self._asking = None
            self._finish(error)
            return
        except Exception:  # the seam
            log.error("flow.bug", flow=flow.id, exc_info=True)
            self._asking = None
            self._finish(InternalError("bringing a session up to date failed"))
            return
        self._asking = None
        if self._replies:
            replies, self._replies = self._replies, []
            if self._server is not None:
                self._server.channel.resume()
            self._replied(replies)
        self._pump()

    def _judge_anew(self, session: Session, catalogue: Catalogue) -> None:
        self._judge = session.judge = self._services.postgres.judges.get(
            self._flow.decider, self._plan, self._setting, catalogue
        )

    def _settings_changed(self, session: Session) -> None:
        """The server says how it reads the agent's texts from now on."""
        session.settings_changed = False
        codec = codec_of(session.statuses.get(b"client_encoding", b"").decode("ascii", "replace"))
        if session.judge.strict and session.statuses.get(b"standard_conforming_strings") == b"off":
            self._finish(Denied("standard-conforming-strings", "with it off, statements cannot be judged"))
        elif session.judge.strict and codec is None:
            self._finish(Denied("client-encoding", "statements in this client_encoding cannot be judged; use UTF8"))
        elif codec is not None and codec != self._setting.codec:
            self._setting = self._setting._replace(codec=codec)
            if self._masks is not None:
                self._masks.codec = codec
            self._judge_anew(session, self._judge.catalogue)

    # ---- open: a statement that waits for a person's yes ----

    def _begin_hold(self, session: Session) -> None:
        step = session.held
        assert step is not None  # noqa: S101  # callers' condition
        index, ruling = next((i, each) for i, each in enumerate(step.rulings) if each.verdict.decision == "hold")
        self._hold_ends = self._clock() + ruling.verdict.hold_seconds
        self._tally.held()
        parameters = step.portal.parameters if step.portal is not None else ()
        number = session.operations + 1 + index  # that it will have when it is decided
        self._recorder.put(self._decided(Decision(number, ruling, ruling.verdict, step.text, parameters), whole=True))
        self._remind()

    def _remind(self) -> None:
        """A notice now and then shows the agent, and what is between, that the connection lives."""
        session = self._session
        if session is None or session.held is None:
            return
        left = self._hold_ends - self._clock()
        if left <= 0:
            self._end_hold("nobody has allowed it in time")
            return
        text = f"Coatcheck holds this statement until somebody allows it, for {left:.0f} s at most; cancel to give up"
        session.output.say(write.notice("NOTICE", "00000", text, f"flow {self._flow.id}"))
        self._to_agent(session)
        self._holding = self._loop.call_later(min(left, _REMIND), self._remind)

    def _end_hold(self, reason: str, rule: str = "") -> None:
        session = self._session
        if session is None or session.held is None:
            return
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
        verdict = next(ruling.verdict for ruling in session.held.rulings if ruling.verdict.decision == "hold")
        session.answer_hold(Denied(rule or verdict.rule, verdict.reason or reason, verdict.ask))
        self._after_agent(session)
        self._pump()

    # ---- open: from the server ----

    def _replied(self, frames: list[Frame]) -> None:
        session = self._session
        if session is None or self._agent.closing:
            return
        if self._replies or self._lease is None:
            self._replies += frames
            if self._server is not None:
                self._server.channel.pause()
            if self._asking is None:
                self._asking = self._loop.create_task(self._ask())
            return
        try:
            session.from_server(frames)
        except (PeerError, Denied) as error:
            self._to_agent(session)
            self._finish(error)
            return
        self._to_agent(session)
        if session.endings:
            self._record_endings(session)
        if session.settings_changed:
            self._settings_changed(session)
        if session.masked_rows:
            self._tally.rows_masked(session.masked_rows)
            session.masked_rows = 0
        if session.stop_server:
            session.stop_server = False
            self._stop()
        if self._inbox:
            self._pump()

    def _to_agent(self, session: Session) -> None:
        data = session.output.take()
        if data:
            self._agent.write_now(data)

    def _record_endings(self, session: Session) -> None:
        endings, session.endings = session.endings, []
        now, clock = time.time(), self._clock()
        for ending in endings:
            duration = int((clock - ending.started) * 1e6) / 1000  # ms; `round` is slow
            self._recorder.put(self._records.ended(now, ending, duration))

    def _server_lost(self, error: PeerError | None) -> None:
        if self._session is None:
            return  # the login tells of it
        if self._agent.closing or self._session.ended or self._session.server_ends:
            self._agent.close()
            return
        self._finish(error or PeerError("upstream-cut", "the server ended the connection"))

    def _server_held(self, full: bool) -> None:
        self._server_full = full
        self._pump()

    def _stop(self) -> None:
        """Asks the server to stop what is under way, or gives up what is held."""
        session, server = self._session, self._server
        if session is None or server is None:
            return
        if session.held is not None:
            self._end_hold("canceled while it was held", "canceled")
        elif self._stopping is not None:
            self._stop_again = True
        elif session.under_way:
            self._agent.pause()
            self._stopping = self._loop.create_task(self._ask_to_stop(session, server))
            self._services.postgres.cancels.keep(self._stopping)

    async def _ask_to_stop(self, session: Session, server: Server) -> None:
        """One connection at a time, however often it is asked for; what the agent sends meanwhile waits, or that would
        be what is stopped."""
        try:
            context = self._services.postgres.context(self._lease or self._services.leases.none())
            again = True
            while again:
                self._stop_again = False
                await cancel(self._services.buffers, context, self._flow.route, self._limits, server.pid, server.key)
                again = self._stop_again and session.under_way and self._server is server
        except CoatcheckError as error:
            log.warning("postgres.cancel", flow=self._flow.id, error=str(error))
        finally:
            self._stopping = None
            self._pump()


class _Scrub:
    """Keeps every length: messages say how long they are."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self.longest = scrubber.longest

    def __call__(self, data: bytes) -> bytes:
        scrubber = self._scrubber
        if scrubber.clean(data):
            return data
        parts: list[bytes] = []
        at = 0
        for found in scrubber.find(data):
            size = found.end - found.start
            parts += (data[at : found.start], found.replacement[:size].ljust(size, b"*"))
            at = found.end
        parts.append(data[at:])
        return b"".join(parts)


def scrubber_of(lease: CompiledLease) -> Scrub | None:
    return _Scrub(lease.scrubber) if lease.scrubber.active else None
