"""What a peer may do.

| who | may |
|---|---|
| a process inside a job, whoever's it is | whoami, and mint for its own job |
| root, members of the configured group | everything else |
| everybody | health, jwks |

A process that the kernel process cannot judge (it is away, or the facts cannot be had) is nobody in particular;
root still sees the status then, which says what is wrong.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from appliance.control.neighbours import Kernel
from appliance.control.peers import AdminPeer, has_exited
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed
from appliance.model.facts import ProcessFacts

_OUTSIDE = "no-job"  # the rule by which the kernel process says that a process is in no job


class Need(Enum):
    NOTHING = "nothing"
    JOB = "being inside a job"
    JOB_OR_OPERATOR = "being inside a job, root, or a member of the configured group"
    OPERATOR = "being root or a member of the configured group, outside a job"
    DIAGNOSIS = "being root or a member of the configured group, outside any job"


@dataclass(frozen=True)
class Standing:
    """`job`: the attested facts of a process inside a job, else None."""

    peer: AdminPeer
    job: ProcessFacts | None
    operator: bool


class Rights:
    def __init__(self, kernel: Kernel, group: int) -> None:
        self._kernel = kernel
        self._group = group

    async def standing(self, peer: AdminPeer | None, need: Need) -> Standing:
        """The peer's standing, if it meets `need`. Raises Denied otherwise."""
        if peer is None:
            raise Denied("peer", "the kernel does not say who opened this connection")
        if need is Need.NOTHING:
            return Standing(peer, None, False)
        member = peer.uid == 0 or self._group == peer.gid or self._group in peer.groups
        try:
            facts = await self._job_of(peer)
        except CoatcheckError as error:
            if need is Need.DIAGNOSIS and peer.uid == 0 and isinstance(error, EnvironmentFailed):
                return Standing(peer, None, True)
            raise
        standing = Standing(peer, facts, member and facts is None)
        met = {
            Need.JOB: facts is not None,
            Need.JOB_OR_OPERATOR: facts is not None or standing.operator,
            Need.OPERATOR: standing.operator,
            Need.DIAGNOSIS: standing.operator,
        }[need]
        if not met:
            where = f"inside the job {facts.job}" if facts is not None else "outside any job"
            raise Denied("rights", f"this needs {need.value}; you are uid {peer.uid}, {where}")
        return standing

    async def _job_of(self, peer: AdminPeer) -> ProcessFacts | None:
        """None: certainly in no job. Raises Denied or EnvironmentFailed if that is not certain.

        The pid was still the caller's own when it was judged: a connection whose maker has ended, held open by
        another process, would else have the rights of whoever was given that pid since.
        """
        if peer.pid <= 0:
            raise Denied("peer", "the process that opened this connection is in a pid namespace that is not seen here")
        pidfd = peer.pidfd()
        try:
            facts = await self._judge(peer.pid)
            if has_exited(pidfd):
                raise Denied("caller-gone", "the process that opened this connection has ended")
            return facts
        finally:
            os.close(pidfd)

    async def _judge(self, pid: int) -> ProcessFacts | None:
        try:
            return await self._kernel.attest_pid(pid)
        except Denied as error:
            if error.rule == _OUTSIDE:
                return None
            raise
