"""Jobs that are not started by us, and ends that do not go smoothly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import uvloop

from appliance.ipc.messages import JobInfo
from appliance.model.errors import EnvironmentFailed
from appliance.model.ids import JobId
from tests.control.rig import Rig, rigged

GOVERNED = JobInfo(JobId("j-0000000000000007"), "runner", -1, "/system.slice/actions.runner.x.service", 7, False, True)
MANAGED = JobInfo(JobId("j-0000000000000008"), "agent", 1000, "/coatcheck.slice/j-0000000000000008", 8, True, True)


async def settled(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def kinds(rig: Rig) -> list[str]:
    return [json.loads(line)["record"]["type"] for line in rig.audit().splitlines()][1:]


def test_a_governed_cgroup_becomes_a_job_and_ends_when_it_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            rig.kernel.happen("appeared", GOVERNED)
            await settled(rig.jobs.views)
            view = rig.jobs.views()[0]
            assert (view.job, view.label, view.uid, view.managed, view.secrets) == (
                GOVERNED.job, "runner", -1, False, ("demo",),
            )  # fmt: skip
            rig.kernel.happen("emptied", GOVERNED)  # the service is between two jobs
            rig.kernel.happen("appeared", GOVERNED)
            await asyncio.sleep(0.05)
            assert len(rig.jobs.views()) == 1
            rig.kernel.happen("gone", GOVERNED)
            await settled(lambda: not rig.jobs.views())
            assert rig.kernel.ended == []  # not ours to end
            assert rig.vault.forgotten == [GOVERNED.job]
            assert kinds(rig) == ["job.started", "job.ended"]

    uvloop.run(main())


def test_after_a_restart_jobs_are_taken_over_and_end_when_empty(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path, watch=False) as rig:
            rig.kernel.made = {MANAGED.job: MANAGED, GOVERNED.job: GOVERNED}
            watching = asyncio.create_task(rig.jobs.watch())
            await settled(lambda: len(rig.jobs.views()) == 2)
            assert [ask.job for ask in rig.vault.granted] == [GOVERNED.job]  # the other one has its placeholders
            rig.kernel.happen("emptied", MANAGED)
            await settled(lambda: len(rig.jobs.views()) == 1)
            assert rig.kernel.ended == [MANAGED.job]
            watching.cancel()

    uvloop.run(main())


def test_an_end_is_insisted_on(tmp_path: Path, monkeypatch: object) -> None:
    import appliance.control.jobs as module

    async def main() -> None:
        async with rigged(tmp_path, watch=False) as rig:
            rig.kernel.made = {MANAGED.job: MANAGED}
            watching = asyncio.create_task(rig.jobs.watch())
            await settled(rig.jobs.views)
            rig.kernel.fail["job_end"] = EnvironmentFailed("cgroup", "it cannot be emptied")
            rig.vault.fail["forget_job"] = EnvironmentFailed("vault-state", "the disk is full")
            rig.kernel.happen("emptied", MANAGED)
            await settled(lambda: rig.troubles)
            assert rig.jobs.views()[0].state == "ending"
            del rig.kernel.fail["job_end"]
            await settled(lambda: rig.kernel.ended)
            assert rig.vault.forgotten == []
            del rig.vault.fail["forget_job"]
            await settled(lambda: not rig.jobs.views())
            assert rig.vault.forgotten == [MANAGED.job]
            assert kinds(rig) == ["job.ended"]
            watching.cancel()

    module._RETRY = 0.02
    try:
        uvloop.run(main())
    finally:
        module._RETRY = 1.0


def test_a_kernel_process_that_comes_back_is_asked_what_there_is(tmp_path: Path) -> None:
    import appliance.control.jobs as module

    async def main() -> None:
        async with rigged(tmp_path, watch=False) as rig:
            rig.kernel.made = {GOVERNED.job: GOVERNED, MANAGED.job: MANAGED}
            watching = asyncio.create_task(rig.jobs.watch())
            await settled(lambda: len(rig.jobs.views()) == 2)
            rig.kernel.fail["next_events"] = EnvironmentFailed("x", "away")
            del rig.kernel.made[MANAGED.job]
            await settled(lambda: rig.troubles)
            del rig.kernel.fail["next_events"]
            await settled(lambda: [view.job for view in rig.jobs.views()] == [GOVERNED.job])
            watching.cancel()

    module._RETRY = 0.02
    try:
        uvloop.run(main())
    finally:
        module._RETRY = 1.0
