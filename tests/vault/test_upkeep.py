"""What the vault does unasked: one round at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.config.places import Places
from appliance.config.schema import Config
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import GrantAsk, WorkerMetrics
from appliance.ipc.server import IpcServer, Peer
from appliance.vault import upkeep as module
from appliance.vault.authority import DAY
from appliance.vault.upkeep import Upkeep, report
from tests.vault.rig import CANARY, JOB, OTHER_JOB, Clock, FakeKernel, Vault, run, spec, vault_at


@asynccontextmanager
async def rounds(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Upkeep, Vault, FakeKernel, list[str]]]:
    """Upkeep over a vault; a round is over when the test lets the loop run."""
    monkeypatch.setenv("COATCHECK_TEST_CANARY", CANARY)
    told: list[str] = []
    places = Places(Config(run_dir=str(state.parent / "run"), state_dir=str(state.parent)))
    places.run.mkdir(mode=0o755, exist_ok=True)
    async with vault_at(state, clock, spec(cache=1000)) as (vault, _, kernel):
        upkeep = Upkeep(
            places, vault.authority, vault.cloakroom, vault.registry, vault.kernel, clock.now,
            lambda event, detail: told.append(f"{event}: {detail}"),
        )  # fmt: skip
        yield upkeep, vault, kernel, told


async def one_round(upkeep: Upkeep, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs until the round sleeps."""
    slept = asyncio.Event()

    async def sleep(_: float) -> None:
        slept.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    task = asyncio.ensure_future(upkeep.run(vault.tally))
    await slept.wait()
    task.cancel()
    monkeypatch.undo()


def test_jobs_that_ended_meanwhile_lose_their_placeholders(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with rounds(state, clock, monkeypatch) as (upkeep, vault, kernel, _):
            for job in (JOB, OTHER_JOB):
                await vault.cloakroom.grant(GrantAsk(job, "ci"))
            del kernel.alive[OTHER_JOB]
            await one_round(upkeep, vault, monkeypatch)
            assert set(vault.registry.jobs(clock.now() + 1)) == {JOB, OTHER_JOB}  # it may only be beginning
            clock.move(61)
            await one_round(upkeep, vault, monkeypatch)
            assert vault.registry.jobs(clock.now()) == [JOB]

    run(scenario)


def test_without_the_kernel_process_no_job_is_taken_for_ended(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with rounds(state, clock, monkeypatch) as (upkeep, vault, _k, told):
            await vault.cloakroom.grant(GrantAsk(JOB, "ci"))
            clock.move(61)
            (state.parent / "kernel.sock").unlink()
            await one_round(upkeep, vault, monkeypatch)
            assert vault.registry.jobs(clock.now()) == [JOB]
            assert any("kernel process cannot be reached" in line for line in told)
            await vault.registry.forget_job(JOB, clock.now())

    run(scenario)


def test_a_source_is_checked_and_told_of_once(state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with rounds(state, clock, monkeypatch) as (upkeep, vault, _k, told):
            monkeypatch.delenv("COATCHECK_TEST_CANARY")
            await one_round(upkeep, vault, monkeypatch)
            clock.move(1)
            await one_round(upkeep, vault, monkeypatch)
            lines = [line for line in told if line.startswith("secret: github")]
            assert len(lines) == 1
            assert "COATCHECK_TEST_CANARY: the vault process does not have it" in lines[0]

    monkeypatch.setenv("COATCHECK_TEST_CANARY", CANARY)
    run(scenario)


def test_the_authority_is_renewed_and_published(state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with rounds(state, clock, monkeypatch) as (upkeep, vault, _k, told):
            upkeep.publish()
            file = state.parent / "run" / "ca" / "coatcheck-ca.pem"
            first = file.read_text()
            stamp = file.stat().st_mtime_ns
            upkeep.publish()
            assert file.stat().st_mtime_ns == stamp  # nothing new, nothing written
            clock.seconds = vault.authority.not_after - 59 * DAY
            await one_round(upkeep, vault, monkeypatch)
            assert file.read_text() == vault.authority.pem()
            assert file.read_text().startswith(first)
            assert file.read_text().count("BEGIN") == 2
            assert any(line.startswith("authority: ") for line in told)

    run(scenario)


def test_metrics_go_to_control_and_its_absence_is_borne(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(module, "_REPORT", 0.01)
        got: asyncio.Queue[WorkerMetrics] = asyncio.Queue()

        async def metrics(peer: Peer, pushed: WorkerMetrics) -> None:
            got.put_nowait(pushed)

        async with rounds(state, clock, monkeypatch) as (_, vault, _k, _t):
            path = str(state.parent / "control.sock")
            task = asyncio.ensure_future(report(IpcClient("control", path, 0), vault.tally))
            await asyncio.sleep(0.03)
            server = IpcServer(lambda method, error: None)
            server.method("metrics", WorkerMetrics, metrics, frozenset({0}))
            await server.start(path)
            assert (await got.get()).worker == "vault"
            task.cancel()
            await server.stop()

    run(scenario)
