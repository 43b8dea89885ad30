"""One intercepted connection: who, whereto, what policy said, and what is on the record of it."""

from __future__ import annotations

import time

from appliance.model.errors import Denied, EnvironmentFailed
from appliance.model.identity import Identity
from appliance.model.ids import FlowId
from appliance.model.placeholder import LeasedPlaceholder
from appliance.model.record import FlowClosed, FlowOpened
from appliance.model.verdict import Destination, Operation, Plan
from appliance.policy.decider import Decider
from appliance.policy.engine import Policy
from appliance.proxy.identities import RENEW_BEFORE, ProcessKey
from appliance.proxy.lease import CompiledLease
from appliance.proxy.leases import LeaseKey
from appliance.proxy.services import Services
from appliance.proxy.upstream import Route


class Flow:
    """Made once the process is identified and the destination is named. `plan` is of the policy in force then;
    `refresh` brings identity and plan up to date before an operation."""

    def __init__(
        self, services: Services, flow: FlowId, process: ProcessKey, identity: Identity, destination: Destination
    ) -> None:
        self.services = services
        self.id = flow
        self.process = process
        self.identity = identity
        self.destination = destination
        self._policy: Policy = services.policy.current
        self.plan: Plan = self._policy.plan(identity.claims, destination)
        self.decider: Decider = self._policy.decider(identity.claims, destination, self.plan)
        self._fresh_until = identity.claims.exp - RENEW_BEFORE
        self.operations = 0

    def is_fresh(self, now: float) -> bool:
        """Identity and plan can be used as they are."""
        return now < self._fresh_until and self._policy is self.services.policy.current

    async def refresh(self) -> None:
        """Renews the token near its end; plans anew after a reload. Raises Denied if policy no longer allows the
        destination, EnvironmentFailed if the vault is gone."""
        if self.is_fresh(time.time()):
            return
        self.identity = await self.services.identities.renewed(self.process, self.identity)
        self._fresh_until = self.identity.claims.exp - RENEW_BEFORE
        policy = self.services.policy.current
        if policy is not self._policy:
            self._policy = policy
            self.plan = policy.plan(self.identity.claims, self.destination)
            self.decider = policy.decider(self.identity.claims, self.destination, self.plan)
        self.check_plan()

    def check_plan(self) -> None:
        """Raises Denied unless the plan allows the destination."""
        if self.plan.decision != "allow":
            raise Denied(self.plan.rule, self.plan.reason or "policy does not allow this destination")

    async def lease(self, *, anew: bool = False) -> CompiledLease:
        """The secrets of the plan; `anew`: as the vault has them now. Raises what the vault raises."""
        if not self.plan.secrets:
            return self.services.leases.none()
        return await self.services.leases.get(self._lease_key, self.identity.token, anew=anew)

    async def redeem(self, placeholder: LeasedPlaceholder, operation: Operation | None = None) -> None:
        """Makes use of a placeholder; `operation`: the request that it is in. Raises Denied if it may not be used (any
        more)."""
        await self.services.leases.redeem(placeholder, self.identity.token, self._lease_key, operation)

    @property
    def _lease_key(self) -> LeaseKey:
        claims = self.identity.claims
        return LeaseKey(claims.job, claims.sub, self.plan.destination, self.destination.host, self.destination.port)

    @property
    def route(self) -> Route:
        claims = self.identity.claims
        return Route(
            claims.job,
            claims.sub,
            self.destination.host,
            self.destination.address,
            self.destination.port,
            self.plan.upstream_tls,
        )

    async def open(self, refusal: Denied | None) -> None:
        """Puts the flow on the record. Raises EnvironmentFailed("audit") if that fails: the flow must not go on."""
        claims = self.identity.claims
        written = await self.services.recorder.write(
            FlowOpened(
                time=time.time(),
                flow=self.id,
                job=claims.job,
                principal=claims.sub,
                jti=claims.jti,
                pid=claims.facts.pid,
                uid=claims.facts.uid,
                exe=claims.facts.exe,
                exe_sha256=claims.facts.exe_sha256,
                address=self.destination.address,
                port=self.destination.port,
                host=self.destination.host,
                protocol=self.destination.protocol,
                decision="deny" if refusal else "allow",
                rule=refusal.rule if refusal else self.plan.rule,
                reason=refusal.reason if refusal else "",
            )
        )
        if not written:
            raise EnvironmentFailed("audit", "the audit record cannot be written, so nothing is let through")

    def close(self, *, sent: int, received: int, end: str) -> None:
        """Once, for a flow that was opened."""
        self.services.tally.flow_closed(end, sent, received)
        self.services.recorder.put(
            FlowClosed(
                time=time.time(), flow=self.id, sent=sent, received=received, operations=self.operations, end=end
            )
        )
