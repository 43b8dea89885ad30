"""The secrets of one job at one destination, for a few seconds: compiled to swap and to scrub.

A lease is what the proxy holds of the vault. It names only the job's own placeholders, is asked for again when its
few seconds are over, and is dropped when no flow asks for it any more. A lease that cannot be had stops the
request: without it nothing could be scrubbed from the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import NamedTuple

from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Lease, LeaseAsk, PlaceholderState, UseAsk
from appliance.model.errors import Denied
from appliance.model.ids import DestinationName, JobId, SecretName
from appliance.model.placeholder import LeasedPlaceholder, LeasedSecret
from appliance.model.recurring import Recurring
from appliance.model.secret import Secret
from appliance.model.verdict import Operation
from appliance.placeholders.handshakes import Salted
from appliance.placeholders.scrub import Scrubber
from appliance.placeholders.slots import StrayWatcher, Swapper
from appliance.session.http import Prepared, prepare
from appliance.wire.http1 import RequestHead


class LeaseKey(NamedTuple):
    """What a lease is for."""

    job: JobId
    principal: str
    destination: DestinationName
    host: str
    port: int


_UNKNOWN_LIFE = 5.0  # seconds that "this value is nobody's placeholder" is believed
_UNKNOWN_MOST = 4096
_STATE_WORDS = {
    "expired": "this placeholder's life is over",
    "used-up": "this placeholder's uses are used up",
    "revoked": "this placeholder was revoked",
}


_PREPARED_MOST = 256  # field sections
_PREPARED_LARGEST = 4096  # bytes of one


class CompiledLease:
    """What a flow works with."""

    __slots__ = ("_prepared", "_salted", "expires", "scrubber", "secrets", "swapper")

    def __init__(self, secrets: tuple[LeasedSecret, ...], expires: float) -> None:
        self.secrets = secrets
        self.expires = expires
        self.swapper = Swapper(secrets)
        self.scrubber = Scrubber([(s.value, _stand_in(s)) for s in secrets if s.placeholders])
        self._salted: Salted | None = None
        self._prepared: Recurring[tuple[bytes, int, bool], Prepared] = Recurring(_PREPARED_MOST)

    def prepared(self, head: RequestHead, default_port: int, allow_range: bool) -> Prepared:
        """The head's fields with the secrets in their slots; of those that recur it is remembered, as long as the lease
        lasts. Raises PeerError."""
        key = (head.raw, default_port, allow_range)
        known = self._prepared.get(key)
        if known is None:
            known = prepare(
                head, self.swapper, scrubbed=self.scrubber.active, allow_range=allow_range, default_port=default_port
            )
            if head.version and len(head.raw) <= _PREPARED_LARGEST:
                self._prepared.put(key, known)
        return known

    @property
    def salted(self) -> Salted:
        """The keys that logins with these secrets have cost."""
        if self._salted is None:
            self._salted = Salted(os.urandom(16))
        return self._salted

    def watcher(self) -> StrayWatcher:
        """Watches one body for placeholders."""
        return self.swapper.watcher()

    def same_secrets(self, secrets: tuple[LeasedSecret, ...]) -> bool:
        return len(secrets) == len(self.secrets) and all(
            old.name == new.name
            and old.value == new.value
            and old.slots == new.slots
            and old.placeholders == new.placeholders
            for old, new in zip(self.secrets, secrets, strict=True)
        )


def _stand_in(secret: LeasedSecret) -> str:
    """What takes the value's place in what comes back: the job's own placeholder. A value that has changed may be
    longer or shorter than the one that it was made for (cloud tokens are, at each issue): then it is repeated, or cut.
    """
    text, length = secret.placeholders[0].text, len(secret.value.reveal())
    return text if len(text) == length else (text * (length // len(text) + 1))[:length]


_NONE = CompiledLease((), float("inf"))


class Leases:
    def __init__(self, vault: IpcClient) -> None:
        self._vault = vault
        self._held: dict[LeaseKey, CompiledLease] = {}
        self._asking: dict[LeaseKey, asyncio.Task[CompiledLease]] = {}
        self._unknown: OrderedDict[tuple[JobId, bytes], float] = OrderedDict()

    def none(self) -> CompiledLease:
        """The lease of a plan that names no secret."""
        return _NONE

    async def get(self, key: LeaseKey, token: str, *, anew: bool = False) -> CompiledLease:
        """A lease with some of its life left; `anew`: not one that was asked for before this call. Raises what the
        vault raises: nothing is forwarded then."""
        held = self._held.get(key)
        if anew:
            self._asking.pop(key, None)
        elif held is not None and held.expires > time.time():
            return held
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(self._ask(key, token))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asking.get(key) is done and self._asking.pop(key))
        return await asyncio.shield(task)

    async def _ask(self, key: LeaseKey, token: str) -> CompiledLease:
        ask = LeaseAsk(token=token, destination=key.destination, host=key.host, port=key.port)
        try:
            lease: Lease = await self._vault.call("lease", ask, result=Lease, timeout=30.0)
        except BaseException:
            self._held.pop(key, None)
            raise
        secrets = tuple(LeasedSecret(s.name, Secret(s.value), s.slots, s.placeholders) for s in lease.secrets)
        held = self._held.get(key)
        if held is not None and held.same_secrets(secrets):
            held.expires = lease.expires
            return held
        compiled = CompiledLease(secrets, lease.expires)
        self._held[key] = compiled
        return compiled

    async def redeem(
        self, placeholder: LeasedPlaceholder, token: str, key: LeaseKey, operation: Operation | None
    ) -> None:
        """Makes use of a placeholder: refuses an expired one; a counted or narrowed one is the vault's to judge,
        which counts exactly. Raises Denied."""
        if placeholder.expires <= time.time():
            raise Denied("placeholder-expired", _STATE_WORDS["expired"])
        if placeholder.counted:
            digest = hashlib.sha256(placeholder.text.encode("ascii")).digest()
            await self._vault.call(
                "use",
                UseAsk(
                    token,
                    digest,
                    key.destination,
                    key.host,
                    operation.method if operation is not None else "",
                    operation.path if operation is not None else "",
                ),
            )

    async def check_candidates(
        self, job: JobId, candidates: Sequence[bytes], secrets: Container[SecretName] = ()
    ) -> bool:
        """Refuses values in a slot that are somebody else's placeholder, or a dead one. Raises Denied. Answers whether
        one is the job's own, live, of one of `secrets`: minted since the lease was asked for."""
        now = time.time()
        minted = False
        for value in candidates:
            digest = hashlib.sha256(value).digest()
            if self._unknown.get((job, digest), 0.0) > now:
                continue
            state: PlaceholderState = await self._vault.call("whose", digest, result=PlaceholderState)
            if state.state == "unknown":
                self._unknown[(job, digest)] = now + _UNKNOWN_LIFE
                while len(self._unknown) > _UNKNOWN_MOST:
                    self._unknown.popitem(last=False)
            elif state.job != job:
                raise Denied("placeholder-foreign", "this placeholder was given to another job")
            elif state.state != "live":
                raise Denied(f"placeholder-{state.state}", _STATE_WORDS[state.state])
            elif state.secret in secrets:
                minted = True
        return minted

    def sweep(self) -> None:
        """Drops leases that ran out and were not asked for again; called about once a second."""
        now = time.time()
        for key in [key for key, lease in self._held.items() if lease.expires <= now]:
            del self._held[key]

    def forget_job(self, job: JobId) -> None:
        for key in [key for key in self._held if key.job == job]:
            del self._held[key]
