"""A process is asked about once, whoever waits for the answer; a connection that has ended spoils it for no other."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from appliance.ipc.client import IpcClient
from appliance.model.errors import Denied
from appliance.model.identity import Claims, Identity
from appliance.model.ids import JobId, PrincipalName
from appliance.proxy.identities import Identities
from tests.identity.facts import facts

PROCESS = (1, 2, 3, 4, 5, 6, 7)


class Vault:
    """Answers by question: an Identity, or the error; each only when `answer` is set."""

    def __init__(self, answers: dict[bytes, Identity | Exception]) -> None:
        self.answers = answers
        self.asked: list[bytes] = []
        self.answer = asyncio.Event()

    async def call(self, method: str, params: Any, **_: Any) -> Identity:
        self.asked.append(params)
        await self.answer.wait()
        found = self.answers[params]
        if isinstance(found, Exception):
            raise found
        return found


def identity() -> Identity:
    now = int(time.time())
    made = Claims("coatcheck", PrincipalName("agent"), (), JobId("j-1"), facts(), now, now + 300, "jti")
    return Identity("token", made)


async def many(vault: Vault, questions: list[bytes]) -> list[Identity | BaseException]:
    known = Identities(cast(IpcClient, vault))  # all that it uses of a client
    tasks = [asyncio.ensure_future(known.identify(PROCESS, question)) for question in questions]
    await asyncio.sleep(0)
    vault.answer.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_one_question_for_all_that_wait() -> None:
    async def run() -> None:
        found = identity()
        vault = Vault({b"0": found})
        assert await many(vault, [b"0", b"1", b"2"]) == [found] * 3
        assert vault.asked == [b"0"]

    asyncio.run(run())


@pytest.mark.parametrize("ended", [1, 2])
def test_a_connection_that_ended_before_the_answer_says_nothing_of_the_others(ended: int) -> None:
    async def run() -> None:
        found = identity()
        gone = Denied("no-record", "it has ended")
        vault = Vault({b"%d" % i: gone if i < ended else found for i in range(6)})
        answers = await many(vault, [b"%d" % i for i in range(6)])
        assert all(answer is gone for answer in answers[:ended])
        assert answers[ended:] == [found] * (6 - ended)

    asyncio.run(run())


def test_any_other_refusal_is_everybodys() -> None:
    async def run() -> None:
        refused = Denied("no-workload", "nobody knows it")
        vault = Vault({b"0": refused})
        assert await many(vault, [b"0", b"1"]) == [refused, refused]
        assert vault.asked == [b"0"]

    asyncio.run(run())
