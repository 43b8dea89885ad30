"""HTTP/1.1 of one flow: the agent's requests one after the other, each judged, recorded, forwarded and answered.

A request goes through these phases:

    preparing   identity, plan, lease, verdict, upstream, placeholder uses: whatever must be asked is asked
    recording   its decision is being written; nothing has been sent
    forwarding  head and body go to the upstream, the response comes back
    refused     we have answered ourselves; what is left of its body is dropped

When everything is at hand (kept-alive connection, lease and token in their life) `preparing` takes no turn of the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

import structlog

from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, InternalError, PeerError
from appliance.model.record import OperationDecided, OperationEnded
from appliance.proxy.channel import Line
from appliance.proxy.flow import Flow
from appliance.proxy.http_exchange import FORWARDING, PREPARING, RECORDING, REFUSED, Exchange
from appliance.proxy.http_response import ResponseWriter, write_whole
from appliance.proxy.lease import CompiledLease
from appliance.proxy.upgraded import Upgraded
from appliance.proxy.upstream import Upstream
from appliance.session.http import Judged, check_host, judge, split_target
from appliance.session.problem import answer, problem_of
from appliance.wire.http1 import END, Event, RequestHead, RequestReader, ResponseHead, Trailers, chunk, last_chunk

log = structlog.get_logger()

_LINGER_BYTES: Final = 1 << 20  # of a refused request's body that are dropped, so that the answer is not lost to RST
_AUDIT_FAILED = "the audit record cannot be written, so nothing is let through"


class HttpFlow:
    """The sink of the agent's channel and the owner of the upstream's. `refusal`: the flow as a whole is refused, and
    each request is told so. `closed` is done when the agent's connection is gone."""

    def __init__(self, flow: Flow, agent: Line, default_port: int, refusal: CoatcheckError | None) -> None:
        loop = asyncio.get_running_loop()
        self._flow = flow
        self._services = flow.services
        self._limits = flow.services.config.limits
        self._tally = flow.services.tally
        self._agent = agent
        self._default_port = default_port
        self._refusal = refusal
        self._reader = RequestReader(self._limits.head_bytes, self._limits.headers, flow.services.sections)
        self._inbox: deque[Event] = deque()
        self._exchange: Exchange | None = None
        self._lease: CompiledLease | None = None
        self._upstream: Upstream | None = None
        self._upgraded: Upgraded | None = None
        self._task: asyncio.Task[None] | None = None
        self._agent_ended = False
        self._upstream_held = False
        self._agent_held = False
        self._pumping = False
        self._lingering = False
        self.end = "eof"
        self._clock = loop.time
        self._active = loop.time()
        self._head_since = 0.0
        self.closed: asyncio.Future[None] = loop.create_future()
        agent.attach(self)

    # ---- the agent's side (Sink) ----

    def received(self, data: bytes) -> None:
        self._active = self._clock()
        if self._lingering:
            return
        try:
            events = self._reader.feed(data)
        except PeerError as error:
            self._malformed(error)
            return
        if len(events) == 2 and events[1] is END and isinstance(events[0], RequestHead) and self._is_free:
            self._begin(events[0], whole=True)  # as most come
            return
        self._inbox.extend(events)
        if self._exchange is None and not self._inbox:
            self._head_since = self._head_since or self._active
        self._pump()

    def ended(self, clean: bool) -> None:
        self._agent_ended = True
        exchange = self._exchange
        if exchange is None or not clean or not exchange.request_done:
            if exchange is not None and exchange.phase == FORWARDING and not exchange.request_done:
                self.end = "cut"
                self._agent.abort()
            else:
                self._agent.close()

    def lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        exchange, self._exchange = self._exchange, None
        upstream, self._upstream = self._upstream, None
        if exchange is not None and exchange.phase == FORWARDING:
            self._record_end(exchange, "agent-lost")
            if upstream is not None:
                upstream.owner = None
                upstream.channel.abort()
        elif upstream is not None:
            self._services.upstreams.give_back(upstream)
        self._flow.close(
            sent=self._agent.received_bytes, received=self._agent.sent_bytes, end="reset" if error else self.end
        )
        if not self.closed.done():
            self.closed.set_result(None)

    def hold(self) -> None:
        self._agent_held = True
        if self._upstream is not None:
            self._upstream.channel.pause()
        if self._exchange is not None and self._exchange.writer is not None:
            self._exchange.writer.hold()

    def release(self) -> None:
        self._agent_held = False
        writer = self._exchange.writer if self._exchange is not None else None
        if writer is not None:
            writer.release()
        if self._upstream is not None and (writer is None or not writer.busy):
            self._upstream.channel.resume()
        if self._inbox:
            self._pump()

    def check_time(self, now: float) -> None:
        """Ends what has waited too long in its phase. `now` is loop time in seconds; called about once a second."""
        limits = self._limits
        exchange = self._exchange
        quiet = now - self._active
        if self._upgraded is not None:
            return
        if exchange is None:
            if self._lease is not None and self._lease.expires <= time.time():
                self._lease = None  # an idle connection holds no secret
                if self._upstream is not None:
                    self._upstream.reader.forget()
            if self._head_since and now - self._head_since > limits.head_timeout:
                self._malformed(EnvironmentFailed("request-slow", "the request's head did not come in time"))
            elif not self._head_since and quiet > limits.keepalive_timeout:
                self.end = "idle"
                self._agent.close()
        elif exchange.phase == REFUSED:
            if quiet > limits.body_idle_timeout:
                self._agent.abort()
        elif exchange.phase == FORWARDING:
            if not exchange.request_done and quiet > limits.body_idle_timeout:
                self._give_up(exchange, EnvironmentFailed("request-slow", "the request's body did not come in time"))
            elif quiet > limits.response_timeout:
                self._give_up(exchange, EnvironmentFailed("upstream-slow", "the server did not answer in time"))

    # ---- requests ----

    @property
    def _is_free(self) -> bool:
        """Nothing is under way or waits."""
        return self._exchange is None and not self._inbox and not self._agent_held and not self._upstream_held

    @property
    def _more_may_come(self) -> bool:
        """After the request in hand: an agent that sends no more may have sent others before (RFC 9112 9.6)."""
        return not self._agent_ended or bool(self._inbox)

    def _pump(self) -> None:
        """Takes from the inbox what the exchange in hand can take now; the next request only while the agent reads its
        answers. A call from within, by a request that was refused at once, is left to the call that is under way."""
        if self._pumping:
            return
        self._pumping = True
        try:
            self._take_from_inbox()
        finally:
            self._pumping = False
        if self._inbox or self._upstream_held:
            self._agent.pause()
        else:
            self._agent.resume()

    def _take_from_inbox(self) -> None:
        inbox = self._inbox
        while inbox:
            exchange = self._exchange
            event = inbox[0]
            if exchange is None:
                if self._agent_held:
                    break
                inbox.popleft()
                if isinstance(event, RequestHead):
                    whole = bool(inbox) and inbox[0] is END
                    if whole:
                        inbox.popleft()
                    self._begin(event, whole)
            elif isinstance(event, RequestHead) or exchange.phase in (PREPARING, RECORDING):
                break
            else:
                inbox.popleft()
                if exchange.phase == FORWARDING:
                    self._forward_body(exchange, event)
                else:
                    self._drop(exchange, event)

    def _begin(self, head: RequestHead, whole: bool) -> None:
        """`whole`: it has no body, or none that is still to come."""
        self._head_since = 0.0
        self._flow.operations += 1
        exchange = self._exchange = Exchange(self._flow.operations, head)
        exchange.request_done = whole
        if self._refusal is not None:
            self._refuse(exchange, self._refusal)
        elif not self._at_once(exchange):
            self._task = asyncio.get_running_loop().create_task(self._prepare(exchange))

    def _at_once(self, exchange: Exchange) -> bool:
        """Prepares without waiting if nothing needs to be asked; False if something does."""
        now = exchange.started
        lease = self._lease
        upstream = self._upstream
        if lease is None or lease.expires <= now or upstream is None or not upstream.usable:
            return False
        if not self._flow.is_fresh(now):
            return False
        try:
            judged = self._judge(exchange, lease)
        except CoatcheckError as error:
            self._refuse(exchange, error)
            return True
        if judged.candidates:
            return False
        for _, placeholder in judged.used:
            if placeholder.counted or placeholder.expires <= now:
                return False
        self._write_decision(exchange, judged)
        return True

    async def _prepare(self, exchange: Exchange) -> None:
        """Asks for whatever is missing, in the order in which a refusal costs least."""
        try:
            await self._flow.refresh()
            self._lease = await self._flow.lease()
            judged = self._judge(exchange, self._lease)
            if judged.candidates and await self._minted(judged):
                self._lease = await self._flow.lease(anew=True)
                judged = self._judge(exchange, self._lease)
            await self._connect()
            for _, placeholder in judged.used:
                await self._flow.redeem(placeholder, judged.operation)
        except CoatcheckError as error:
            self._refuse(exchange, error)
        except (
            Exception
        ) as error:  # the seam: our bug must neither hang the flow nor tell the agent more than it should
            log.error("flow.bug", flow=self._flow.id, error=repr(type(error)), exc_info=True)
            self._refuse(exchange, InternalError("preparing a request failed"))
        else:
            self._write_decision(exchange, judged)
        finally:
            self._task = None

    async def _minted(self, judged: Judged) -> bool:
        """Whether a value in a slot is a placeholder that the lease in hand is too old to know. Raises Denied for one
        that is dead or another job's."""
        job, secrets = self._flow.identity.claims.job, self._flow.plan.secrets
        return await self._services.leases.check_candidates(job, judged.candidates, secrets)

    def _judge(self, exchange: Exchange, lease: CompiledLease) -> Judged:
        destination = self._flow.destination
        head = exchange.head
        authority, origin = split_target(head)
        prepared = lease.prepared(head, self._default_port, self._flow.plan.allow_range)
        check_host(head, authority, prepared, destination.host, destination.port, self._default_port)
        judged = judge(head, origin, prepared, lease.swapper, self._flow.decider)
        exchange.judged = judged
        verdict = judged.verdict
        if verdict.decision != "allow":
            raise Denied(verdict.rule, verdict.reason, verdict.ask)
        return judged

    async def _connect(self) -> None:
        if self._upstream is None or not self._upstream.usable:
            self._upstream = await self._services.upstreams.connect(self._flow.route)
            self._upstream.owner = self

    def _write_decision(self, exchange: Exchange, judged: Judged) -> None:
        exchange.phase = RECORDING
        exchange.put_at = self._clock()
        self._services.recorder.put(
            OperationDecided(
                time=exchange.started,
                flow=self._flow.id,
                operation=exchange.number,
                method=judged.operation.method,
                host=self._flow.destination.host,
                path=judged.path,
                decision="allow",
                rule=judged.verdict.rule,
                swapped=judged.operation.credentials,
                stray=judged.stray,
            ),
            self._decision_written,
        )

    def _decision_written(self, written: bool) -> None:
        exchange = self._exchange
        if exchange is None or exchange.phase != RECORDING:
            return
        if not written:
            self._refuse(exchange, EnvironmentFailed("audit", _AUDIT_FAILED))
        elif self._upstream is not None and self._upstream.usable:
            self._forward(exchange, self._upstream)
        else:
            self._retry(exchange)

    def _forward(self, exchange: Exchange, upstream: Upstream) -> None:
        judged, lease = exchange.judged, self._lease
        assert judged is not None and lease is not None  # noqa: S101, PT018  # set while preparing
        exchange.phase = FORWARDING
        upstream.owner = self
        upstream.requests += 1
        upstream.reader.expect(exchange.head.method, bool(judged.operation.upgrade))
        exchange.scrubber = lease.scrubber
        if lease.secrets and not exchange.request_done:
            exchange.watcher = lease.watcher()
        now = self._active = self._clock()
        self._tally.forwarded(judged.operation.credentials, now - exchange.put_at)
        upstream.channel.write(judged.head())
        if self._inbox:
            self._pump()

    def _forward_body(self, exchange: Exchange, event: Event) -> None:
        upstream = self._upstream
        if upstream is None:
            return
        chunked = exchange.head.framing == "chunked"
        if isinstance(event, bytes):
            exchange.sent += len(event)
            if exchange.watcher is not None:
                exchange.watcher.feed(event)
            upstream.channel.write(chunk(event) if chunked else event)
        elif isinstance(event, Trailers):
            exchange.trailers = event.headers
        elif event is END:
            exchange.request_done = True
            if chunked:
                upstream.channel.write(last_chunk(exchange.trailers))
            if exchange.watcher is not None:
                exchange.stray = tuple(exchange.watcher.seen)
            self._active = self._clock()

    # ---- the upstream's side (Owner) ----

    def upstream_events(self, events: list[Event]) -> None:
        exchange = self._exchange
        if exchange is None or exchange.phase != FORWARDING:
            self._drop_upstream()
            return
        self._active = self._clock()
        if len(events) == 3 and events[2] is END and self._pass_on(exchange, events[0], events[1]):
            self._finish(exchange)
            return
        writer = self._writer(exchange)
        try:
            for event in events:
                if isinstance(event, bytes):
                    exchange.received += len(event)
                    writer.body(event)
                elif isinstance(event, ResponseHead):
                    self._response_head(exchange, writer, event)
                    if self._upgraded is not None:
                        return
                elif isinstance(event, Trailers):
                    exchange.response_trailers = event.headers
                elif event is END:
                    writer.end(exchange.response_trailers)
        except CoatcheckError as error:
            self._give_up(exchange, error)
            return
        writer.flush()
        if writer.done:
            self._finish(exchange)
        elif writer.busy and self._upstream is not None:
            self._upstream.channel.pause()

    def _writer(self, exchange: Exchange) -> ResponseWriter:
        writer = exchange.writer
        if writer is None:
            writer = exchange.writer = ResponseWriter(
                self._agent, exchange.scrubber, exchange.head.version, self._more_written, self._cannot_scrub
            )
            writer.held = self._agent_held
        return writer

    def _pass_on(self, exchange: Exchange, head: Event, body: Event) -> bool:
        """A response that came in one piece and goes on as it is; False if it does not."""
        if not isinstance(head, ResponseHead) or not isinstance(body, bytes) or exchange.writer is not None:
            return False
        keep_alive = exchange.keep_alive and self._more_may_come
        if not write_whole(self._agent, exchange.scrubber, head, body, keep_alive=keep_alive):
            return False
        exchange.response_head = head
        exchange.received = len(body)
        self._tally.first_byte(self._active - exchange.put_at)
        return True

    def _response_head(self, exchange: Exchange, writer: ResponseWriter, head: ResponseHead) -> None:
        if head.status == 101:
            self._upgrade(exchange, writer, head)
        elif head.informational:
            writer.informational(head)
        else:
            exchange.response_head = head
            self._tally.first_byte(self._active - exchange.put_at)
            keep_alive = exchange.keep_alive and self._more_may_come
            exchange.keep_alive = writer.head(head, keep_alive=keep_alive, partial=self._flow.plan.allow_range)

    def upstream_failed(self, error: PeerError) -> None:
        self._upstream_gone(PeerError("upstream-" + error.code.removeprefix("upstream-"), f"the server: {error}"))

    def upstream_lost(self) -> None:
        self._upstream_gone(
            PeerError("upstream-lost", "the server closed the connection before its answer was complete")
        )

    def _upstream_gone(self, error: PeerError) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.owner = None
        exchange = self._exchange
        if exchange is None or exchange.phase != FORWARDING:
            return
        if exchange.may_retry and upstream is not None and upstream.requests > 1:
            self._retry(exchange)
        else:
            self._give_up(exchange, error)

    def upstream_hold(self) -> None:
        self._upstream_held = True
        self._agent.pause()

    def upstream_release(self) -> None:
        self._upstream_held = False
        self._pump()

    # ---- ends ----

    def _retry(self, exchange: Exchange) -> None:
        """A kept-alive connection was closed just as we used it (RFC 9112 9.3.1): once more, on a new one."""
        exchange.retried = True
        exchange.phase = RECORDING
        self._task = asyncio.get_running_loop().create_task(self._reconnect(exchange))

    async def _reconnect(self, exchange: Exchange) -> None:
        try:
            await self._connect()
            if self._upstream is not None:
                self._forward(exchange, self._upstream)
        except CoatcheckError as error:
            self._refuse(exchange, error)
        except Exception as error:  # the seam, as in `_prepare`
            log.error("flow.bug", flow=self._flow.id, error=repr(type(error)), exc_info=True)
            self._refuse(exchange, InternalError("connecting again failed"))
        finally:
            self._task = None

    def _more_written(self) -> None:
        """A coded body went on in a turn of its own."""
        exchange = self._exchange
        if exchange is None or exchange.writer is None:
            return
        if exchange.writer.done:
            self._finish(exchange)
        elif not exchange.writer.busy and not exchange.writer.held and self._upstream is not None:
            self._upstream.channel.resume()

    def _cannot_scrub(self, error: CoatcheckError) -> None:
        if self._exchange is not None:
            self._give_up(self._exchange, error)

    def _finish(self, exchange: Exchange) -> None:
        """The response is with the agent."""
        self._exchange = None
        self._record_end(exchange, "")
        upstream, head = self._upstream, exchange.response_head
        if upstream is not None and (head is None or not head.keep_alive or not exchange.request_done):
            self._drop_upstream()
        elif upstream is not None:
            upstream.channel.resume()
        if not exchange.request_done or not exchange.keep_alive or not self._more_may_come:
            self._agent.close()
            return
        if self._reader.paused:
            try:
                self._inbox.extend(self._reader.resume())
            except PeerError as error:
                self._malformed(error)
                return
        if self._inbox:
            self._pump()

    def _give_up(self, exchange: Exchange, error: CoatcheckError) -> None:
        """The exchange failed after it was sent: answered if nothing of a response has gone out, else cut off, so that
        the agent cannot take a part for the whole."""
        self._tally.failed(error, "upstream")
        self._record_end(exchange, getattr(error, "code", "denied"))
        self._drop_upstream()
        if exchange.writer is None or not exchange.writer.begun:
            self._answer(exchange, error)
        else:
            self._exchange = None
            self.end = "upstream-cut"
            self._agent.abort()

    def _refuse(self, exchange: Exchange, error: CoatcheckError) -> None:
        """Nothing was sent: records that, and answers. Answering a refusal needs no written record."""
        judged = exchange.judged
        denied = isinstance(error, Denied)
        rule = error.rule if isinstance(error, Denied) else getattr(error, "code", "internal")
        self._tally.failed(error)
        self._services.recorder.put(
            OperationDecided(
                time=exchange.started,
                flow=self._flow.id,
                operation=exchange.number,
                method=exchange.head.method,
                host=self._flow.destination.host,
                path=judged.path if judged is not None else "",
                decision="deny" if denied else "fail",
                rule=rule,
                reason=error.reason if isinstance(error, Denied) else str(error),
                stray=judged.stray if judged is not None else (),
            )
        )
        self._answer(exchange, error)

    def _answer(self, exchange: Exchange, error: CoatcheckError) -> None:
        exchange.phase = REFUSED
        stays = exchange.keep_alive and exchange.request_done and self._more_may_come
        problem = problem_of(error, self._flow.id, self._services.config.ask)
        self._agent.write(answer(problem, head_only=exchange.head.method == "HEAD", keep_alive=stays))
        if exchange.request_done:
            self._exchange = None
            if not stays:
                self._inbox.clear()
                self._agent.close()
            elif self._reader.paused:
                self._inbox.extend(self._reader.resume())
        self._pump()

    def _drop(self, exchange: Exchange, event: Event) -> None:
        """The rest of a refused request's body: read, so that the answer arrives, up to a limit."""
        if isinstance(event, bytes):
            exchange.dropped += len(event)
        if event is END or exchange.dropped > _LINGER_BYTES:
            self._exchange = None
            self._lingering = True
            self._inbox.clear()
            self._agent.close()

    def _malformed(self, error: CoatcheckError) -> None:
        """What the agent sent is not HTTP that can be read in one way only: told so if no response is under way."""
        self._tally.failed(error)
        self.end = getattr(error, "code", "malformed")
        self._lingering = True
        self._inbox.clear()
        exchange = self._exchange
        if exchange is not None and exchange.phase == FORWARDING:
            self._record_end(exchange, self.end)
            self._exchange = None
            self._drop_upstream()
            self._agent.abort()
            return
        if exchange is not None:
            self._call_off(exchange)
        if exchange is None or exchange.phase != REFUSED:
            problem = problem_of(error, self._flow.id, self._services.config.ask)
            self._agent.write(answer(problem, head_only=False, keep_alive=False))
        self._agent.close()

    def _call_off(self, exchange: Exchange) -> None:
        """Nothing of it was sent, and nothing will be: the agent takes the answer to what came after it for its own."""
        if self._task is not None:
            self._task.cancel()
        if exchange.phase == RECORDING:
            self._record_end(exchange, self.end)
        self._exchange = None

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.owner = None
            upstream.channel.abort()
        self._upstream_held = False

    def _record_end(self, exchange: Exchange, error: str) -> None:
        writer = exchange.writer
        now = time.time()
        scrubbed = writer.scrubbed if writer is not None else 0
        if scrubbed:
            self._tally.scrubbed(scrubbed)
        if exchange.stray:
            self._tally.strays(exchange.stray)
        self._services.recorder.put(
            OperationEnded(
                time=now,
                flow=self._flow.id,
                operation=exchange.number,
                status=exchange.response_head.status if exchange.response_head is not None else 0,
                sent=exchange.sent,
                received=exchange.received,
                duration_ms=round((now - exchange.started) * 1000, 3),
                scrubbed=scrubbed,
                stray=exchange.stray,
                error=error,
            )
        )

    # ---- upgrades ----

    def _upgrade(self, exchange: Exchange, writer: ResponseWriter, head: ResponseHead) -> None:
        upstream, lease = self._upstream, self._lease
        assert upstream is not None and lease is not None  # noqa: S101, PT018  # we are forwarding
        exchange.response_head = head
        writer.switching(head)
        writer.flush()
        self._upstream = None
        self._exchange = None

        def ended(word: str) -> None:
            pair = self._upgraded
            assert pair is not None  # noqa: S101  # set below, before anything can end
            exchange.sent, exchange.received, exchange.stray = pair.sent, pair.received, pair.stray
            writer.scrubbed += pair.scrubbed
            self.end = word
            self._record_end(exchange, "" if word == "eof" else word)
            self.lost(None)

        self._upgraded = Upgraded(head.upgrade, self._agent, upstream.channel, lease.scrubber, lease.watcher(), ended)
        early = upstream.reader.leftover
        if early:
            self._upgraded.to_agent(early)
        if self._reader.leftover:
            self._upgraded.to_upstream(self._reader.leftover)
