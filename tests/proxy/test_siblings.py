"""Workers tell each other what they answered and which session is to be cancelled; one of another job is not."""

from __future__ import annotations

import asyncio

from appliance.daemon.proxy import is_for, sibling_sockets
from appliance.model.ids import JobId
from appliance.proxy.answers import Answers
from appliance.proxy.postgres_cancels import Cancel, Cancels
from appliance.proxy.siblings import ADDRESSES, CancelAsked, NameAnswered, Siblings, Told


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
    async def run() -> list[list[Told]]:
        siblings = _siblings(3)
        heard: list[list[Told]] = [[], [], []]
        for each, found in zip(siblings, heard, strict=True):
            each.listen(found.append)
        for sock in siblings[2]._others:
            sock.send(b"\xff nonsense")
        siblings[0].tell(CancelAsked(JobId("j-1"), 7, b"key"))
        siblings[1].tell(other)
        while sum(map(len, heard)) < 4:
            await asyncio.sleep(0)
        for each in siblings:
            each.close()
        return heard

    one = CancelAsked(JobId("j-1"), 7, b"key")
    other = NameAnswered(JobId("j-2"), "n" * 253, (("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 2**31),) * ADDRESSES)
    assert asyncio.run(run()) == [[other], [one], [one, other]]


def test_a_sibling_that_does_not_read_holds_nobody_up() -> None:
    siblings = _siblings(2)
    for _ in range(10_000):
        siblings[0].tell(CancelAsked(JobId("j-1"), 7, b"key"))
    siblings[0].tell(CancelAsked(JobId("j-1"), 7, b"key" * 1000))


def test_what_was_told_counts_before_the_loop_comes_to_it() -> None:
    """The connection that follows an answer may be accepted by another worker in the very same turn of its loop."""

    async def run() -> None:
        near, far = _siblings(2)
        answers = Answers(lambda: 0.0, far.catch_up)

        def heard(told: Told) -> None:
            assert isinstance(told, NameAnswered)
            for address, ttl in told.addresses:
                answers.put(told.job, told.name, address, ttl)

        far.listen(heard)
        assert not answers.gave("j-1", "db.test", "192.0.2.1")
        near.tell(NameAnswered(JobId("j-1"), "db.test", (("192.0.2.1", 5),)))
        assert answers.names_of("j-1", "192.0.2.1") == ("db.test",)
        near.tell(NameAnswered(JobId("j-1"), "db.test", (("192.0.2.2", 5),)))
        assert answers.gave("j-1", "db.test", "192.0.2.2")
        assert answers.names_of("j-2", "192.0.2.1") == ()
        near.close()
        far.close()

    asyncio.run(run())


def test_one_whose_siblings_are_gone_does_not_spin() -> None:
    async def run() -> int:
        near, far = _siblings(2)
        turns = 0

        def heard(told: Told) -> None:
            nonlocal turns
            turns += 1

        far.listen(heard)
        near.close()
        for sock in far._others:
            sock.close()
        loop = asyncio.get_running_loop()
        for _ in range(10):
            await asyncio.sleep(0)
        left = loop.remove_reader(far._own.fileno()) if far._own is not None else True
        return turns + left

    assert asyncio.run(run()) == 0


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
