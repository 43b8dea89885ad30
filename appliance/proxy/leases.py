"""The secrets of one job at one destination, for a few seconds: compiled to swap and to scrub.

A lease is what the proxy holds of the vault. It names only the job's own placeholders, is asked for again when its
few seconds are over, and is dropped when no flow asks for it any more. A lease that cannot be had stops the
request: without it nothing could be scrubbed from the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import NamedTuple

from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Lease, LeaseAsk, PlaceholderState, UseAsk
from appliance.model.errors import Denied
from appliance.model.ids import DestinationName, JobId, SecretName
from appliance.model.placeholder import LeasedPlaceholder, LeasedSecret
from appliance.model.secret import Secret
from appliance.model.verdict import Operation
from appliance.proxy.lease import CompiledLease


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
