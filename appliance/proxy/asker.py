"""Who asks DNS, whether they may, and the record of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from appliance.attest.flowmap import FlowMap
from appliance.attest.seen import Address, seen
from appliance.model.errors import CoatcheckError
from appliance.model.identity import Identity
from appliance.model.record import NameAsked
from appliance.proxy.forwarder import Ruling
from appliance.proxy.identities import Identities
from appliance.proxy.recorder import Recorder
from appliance.proxy.services import PolicyInForce
from appliance.proxy.tally import ProxyTally


class Askers:
    """The forwarder's three questions."""

    def __init__(
        self,
        flow_map: FlowMap,
        netns: int,
        identities: Identities,
        policy: PolicyInForce,
        recorder: Recorder,
        tally: ProxyTally,
    ) -> None:
        self._flow_map = flow_map
        self._netns = netns
        self._identities = identities
        self._policy = policy
        self._recorder = recorder
        self._tally = tally

    async def judge(self, peer: Address, local: Address) -> Identity | None:
        """Whose datagram this is; None: nobody's whom we know, so it is not answered."""
        try:
            found = seen(self._flow_map, self._netns, peer, local, socket.IPPROTO_UDP)
            if found is None or not found.task_job or found.task_job != found.socket_job:
                return None
            return await self._identities.identify(found.process_key, found.question)
        except CoatcheckError as error:
            self._tally.failed(error)
            return None

    def allowed(self, identity: Identity, name: str) -> Ruling:
        verdict = self._policy.current.name_allowed(identity.claims, name)
        return Ruling(verdict.decision == "allow", verdict.rule, verdict.reason)

    async def record(self, identity: Identity, name: str, kind: str, ruling: Ruling, addresses: Sequence[str]) -> bool:
        """Before anybody is asked: False means that it could not be written, and nobody is."""
        decision = "allow" if ruling.allowed else "deny"
        self._tally.name_asked(decision)
        claims = identity.claims
        return await self._recorder.write(
            NameAsked(
                time=time.time(),
                job=claims.job,
                principal=claims.sub,
                pid=claims.facts.pid,
                name=name,
                kind=kind,
                decision=decision,
                rule=ruling.rule,
                addresses=tuple(addresses),
            )
        )
