"""The methods of control.sock, for the three other processes."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Raw

from appliance.audit.committer import Committer
from appliance.audit.intake import Intake, Process
from appliance.config.places import Accounts
from appliance.control.flows import Flows
from appliance.control.policy_files import PolicyFiles
from appliance.ipc.messages import PolicyBundle, WorkerMetrics
from appliance.ipc.server import IpcServer, Peer
from appliance.metrics import names
from appliance.metrics.merge import Merged
from appliance.metrics.tally import Tally
from appliance.model.errors import CoatcheckError

POLL = 20.0  # seconds that a long poll waits at most


class ControlService:
    """`clock` only goes forward, in seconds."""

    def __init__(
        self,
        accounts: Accounts,
        committer: Committer,
        flows: Flows,
        policy: PolicyFiles,
        merged: Merged,
        tally: Tally,
        clock: Callable[[], float],
    ) -> None:
        self._processes: dict[int, Process] = {
            accounts.kernel: "kernel",
            accounts.vault: "vault",
            accounts.proxy: "proxy",
        }
        self._intakes = {uid: Intake(process) for uid, process in self._processes.items()}
        self._proxy = accounts.proxy
        self._committer = committer
        self._flows = flows
        self._policy = policy
        self._merged = merged
        self._clock = clock
        self._refused = {uid: tally.counter(names.AUDIT_REFUSED, name) for uid, name in self._processes.items()}

    def register(self, server: IpcServer) -> None:
        everyone = frozenset(self._processes)
        server.prompt("append", Raw, self.append, everyone)
        server.method("policy", str, self.policy, frozenset({self._proxy}))
        server.method("metrics", WorkerMetrics, self.metrics, everyone)

    def append(self, peer: Peer, batch: Raw) -> int:
        """Writes a batch of records (as `Intake.read` takes it), whole, and answers the last one's sequence.

        Raises PeerError or Denied if one is not the peer's to write, EnvironmentFailed("audit") if the log cannot be
        written; nothing of the batch is written then.
        """
        try:
            records, payloads = self._intakes[peer.uid].read(batch)
        except CoatcheckError:
            self._refused[peer.uid].value += 1
            raise
        last = self._committer.append(payloads)
        self._flows.observe(records)
        return last

    async def policy(self, _peer: Peer, known: str) -> PolicyBundle:
        """The policy in force: at once if it is not the version `known`, else when it changes or after `POLL`."""
        return await self._policy.newer_than(known, POLL)

    async def metrics(self, peer: Peer, pushed: WorkerMetrics) -> None:
        self._merged.push(self._processes[peer.uid], pushed, self._clock())
