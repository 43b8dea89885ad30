"""What every flow of a worker shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from appliance.config.schema import Config
from appliance.policy.engine import Policy
from appliance.proxy.certificates import Leaves
from appliance.proxy.channel import Buffers
from appliance.proxy.forwarder import Forwarder
from appliance.proxy.identities import Identities
from appliance.proxy.leases import Leases
from appliance.proxy.recorder import Recorder
from appliance.proxy.siblings import NameAnswered, Siblings, Told
from appliance.proxy.tally import ProxyTally
from appliance.proxy.upstream import Upstreams
from appliance.wire.http1 import Sections

if TYPE_CHECKING:
    from appliance.proxy.postgres_services import PostgresServices


class PolicyInForce:
    """The policy that new decisions are made by. Replaced whole, never changed."""

    def __init__(self, policy: Policy) -> None:
        self.current = policy


@dataclass(frozen=True)
class Services:
    config: Config
    buffers: Buffers
    policy: PolicyInForce
    identities: Identities
    leases: Leases
    leaves: Leaves
    upstreams: Upstreams
    names: Forwarder
    recorder: Recorder
    tally: ProxyTally
    sections: Sections
    siblings: Siblings

    @cached_property
    def postgres(self) -> PostgresServices:
        """Made, and its modules loaded, for the first PostgreSQL flow: SQL's parser is 10 MB that others save."""
        from appliance.proxy.postgres_services import PostgresServices

        return PostgresServices(self.config.tls, self.config.limits.kept_per_job)

    def heard(self, told: Told) -> None:
        """Of a sibling. A worker that has no PostgreSQL flows has none to cancel."""
        if isinstance(told, NameAnswered):
            self.names.heard(told)
        elif "postgres" in self.__dict__:
            self.postgres.cancels.request(told.job, told.pid, told.key)
