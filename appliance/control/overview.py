"""What all four processes say of themselves, in one answer; and the metrics that control adds to what was pushed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance import __version__
from appliance.audit.committer import Committer
from appliance.control.jobs import Jobs
from appliance.control.neighbours import Kernel, Vault
from appliance.control.policy_files import PolicyFiles
from appliance.ipc.messages import Family, KernelState, VaultStatus
from appliance.metrics import names
from appliance.metrics.merge import Merged
from appliance.metrics.names import Metric
from appliance.metrics.tally import Tally, family
from appliance.model.errors import CoatcheckError


class Overview:
    """`clock` only goes forward; `wall` is seconds since the epoch."""

    def __init__(
        self,
        kernel: Kernel,
        vault: Vault,
        jobs: Jobs,
        policy: PolicyFiles,
        committer: Committer,
        merged: Merged,
        tally: Tally,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._kernel = kernel
        self._vault = vault
        self._jobs = jobs
        self._policy = policy
        self._committer = committer
        self._merged = merged
        self._tally = tally
        self._clock = clock
        self._wall = wall
        self._started = wall()
        self._first = committer.log.tip.sequence

    async def status(self) -> dict[str, Any]:
        """Each part has "ok"; a part that cannot be asked says why in "error"."""
        now = self._clock()
        kernel, vault = await asyncio.gather(_part(self._kernel.state()), _part(self._vault.status()))
        if vault["ok"]:
            vault["ok"] = all(state == "ok" for state in vault["secrets"].values())
        alive = self._merged.alive(now)
        workers = {name: age for name, age in self._merged.workers(now).items() if name.startswith("proxy/")}
        audit = self._audit()
        policy = self._policy.status()
        parts = {
            "kernel": kernel,
            "vault": vault,
            "proxy": {"ok": alive.get("proxy", 0) > 0, "workers": alive.get("proxy", 0), "seconds_since": workers},
            "control": {"ok": True, "version": __version__, "started": self._started},
            "audit": audit,
            "policy": policy,
        }
        jobs = self._jobs.views()
        return {"ok": all(part["ok"] for part in parts.values()), **parts, "jobs": len(jobs)}

    def _audit(self) -> dict[str, Any]:
        log = self._committer.log
        return {
            "ok": not log.broken,
            "error": log.broken,
            "sequence": log.tip.sequence,
            "hash": log.tip.hash,
            "signed_through": self._committer.signed_through,
            "unsigned": self._committer.unsigned,
        }

    async def families(self) -> list[Family]:
        """Every metric there is now. A process that does not answer is left out, and its absence is the alarm."""
        counters, state, vault = await asyncio.gather(
            _or_none(self._kernel.counters()), _or_none(self._kernel.state()), _or_none(self._vault.status())
        )
        own = self._own()
        if counters is not None:
            own.append(family(names.HOOKS, {(name,): float(value) for name, value in sorted(counters.items())}))
        if state is not None:
            own.append(_one(names.FLOW_MAP, state.flows))
        if vault is not None:
            own.append(_one(names.LEAVES, vault.leaves))
            own.append(_one(names.PLACEHOLDERS, vault.placeholders))
            own.append(_one(names.CA_NOT_AFTER, vault.ca_not_after))
            own.append(family(names.SECRETS_OK, {(n,): float(s == "ok") for n, s in vault.secrets.items()}))
        now = self._clock()
        self._merged.push("control", self._tally.export(), now)
        merged = {f.name: f for f in self._merged.families(now)}
        for extra in own:
            merged[extra.name] = extra
        return [merged[name] for name in sorted(merged)]

    def _own(self) -> list[Family]:
        log = self._committer.log
        oldest = self._committer.oldest_unsigned
        jobs = self._jobs.views()
        managed = sum(job.managed for job in jobs)
        alive = self._merged.alive(self._clock())
        version = self._policy.version
        return [
            _one(names.AUDIT_RECORDS, log.tip.sequence - self._first),
            _one(names.AUDIT_FAILURES, self._committer.failed),
            _one(names.AUDIT_SEQUENCE, log.tip.sequence),
            _one(names.AUDIT_SIZE, log.size),
            _one(names.AUDIT_UNSIGNED, self._committer.unsigned),
            _one(names.AUDIT_LAG, max(0.0, self._wall() - oldest) if oldest else 0.0),
            _one(names.METRICS_REFUSED, self._merged.refused),
            family(names.JOBS, {("yes",): float(managed), ("no",): float(len(jobs) - managed)}),
            family(names.WORKERS, {(process,): float(count) for process, count in alive.items()}),
            family(names.POLICY_INFO, {(version,): 1.0} if version else {}),
        ]


def _one(metric: Metric, value: float) -> Family:
    return family(metric, {(): float(value)})


async def _part(ask: Awaitable[KernelState | VaultStatus]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.to_builtins(await ask)
    except CoatcheckError as error:
        return {"ok": False, "error": str(error)}
    return {"ok": True, **found}


async def _or_none(ask: Awaitable[Any]) -> Any:
    try:
        return await ask
    except CoatcheckError:
        return None
