"""What comes before a PostgreSQL session: the agent's first packet and its proof, our login at the server, and what
masks need to know of the database. Coroutines; nothing of it is on the way of a statement."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import NamedTuple

import structlog

from appliance.lineage.relations import Catalogue
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, InternalError, PeerError
from appliance.model.placeholder import LeasedSecret
from appliance.model.verdict import PostgresPlan
from appliance.proxy.channel import Channel
from appliance.proxy.flow import Flow
from appliance.proxy.lease import CompiledLease
from appliance.proxy.mailbox import Mailbox
from appliance.proxy.postgres_login import MINOR, AgentLogin, Candidate, candidates_of
from appliance.proxy.postgres_services import CATALOGUE_LIFE, Database, Known
from appliance.proxy.postgres_upstream import Login, Server, connect, log_in
from appliance.proxy.upstream import timed
from appliance.session.postgres_judge import Setting
from appliance.session.postgres_startup import Startup, check_startup, codec_of
from appliance.wire.postgres import CancelRequest, StartupMessage, write

log = structlog.get_logger()


class Opened(NamedTuple):
    """Both logins are done. `key`: what mask tokens are made with, the same for a job and a secret."""

    plan: PostgresPlan
    setting: Setting
    server: Server
    lease: CompiledLease
    key: bytes


class Opening:
    """Of one flow. `lease` is there as soon as it is known which secrets may be in what the server says."""

    def __init__(self, flow: Flow, agent: Channel, mailbox: Mailbox) -> None:
        self._flow = flow
        self._services = flow.services
        self._limits = flow.services.config.limits
        self._agent = agent
        self._mailbox = mailbox
        self._plan: PostgresPlan
        self._startup: Startup
        self._database: Database
        self.lease: CompiledLease | None = None

    async def start(self) -> StartupMessage | CancelRequest:
        """The agent's first packet. Raises PeerError, EnvironmentFailed."""
        try:
            async with asyncio.timeout(self._limits.head_timeout):
                start = await self._mailbox.start()
        except TimeoutError:
            raise EnvironmentFailed("request-slow", "the startup packet did not come in time") from None
        if not isinstance(start, (StartupMessage, CancelRequest)):
            raise PeerError("postgres-start", "encryption is asked for within a connection that has its encryption")
        return start

    async def log_in(self, start: StartupMessage) -> Opened:
        """The agent's login, then ours. Raises Denied, PeerError, EnvironmentFailed, and Refused where the server says
        no."""
        flow = self._flow
        await flow.refresh()
        plan = flow.plan.postgres
        if plan is None:
            raise InternalError("a plan for PostgreSQL without its part")
        self._plan = plan
        if start.minor > MINOR or start.options:
            self._agent.write(write.negotiate_protocol_version(min(start.minor, MINOR), start.options))
        self._startup = startup = check_startup(start.parameters, plan)
        self.lease = lease = await flow.lease()
        secret = await self._prove(lease)
        lease = self.lease  # the proof may have been of a newer one
        server = await self._connect(secret, lease)
        codec = codec_of(server.statuses.get(b"client_encoding", b"").decode("ascii", "replace"))
        if codec is None and (plan.judged or plan.masks):
            server.channel.abort()
            raise Denied("client-encoding", "statements in this client_encoding cannot be judged; use UTF8")
        route = flow.route
        self._database = Database(route.host, route.address, route.port, startup.database, plan.masks)
        setting = Setting(
            destination=flow.plan.destination,
            database=startup.database,
            user=startup.user,
            credentials=(secret.name,) if secret is not None else (),
            codec=codec or "utf-8",
            replicates="replication" in startup.parameters,
            is_utf8=server.statuses.get(b"server_encoding") == b"UTF8",
        )
        key = secret.value.reveal() if secret is not None else os.urandom(16)
        return Opened(plan, setting, server, lease, hashlib.sha256(key + flow.identity.claims.job.encode()).digest())

    async def _prove(self, lease: CompiledLease) -> LeasedSecret | None:
        """The secret that the agent's placeholder stands for; None where the destination needs none."""
        flow, user = self._flow, self._startup.user
        candidates = candidates_of(lease, user)
        if not candidates:
            if any(slot.kind == "postgres" for secret in lease.secrets for slot in secret.slots):
                raise Denied("no-secret", f"no secret of {flow.plan.destination} is the password of {user}")
            return None

        async def renew() -> list[Candidate]:
            self.lease = await flow.lease(anew=True)
            return candidates_of(self.lease, user)

        async def whose(password: bytes) -> object:
            return await self._services.leases.check_candidates(flow.identity.claims.job, [password])

        login = AgentLogin(self._mailbox, self._agent, user, candidates, lease, renew, whose)
        try:
            async with asyncio.timeout(self._limits.head_timeout):
                proved = await login.prove(self._plan.login)
        except TimeoutError:
            raise EnvironmentFailed("request-slow", "the password did not come in time") from None
        await flow.redeem(proved.placeholder)
        return proved.secret

    async def _connect(self, secret: LeasedSecret | None, lease: CompiledLease) -> Server:
        startup, services = self._startup, self._services
        context = services.postgres.context(lease)
        with timed(services.tally.dialled):
            channel, sink = await connect(services.buffers, context, self._flow.route, self._limits)
        password = secret.value if secret is not None else None
        login = Login(startup.user, startup.parameters, password, lease.salted, self._plan.upstream_login)
        try:
            return await log_in(channel, sink, login, self._limits.connect_timeout)
        except BaseException:
            channel.abort()
            raise

    async def catalogue(self, opened: Opened) -> Known:
        """What masks need to know: read on the session's own connection, before it is the agent's, where nobody else
        has just done so. Raises EnvironmentFailed, and Denied where a mask has no column."""
        known = self._services.postgres.catalogue(self._database)
        if known is None:
            known = await self._services.postgres.read_catalogue(
                opened.server, self._database, self._limits, opened.setting.codec
            )
        _check_masks(known.catalogue)
        return known

    async def renewed_catalogue(self, setting: Setting, lease: CompiledLease, before: Catalogue) -> Known:
        """The same for an open session, on a connection of its own: in the agent's a transaction may be open, or have
        failed. Where there is none to be had, as for a role that may have just one, the catalogue stays as it was."""
        postgres = self._services.postgres
        known = postgres.catalogue(self._database)
        if known is None:
            used = setting.credentials
            secret = next((each for each in lease.secrets if each.name in used), None)
            if used and secret is None:
                raise Denied("no-secret", f"{self._flow.plan.destination} has lost the secret of this session")
            try:
                server = await self._connect(secret, lease)
                try:
                    codec = codec_of(server.statuses.get(b"client_encoding", b"").decode("ascii", "replace"))
                    known = await postgres.read_catalogue(server, self._database, self._limits, codec or "utf-8")
                finally:
                    server.channel.write(write.terminate())
                    server.channel.close()
            except CoatcheckError as error:
                log.warning("postgres.catalogue", flow=self._flow.id, error=str(error))
                known = Known(before, time.monotonic() + CATALOGUE_LIFE, b"")
        _check_masks(known.catalogue)
        return known


def _check_masks(catalogue: Catalogue) -> None:
    """A mask over a column that is not there hides nothing: it may have got another name. Raises Denied."""
    if catalogue.missing:
        column, *more = catalogue.missing
        others = f" (and {len(more)} more)" if more else ""
        raise Denied(
            "mask-missing",
            f"the policy hides the column {column}{others}, and this database has none of that name",
            "tell whoever writes the policy: the mask must name it as it is called now, or say absent: allow",
        )
