"""SIGKILL of each process while a job makes requests: nothing gets past, all is on the record, it comes back."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.daemon.processes import NAMES, all_running, pids
from tests.e2e.spine import Spine
from tests.guard.client import Client, Traffic
from tests.kernel.governed import Eyes
from tests.world import OUTSIDE6
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine() as made:
        made.world.listener("outside", OUTSIDE6, 7777)  # nobody may reach it
        yield made


def until(client: Client, wanted: str, *words: str) -> list[str]:
    """Asks until the answer is `wanted`; all answers. Raises TimeoutError after 20 s."""
    end = time.monotonic() + 20
    seen: list[str] = []
    while not seen or seen[-1] != wanted:
        if time.monotonic() > end:
            raise TimeoutError(f"{words}: {seen}")
        seen.append(client.ask(*words))
    return seen


def verify(spine: Spine) -> None:
    """The log's chain is whole; asked again for as long as a process that was killed is not back yet."""
    end = time.monotonic() + 20
    while (done := spine.appliance.cli("audit", "verify")).returncode:
        assert "cannot be reached" in done.stderr, done
        assert time.monotonic() < end, done


@pytest.mark.parametrize("name", NAMES)
def test_killed_under_traffic(spine: Spine, name: str) -> None:
    """While it is away requests wait or fail; afterwards they are served; whatever the service got had been recorded
    as allowed before, with the credential and not the placeholder; the log's chain is whole."""
    appliance = spine.appliance
    client, prober = Client(spine), Client(spine)
    eyes = Eyes(spine.world)
    try:
        until(client, "200", "get", "/secret")
        before = pids(appliance)
        with Traffic(client) as traffic:
            for _ in range(2):
                prober.ask("try", OUTSIDE6, 7777)
            os.kill(before[name], signal.SIGKILL)
            probes = [prober.ask("try", OUTSIDE6, 7777) for _ in range(5)]
            after = all_running(appliance, but={name: before[name]})
            done = len(traffic.outcomes)
            while len(traffic.outcomes) < done + 5:
                time.sleep(0.01)
        until(client, "200", "get", "/secret")
        assert {other: after[other] for other in NAMES if other != name} == {
            other: before[other] for other in NAMES if other != name
        }
        assert not set(probes) & {"answered", "EOF"}
        assert [packet for packet in eyes.seen() if OUTSIDE6 in packet] == []
        received = spine.received()
        assert all(["Authorization", f"Bearer {TOKEN}"] in each["headers"] for each in received)
        allowed = [r for r in appliance.audit() if r["type"] == "operation.decided" and r["decision"] == "allow"]
        assert len(allowed) >= len(received)
        verify(spine)
    finally:
        eyes.close()
        client.end()
        prober.end()


def test_control_is_killed_again_and_again(spine: Spine) -> None:
    """Whatever the service got is in the log under its own path, also if control was away just then; what was refused
    meanwhile never got there; and everybody is served again without doing anything for it."""
    appliance = spine.appliance
    chance = random.Random(os.urandom(8))
    kinds = [("get", "/echo/get-{}"), ("keep", "/echo/keep-{}"), ("keep", "/echo/more-{}")]
    clients = [Client(spine) for _ in kinds]
    try:
        with ExitStack() as stack:
            traffic = [stack.enter_context(Traffic(client, *kind)) for client, kind in zip(clients, kinds, strict=True)]
            for _ in range(4):
                served_again(traffic)
                time.sleep(chance.random() * 0.2)
                control = pids(appliance)["control"]
                os.kill(control, signal.SIGKILL)
                all_running(appliance, but={"control": control})
            served_again(traffic)
        received = {each["path"] for each in spine.received()}
        decided = [r for r in appliance.audit() if r["type"] == "operation.decided"]
        allowed = {r["path"] for r in decided if r["decision"] == "allow"}
        ours = {path for path in received if path.startswith("/echo/")}
        assert len(ours) > 50
        assert ours - allowed == set()
        outcomes = {each.path(number): word for each in traffic for number, word in enumerate(each.outcomes)}
        assert {path for path, outcome in outcomes.items() if outcome == "200"} - received == set()
        refused = {path for path, outcome in outcomes.items() if outcome.startswith("503 ")}
        assert refused  # control was away
        assert refused & received == set()
        verify(spine)
    finally:
        for client in clients:
            client.end()


def served_again(traffic: list[Traffic]) -> None:
    """Each gets an answer to a request that it begins from now on. Raises TimeoutError after 20 s."""
    end = time.monotonic() + 20
    begun = [len(each.outcomes) + 1 for each in traffic]
    while not all("200" in each.outcomes[first:] for each, first in zip(traffic, begun, strict=True)):
        if time.monotonic() > end:
            raise TimeoutError(str([each.outcomes[first:] for each, first in zip(traffic, begun, strict=True)]))
        time.sleep(0.01)


def test_stopped_for_a_while(spine: Spine) -> None:
    """The hooks do not ask us: with all four stopped (SIGSTOP) nothing gets past either."""
    eyes = Eyes(spine.world)
    client = Client(spine)
    until(client, "200", "get", "/secret")
    eyes.seen()
    running = pids(spine.appliance)
    got = len(spine.received())
    try:
        for pid in running.values():
            os.kill(pid, signal.SIGSTOP)
        client.send("get", "/secret")
        time.sleep(0.5)
        assert len(spine.received()) == got
        assert eyes.seen() == []
    finally:
        for pid in running.values():
            os.kill(pid, signal.SIGCONT)
    assert client.answer() == "200"
    client.end()
    eyes.close()
