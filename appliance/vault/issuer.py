"""Identity tokens: from what the kernel process attests, by the workload rules, signed for five minutes.

The proxy names a flow by its key and nothing else: facts come from the kernel process alone, and a proxy that was
taken over can neither make them up nor sign.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence

from appliance.identity.tokens import sign, verify
from appliance.identity.workloads import CompiledWorkload, principal_of
from appliance.model.errors import Denied
from appliance.model.facts import ProcessFacts
from appliance.model.identity import Claims, Identity, Principal
from appliance.vault.kernel import Kernel
from appliance.vault.keys import Keys

TOKEN_LIFE = 300  # seconds
RENEWABLE = 60.0  # seconds after its end that a token can still be renewed
_REUSE_BEFORE = 120.0  # seconds of life that a token must have left to be given out again
_MOST = 8192  # tokens remembered


class Issuer:
    """`now` is seconds since the epoch."""

    def __init__(
        self,
        workloads: Sequence[CompiledWorkload],
        issuer: str,
        kernel: Kernel,
        keys: Keys,
        now: Callable[[], float],
    ) -> None:
        self._workloads = workloads
        self._issuer = issuer
        self._kernel = kernel
        self._keys = keys
        self._now = now
        self._issued: OrderedDict[ProcessFacts, Identity] = OrderedDict()
        self._known: OrderedDict[str, Claims] = OrderedDict()  # tokens whose signature is known to be ours

    async def identify(self, flow_key: bytes) -> Identity:
        """The identity of whoever made the flow. Raises Denied ("no-workload", or what the kernel process
        refuses), EnvironmentFailed."""
        return self._identity((await self._kernel.attest(flow_key)).facts)

    async def identify_pid(self, pid: int) -> Identity:
        """The identity of a process. Raises as `identify`."""
        return self._identity(await self._kernel.attest_pid(pid))

    async def renew(self, token: str) -> Identity:
        """The same identity with a later end. Raises Denied if the token is not ours, is over for more than
        `RENEWABLE`, or its job has ended."""
        claims = self.claims_of(token, leeway=RENEWABLE)
        if await self._kernel.job(claims.job) is None:
            raise Denied("job-ended", "the job of this token has ended")
        return self._identity(claims.facts)

    def claims_of(self, token: str, leeway: float = 0.0) -> Claims:
        """The claims of a token of ours, taken until `leeway` seconds after its end. Raises Denied."""
        now = self._now()
        known = self._known.get(token)
        if known is not None:
            if known.exp + leeway <= now:
                raise Denied("token-expired", f"the identity token ended {now - known.exp:.0f} s ago")
            self._known.move_to_end(token)
            return known
        claims = verify(token, self._keys.identity_public_keys(), self._issuer, now, leeway)
        self._remember(token, claims)
        return claims

    def _identity(self, facts: ProcessFacts) -> Identity:
        now = self._now()
        issued = self._issued.get(facts)
        if issued is not None and now + _REUSE_BEFORE < issued.claims.exp <= now + TOKEN_LIFE + 1:
            self._issued.move_to_end(facts)
            return issued
        claims = self._claims(principal_of(self._workloads, facts), facts, now)
        identity = Identity(sign(claims, self._keys.identity_key, self._keys.identity_key_id), claims)
        self._issued[facts] = identity
        self._issued.move_to_end(facts)
        while len(self._issued) > _MOST:
            self._issued.popitem(last=False)
        self._remember(identity.token, claims)
        return identity

    def _claims(self, principal: Principal, facts: ProcessFacts, now: float) -> Claims:
        return Claims(
            iss=self._issuer,
            sub=principal.name,
            groups=principal.groups,
            job=facts.job,
            facts=facts,
            iat=int(now),
            exp=int(now) + TOKEN_LIFE,
            jti=secrets.token_hex(16),
        )

    def _remember(self, token: str, claims: Claims) -> None:
        self._known[token] = claims
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
