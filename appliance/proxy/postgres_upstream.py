"""The far side of a PostgreSQL flow: dial, TLS, log in with the real credential, ask the catalogue.

A connection serves one flow: a session has state (settings, temporary tables, prepared statements) that must not reach
another.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from appliance.config.schema import Limits
from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.model.secret import Secret
from appliance.placeholders.handshakes import (
    LEAST_NONCE,
    Salted,
    ScramClient,
    choose,
    end_point,
    md5_response,
    nonce_of,
)
from appliance.proxy.channel import Buffers, Channel
from appliance.proxy.mailbox import Mailbox
from appliance.proxy.upstream import Route, dial, secure
from appliance.session.postgres_problem import Refused
from appliance.wire.names import literal_of
from appliance.wire.postgres import Frame, Frames, Message, Run, cancel_request, read, ssl_request, startup, write
from appliance.wire.postgres import messages as m

_GREETING_MOST: Final = 1 << 18  # bytes of notices and settings that a server sends with its login
_DERIVING: Final = ThreadPoolExecutor(1, "scram")  # a server says how long; the other flows go on meanwhile
_CATALOGUE_MOST: Final = 64 << 20  # bytes of rows that say what masks need to know


class Login(NamedTuple):
    """What the server asks a client for. `accepted`: methods of the plan's `upstream_login`."""

    user: str
    parameters: dict[str, str]
    password: Secret | None
    salted: Salted
    accepted: tuple[str, ...]


class Sink:
    """Of the server's channel: into the mailbox first, later to the flow."""

    def __init__(self) -> None:
        self.mailbox = Mailbox(Frames(True), "server", _CATALOGUE_MOST)
        self.on_frames: Callable[[list[Frame]], None] | None = None
        self.on_lost: Callable[[PeerError | None], None] | None = None
        self.on_hold: Callable[[bool], None] | None = None

    def received(self, data: bytes) -> None:
        if self.on_frames is None:
            self.mailbox.put(data)
            return
        try:
            frames = self.mailbox.frames.feed(data)
        except PeerError as error:
            self._gone(PeerError("upstream-postgres", str(error)))
            return
        if frames:
            self.on_frames(frames)

    def ended(self, clean: bool) -> None:
        self._gone(PeerError("upstream-cut", "the server ended the connection"))

    def lost(self, error: Exception | None) -> None:
        self._gone(PeerError("upstream-cut", "the connection to the server was lost"))

    def hold(self) -> None:
        if self.on_hold is not None:
            self.on_hold(True)

    def release(self) -> None:
        if self.on_hold is not None:
            self.on_hold(False)

    def _gone(self, error: PeerError) -> None:
        self.mailbox.fail(error)
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost(error)


class Server:
    """A connection that is logged in. `greeting`: the ParameterStatus messages and notices that came, raw."""

    def __init__(self, channel: Channel, sink: Sink) -> None:
        self.channel = channel
        self.sink = sink
        self.greeting: list[bytes] = []
        self._greeted = 0  # bytes
        self.statuses: dict[bytes, bytes] = {}
        self.pid = 0
        self.key = b""
        self.status = m.IDLE

    def greet(self, raw: bytes) -> None:
        """Raises PeerError."""
        self._greeted += len(raw)
        if self._greeted > _GREETING_MOST:
            raise PeerError("upstream-postgres", "the server does not come to an end with its login")
        self.greeting.append(raw)

    async def query(self, text: str, columns: int, timeout: float) -> list[tuple[bytes | None, ...]]:
        """The rows of a query of ours, before the agent's. Raises EnvironmentFailed("upstream-catalogue")."""
        self.channel.write(write.query(text.encode()))
        rows: list[tuple[bytes | None, ...]] = []
        failed = ""
        size = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    frame = await self.sink.mailbox.frame()
                    if isinstance(frame, Run):
                        rows += [read.data_row(body).values for body in frame.bodies()]
                        size += frame.end - frame.start
                        if size > _CATALOGUE_MOST:
                            raise PeerError("upstream-catalogue", f"it is larger than {_CATALOGUE_MOST} bytes")
                    elif not isinstance(frame, Message):
                        failed = "a value is too long"
                    elif frame.kind == m.ERROR:
                        failed = read.report(frame.body).message.decode("utf-8", "replace")
                    elif frame.kind == m.READY:
                        break
        except (TimeoutError, PeerError) as error:
            failed = str(error) or f"no answer within {timeout:g} s"
        if failed or any(len(row) != columns for row in rows):
            raise EnvironmentFailed(
                "upstream-catalogue",
                f"what the masks need to know of the database cannot be read: {failed or 'columns'}",
            )
        return rows


async def connect(buffers: Buffers, context: ssl.SSLContext, route: Route, limits: Limits) -> tuple[Channel, Sink]:
    """Dials the server, and asks it for TLS (55.2.10) where the route says so. Raises EnvironmentFailed."""
    channel, sink = Channel(buffers), Sink()
    channel.attach(sink)
    await dial(channel, route, limits)
    if not route.tls:
        return channel, sink
    try:
        channel.write(ssl_request())
        async with asyncio.timeout(limits.handshake_timeout):
            answer = await sink.mailbox.raw(1)
        if answer != b"S":
            raise EnvironmentFailed(
                "upstream-tls", f"{route.host} port {route.port} does not offer TLS, and the policy does not do without"
            )
        if not sink.mailbox.empty:  # whoever is between us and the server may have put it there
            raise EnvironmentFailed(
                "upstream-tls", f"{route.host} port {route.port} sends more than its answer before TLS"
            )
        channel.begin_tls(context, server_hostname=literal_of(route.host) or route.host)
        await secure(channel, route, limits)
    except TimeoutError:
        channel.abort()
        raise EnvironmentFailed("upstream-timeout", f"{route.host} port {route.port} does not answer") from None
    except PeerError as error:
        channel.abort()
        raise EnvironmentFailed("upstream-tls", f"{route.host} port {route.port}: {error}") from None
    except BaseException:
        channel.abort()
        raise
    return channel, sink


async def log_in(channel: Channel, sink: Sink, login: Login, timeout: float) -> Server:
    """From the startup packet to ReadyForQuery. Raises Refused, EnvironmentFailed, PeerError("upstream-…"); the channel
    is the caller's to end."""
    server = Server(channel, sink)
    sink.mailbox.begin_messages()
    channel.write(startup(0, login.parameters))
    try:
        async with asyncio.timeout(timeout):
            await _authenticate(server, login)
            await _until_ready(server)
    except TimeoutError:
        raise EnvironmentFailed(
            "upstream-timeout", f"the server did not finish its login within {timeout:g} s"
        ) from None
    except PeerError as error:
        raise error if error.code.startswith("upstream") else PeerError("upstream-postgres", str(error)) from None
    return server


async def _authenticate(server: Server, login: Login) -> None:
    """PostgreSQL documentation 55.2.1 and 55.3."""
    channel = server.channel
    client: ScramClient | None = None
    awaited = m.AUTH_OK  # of SCRAM's messages, the one that comes next
    asked = False
    while True:
        message = await server.sink.mailbox.message()
        if message.kind == m.ERROR:
            raise Refused(message.raw)
        if message.kind == m.NOTICE:
            server.greet(message.raw)
            continue
        if message.kind == m.NEGOTIATE_PROTOCOL_VERSION:
            continue  # we ask for 3.0 and no options
        if message.kind != m.AUTHENTICATION:
            raise PeerError("upstream-postgres", "the server does not begin with a login")
        request = read.authentication(message.body)
        if request.kind == m.AUTH_OK:
            if client is not None and not client.proved:
                raise PeerError("upstream-postgres", "the server skips its proof that it knows the password")
            if not asked and login.password is not None and "none" not in login.accepted:
                raise EnvironmentFailed(
                    "upstream-login", "the server asks for no password, which upstream_login does not name"
                )
            return
        if client is not None and request.kind == awaited:
            if awaited == m.AUTH_SASL_CONTINUE:
                if client.takes_long(request.data):
                    reply = await asyncio.get_running_loop().run_in_executor(_DERIVING, client.reply, request.data)
                else:
                    reply = client.reply(request.data)
                channel.write(write.sasl_response(reply))
                awaited = m.AUTH_SASL_FINAL
            else:
                client.check(request.data)
                awaited = m.AUTH_OK
            continue
        if asked:
            raise PeerError("upstream-postgres", "the server asks for the password twice, or in another order")
        asked = True
        password = login.password
        if password is None:
            raise EnvironmentFailed(
                "upstream-login",
                "the server asks for a password, and no secret of this destination is one for this user",
            )
        if request.kind == m.AUTH_SASL:
            certificate = channel.tls.getpeercert(True) if channel.tls is not None else None
            binding = end_point(certificate) if certificate else b""
            choice = choose(request.mechanisms, login.accepted, binding)
            client = ScramClient(choice, password, login.salted, nonce_of(os.urandom(LEAST_NONCE)))
            channel.write(write.sasl_initial(choice.mechanism, client.first()))
            awaited = m.AUTH_SASL_CONTINUE
        elif request.kind == m.AUTH_MD5 and "md5" in login.accepted:
            response = md5_response(login.user.encode(), password.reveal(), request.data)
            channel.write(write.password(response))
        elif request.kind == m.AUTH_CLEARTEXT and "password" in login.accepted and channel.tls is not None:
            channel.write(write.password(password.reveal()))
        else:
            raise EnvironmentFailed(
                "upstream-login",
                f"the server asks for {_METHODS.get(request.kind, 'another login')}, which upstream_login does not name"
                + ("" if channel.tls else ", or which needs TLS"),
            )


_METHODS = {m.AUTH_MD5: "an MD5 password", m.AUTH_CLEARTEXT: "the password in clear text", m.AUTH_GSS: "GSSAPI"}


async def _until_ready(server: Server) -> None:
    while True:
        message = await server.sink.mailbox.message()
        if message.kind == m.ERROR:
            raise Refused(message.raw)
        if message.kind == m.PARAMETER_STATUS:
            status = read.parameter_status(message.body)
            server.statuses[status.name] = status.value
            server.greet(message.raw)
        elif message.kind == m.BACKEND_KEY_DATA:
            key = read.backend_key_data(message.body)
            server.pid, server.key = key.pid, key.key
        elif message.kind == m.NOTICE:
            server.greet(message.raw)
        elif message.kind == m.READY:
            server.status = read.ready(message.body)
            return
        else:
            raise PeerError("upstream-postgres", "the server does not finish its login")


async def cancel(buffers: Buffers, context: ssl.SSLContext, route: Route, limits: Limits, pid: int, key: bytes) -> None:
    """Asks the server to stop what the session `pid` has under way (55.2.8). It answers nothing."""
    channel, sink = await connect(buffers, context, route, limits)
    channel.write(cancel_request(pid, key))
    try:
        async with asyncio.timeout(limits.connect_timeout):
            await sink.mailbox.raw(1)
    except (PeerError, TimeoutError):
        pass  # the end of the connection is all that comes
    finally:
        channel.close()
