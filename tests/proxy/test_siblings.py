"""Workers tell each other which session is to be cancelled; a session of another job is not."""

from __future__ import annotations

import asyncio

from appliance.daemon.proxy import is_for, sibling_sockets
from appliance.model.ids import JobId
from appliance.proxy.postgres_cancels import Cancel, Cancels
from appliance.proxy.siblings import CancelAsked, Siblings


def _siblings(count: int) -> list[Siblings]:
    """As `count` processes would have them: each with descriptors of its own."""
    sockets = sibling_sockets(count)
    made = []
    for worker in range(count):
        mine = {name: sock.dup() for name, sock in sockets.items() if is_for(name, worker)}
        for sock in mine.values():
            sock.setblocking(False)
        made.append(Siblings(mine.pop(f"from-siblings-{worker}"), list(mine.values())))
    for sock in sockets.values():
        sock.close()
    return made


def test_every_other_worker_hears_it_once_and_bad_ones_are_passed_over() -> None:
    async def run() -> list[list[CancelAsked]]:
        siblings = _siblings(3)
        heard: list[list[CancelAsked]] = [[], [], []]
        for each, found in zip(siblings, heard, strict=True):
            each.listen(found.append)
        for sock in siblings[2]._others:
            sock.send(b"\xff nonsense")
        siblings[0].tell(CancelAsked(JobId("j-1"), 7, b"key"))
        siblings[1].tell(CancelAsked(JobId("j-2"), 8, b"k" * 256))
        while sum(map(len, heard)) < 4:
            await asyncio.sleep(0)
        for each in siblings:
            each.close()
        return heard

    one, other = CancelAsked(JobId("j-1"), 7, b"key"), CancelAsked(JobId("j-2"), 8, b"k" * 256)
    assert asyncio.run(run()) == [[other], [one], [one, other]]


def test_a_sibling_that_does_not_read_holds_nobody_up() -> None:
    siblings = _siblings(2)
    for _ in range(10_000):
        siblings[0].tell(CancelAsked(JobId("j-1"), 7, b"key"))
    siblings[0].tell(CancelAsked(JobId("j-1"), 7, b"key" * 1000))


def test_the_only_worker_has_none() -> None:
    assert sibling_sockets(1) == {}
    Siblings().tell(CancelAsked(JobId("j-1"), 7, b"key"))


def test_only_the_job_that_owns_a_session_may_cancel_it() -> None:
    stopped: list[int] = []
    cancels = Cancels()
    cancel = Cancel(JobId("j-1"), 4711, 32, lambda: stopped.append(1))
    cancels.add(cancel)
    assert cancels.request(JobId("j-2"), cancel.pid, cancel.key)
    assert not cancels.request(JobId("j-1"), cancel.pid, b"guessed")
    assert not cancels.request(JobId("j-1"), cancel.pid + 1, cancel.key)
    assert stopped == []
    assert cancels.request(JobId("j-1"), cancel.pid, cancel.key)
    assert stopped == [1]
    cancels.forget(cancel)
    assert not cancels.request(JobId("j-1"), cancel.pid, cancel.key)
