"""How an agent opens a PostgreSQL session: startup packet, and the proof that it holds a placeholder of its job's.

The agent's password never goes on. It shows which placeholder the agent holds; the secret that this stands for is what
the server is logged in to with.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from appliance.model.errors import Denied, PeerError
from appliance.model.placeholder import LeasedPlaceholder, LeasedSecret
from appliance.placeholders.handshakes import (
    LEAST_NONCE,
    SCRAM,
    ScramServer,
    check_cleartext,
    check_md5,
    nonce_of,
)
from appliance.proxy.channel import Channel
from appliance.proxy.lease import CompiledLease
from appliance.proxy.mailbox import Mailbox
from appliance.wire.postgres import messages as m
from appliance.wire.postgres import read, write

MINOR: Final = 2  # of protocol 3, the newest that we speak


class Candidate(NamedTuple):
    """What the agent may prove to hold."""

    placeholder: LeasedPlaceholder
    secret: LeasedSecret


def candidates_of(lease: CompiledLease, user: str) -> list[Candidate]:
    """The job's placeholders of secrets that are the password of `user`."""
    return [
        Candidate(placeholder, secret)
        for secret in lease.secrets
        if any(slot.kind == "postgres" and slot.name in ("", user) for slot in secret.slots)
        for placeholder in secret.placeholders
    ]


class AgentLogin:
    """`renew` asks for the candidates anew: one may have been minted since the lease was given. `whose` looks at a
    password that is none of them, and raises Denied with what it knows of it."""

    def __init__(
        self,
        mailbox: Mailbox,
        agent: Channel,
        user: str,
        candidates: list[Candidate],
        lease: CompiledLease,
        renew: Callable[[], Awaitable[list[Candidate]]],
        whose: Callable[[bytes], Awaitable[object]],
    ) -> None:
        self._mailbox = mailbox
        self._agent = agent
        self._user = user
        self._candidates = candidates
        self._lease = lease
        self._renew = renew
        self._whose = whose

    async def prove(self, method: str) -> Candidate:
        """Asks for the password by `method`, a plan's `login`. Raises Denied, PeerError."""
        if method == "md5":
            return await self._md5()
        if method == "password":
            return await self._cleartext()
        return await self._scram()

    async def _scram(self) -> Candidate:
        self._agent.write(write.authentication_sasl([SCRAM]))
        initial = read.sasl_initial(await self._answer())
        if initial.mechanism != SCRAM:
            raise PeerError("bad-scram", f"the agent chooses {initial.mechanism}, which was not offered")
        if initial.data is None:
            raise PeerError("bad-scram", "the agent does not begin with client-first-message")
        nonce = nonce_of(os.urandom(LEAST_NONCE))
        server = ScramServer(self._texts(), self._lease.salted, nonce)
        self._agent.write(write.authentication_sasl_continue(server.first(initial.data)))
        proof = await self._answer()
        try:
            index, final = server.final(proof)
        except Denied:
            self._candidates = await self._renew()
            index, final = server.again(self._texts())
        self._agent.write(write.authentication_sasl_final(final))
        return self._candidates[index]

    async def _md5(self) -> Candidate:
        salt = os.urandom(4)
        self._agent.write(write.authentication_md5(salt))
        response = read.password(await self._answer()).text
        user = self._user.encode()
        try:
            return self._candidates[check_md5(self._texts(), user, salt, response)]
        except Denied:
            self._candidates = await self._renew()
            return self._candidates[check_md5(self._texts(), user, salt, response)]

    async def _cleartext(self) -> Candidate:
        if self._agent.tls is None:
            raise Denied("login", "the password would come in clear text; connect with TLS (sslmode=require or better)")
        self._agent.write(write.authentication_cleartext())
        password = read.password(await self._answer()).text
        try:
            return self._candidates[check_cleartext(self._texts(), password)]
        except Denied:
            self._candidates = await self._renew()
        try:
            return self._candidates[check_cleartext(self._texts(), password)]
        except Denied:
            await self._whose(password)
            raise

    def _texts(self) -> list[bytes]:
        return [candidate.placeholder.text.encode("ascii") for candidate in self._candidates]

    async def _answer(self) -> bytes:
        message = await self._mailbox.message()
        if message.kind != m.PASSWORD:
            raise PeerError("postgres-state", "the agent was asked for its password and sends something else")
        return message.body
