"""vault.sock: which method, with what parameters, for which account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from appliance.config.places import Accounts
from appliance.ipc.messages import (
    GrantAsk,
    Granted,
    Head,
    Leaf,
    Lease,
    LeaseAsk,
    MintAsk,
    PlaceholderState,
    SignedHead,
    UseAsk,
    VaultStatus,
)
from appliance.ipc.server import IpcServer, Peer
from appliance.metrics import names
from appliance.metrics.names import Metric
from appliance.metrics.tally import Tally
from appliance.model.errors import CoatcheckError, Denied, PeerError
from appliance.model.identity import Identity
from appliance.model.ids import JobId
from appliance.vault.authority import Authority
from appliance.vault.cloakroom import Cloakroom
from appliance.vault.heads import HeadSigner
from appliance.vault.issuer import Issuer
from appliance.vault.keys import Keys
from appliance.vault.placeholders import Registry

_DIGEST = 32  # bytes, SHA-256
T = TypeVar("T")


class Service:
    """`now` is seconds since the epoch."""

    def __init__(
        self,
        issuer: Issuer,
        cloakroom: Cloakroom,
        registry: Registry,
        authority: Authority,
        keys: Keys,
        heads: HeadSigner,
        tally: Tally,
        now: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._cloakroom = cloakroom
        self._registry = registry
        self._authority = authority
        self._keys = keys
        self._heads = heads
        self._tally = tally
        self._now = now

    def register(self, server: IpcServer, who: Accounts) -> None:
        """Puts every method on `server`, for the accounts that may call it."""
        proxy, control = frozenset({who.proxy}), frozenset({who.control})
        server.method("identify", bytes, self.identify, proxy)
        server.method("identify_pid", int, self.identify_pid, control)
        server.method("renew", str, self.renew, proxy)
        server.method("lease", LeaseAsk, self.lease, proxy)
        server.method("use", UseAsk, self.use, proxy)
        server.method("whose", bytes, self.whose, proxy)
        server.method("leaf", str, self.leaf, proxy)
        server.method("grant", GrantAsk, self.grant, control)
        server.method("mint", MintAsk, self.mint, control)
        server.method("forget_job", JobId, self.forget_job, control)
        server.method("jwks", None, self.jwks, control)
        server.method("sign_head", Head, self.sign_head, control)
        server.method("last_head", None, self.last_head, control)
        server.method("ca", None, self.ca, frozenset({who.control, who.kernel}))
        server.method("status", None, self.status, frozenset({who.control, who.kernel}))

    async def identify(self, peer: Peer, flow_key: bytes) -> Identity:
        return await self._counted(names.TOKENS, self._issuer.identify(flow_key))

    async def identify_pid(self, peer: Peer, pid: int) -> Identity:
        return await self._counted(names.TOKENS, self._issuer.identify_pid(pid))

    async def renew(self, peer: Peer, token: str) -> Identity:
        return await self._counted(names.TOKENS, self._issuer.renew(token))

    async def lease(self, peer: Peer, ask: LeaseAsk) -> Lease:
        return await self._counted(names.LEASES, self._cloakroom.lease(ask))

    async def use(self, peer: Peer, ask: UseAsk) -> None:
        _check_digest(ask.digest)
        await self._counted(names.USES, self._cloakroom.use(ask))

    async def whose(self, peer: Peer, digest: bytes) -> PlaceholderState:
        _check_digest(digest)
        return await self._cloakroom.whose(digest)

    async def leaf(self, peer: Peer, host: str) -> Leaf:
        leaf = self._authority.leaf(host)
        self._tally.counter(names.LEAVES_MINTED).value = self._authority.minted
        return leaf

    async def grant(self, peer: Peer, ask: GrantAsk) -> list[Granted]:
        return await self._cloakroom.grant(ask)

    async def mint(self, peer: Peer, ask: MintAsk) -> str:
        return await self._cloakroom.mint(ask)

    async def forget_job(self, peer: Peer, job: JobId) -> None:
        await self._cloakroom.forget_job(job)

    async def jwks(self, peer: Peer, nothing: None) -> dict[str, Any]:
        return self._keys.jwks()

    async def sign_head(self, peer: Peer, head: Head) -> SignedHead:
        return await self._heads.sign(head)

    async def last_head(self, peer: Peer, nothing: None) -> SignedHead | None:
        return self._heads.last

    async def ca(self, peer: Peer, nothing: None) -> str:
        return self._authority.pem()

    async def status(self, peer: Peer, nothing: None) -> VaultStatus:
        now = self._now()
        return VaultStatus(
            secrets={str(name): state for name, state in self._cloakroom.states().items()},
            jobs=len(self._registry.jobs(now + 1)),
            placeholders=self._registry.live(now),
            leaves=self._authority.leaves,
            ca_not_after=self._authority.not_after,
        )

    async def _counted(self, metric: Metric, answer: Awaitable[T]) -> T:
        try:
            result = await answer
        except CoatcheckError as error:
            word = error.rule if isinstance(error, Denied) else getattr(error, "code", "bug")
            self._tally.counter(metric, word).inc()
            raise
        self._tally.counter(metric, "ok").inc()
        return result


def _check_digest(digest: bytes) -> None:
    if len(digest) != _DIGEST:
        raise PeerError("digest", f"a digest has {_DIGEST} bytes")
