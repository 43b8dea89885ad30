"""The methods of control.sock, for the three other processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.audit import intake
from appliance.audit.committer import Committer
from appliance.audit.pipes import RecordPipes
from appliance.config.places import Accounts
from appliance.control.flows import Flows
from appliance.control.policy_files import PolicyFiles
from appliance.ipc.messages import PolicyBundle, WorkerMetrics
from appliance.ipc.server import IpcServer, Peer
from appliance.metrics import names
from appliance.metrics.merge import Merged
from appliance.metrics.tally import Tally
from appliance.model.errors import PeerError
from appliance.model.record import Record

POLL = 20.0  # seconds that a long poll waits at most


class ControlService:
    """`clock` only goes forward, in seconds. `pipes`: the folder for the workers' pipes. `trouble` is told in words
    what is wrong with what they write. To be made within a loop."""

    def __init__(
        self,
        accounts: Accounts,
        committer: Committer,
        flows: Flows,
        policy: PolicyFiles,
        merged: Merged,
        tally: Tally,
        clock: Callable[[], float],
        pipes: Path,
        trouble: Callable[[str], None],
    ) -> None:
        self._processes: dict[int, names.Process] = {
            accounts.kernel: "kernel",
            accounts.vault: "vault",
            accounts.proxy: "proxy",
        }
        self._proxy = accounts.proxy
        self._committer = committer
        self._flows = flows
        self._policy = policy
        self._merged = merged
        self._clock = clock
        self._trouble = trouble
        self._refused = tally.counter(names.AUDIT_REFUSED)
        self._pipes = RecordPipes(pipes, self.write, committer.reserve, trouble)

    def start(self, server: IpcServer) -> None:
        """Writes what workers have handed over while control was away, and registers the methods. Raises
        EnvironmentFailed("audit")."""
        self._pipes.start()
        proxies = frozenset({self._proxy})
        server.method("records", None, self.records, proxies)
        server.method("policy", str, self.policy, proxies)
        server.method("metrics", WorkerMetrics, self.metrics, frozenset(self._processes))

    def stop(self) -> None:
        """Writes what the workers have handed over until now."""
        self._pipes.stop()

    async def records(self, _peer: Peer, _params: None) -> str:
        """The path of a pipe for the records of the worker that asks (appliance.ipc.record_pipe)."""
        return self._pipes.open()

    def write(self, batches: list[bytes]) -> None:
        """Writes the records of batches. What is none that a worker may write is left out, with all of its batch.

        Raises EnvironmentFailed("audit") if the log cannot be written; nothing is written then.
        """
        records: list[Record] = []
        payloads: list[bytes] = []
        for batch in batches:
            try:
                found, lines = intake.read(batch)
            except PeerError as error:
                self._refused.inc()
                self._trouble(str(error))
                continue
            records += found
            payloads += lines
        self._committer.append(payloads)
        self._flows.observe(records)

    async def policy(self, _peer: Peer, known: str) -> PolicyBundle:
        """The policy in force: at once if it is not the version `known`, else when it changes or after `POLL`."""
        return await self._policy.newer_than(known, POLL)

    async def metrics(self, peer: Peer, pushed: WorkerMetrics) -> None:
        self._merged.push(self._processes[peer.uid], pushed, self._clock())
