"""A login takes one message after the other: who sends without end is given up, and nothing that came is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import PeerError
from appliance.proxy.mailbox import MOST, Mailbox
from appliance.wire.postgres import Frames, startup, write


def _open(mailbox: Mailbox) -> None:
    mailbox.put(startup(0, {"user": "app"}))
    asyncio.run(mailbox.start())


@given(st.lists(st.integers(1, 50), max_size=20))
def test_messages_come_out_as_they_went_in(cuts: list[int]) -> None:
    mailbox = Mailbox(Frames(False), "agent")
    _open(mailbox)
    data = b"".join(write.password(b"%d" % n) for n in range(20))
    for cut in cuts:
        mailbox.put(data[:cut])
        data = data[cut:]
    mailbox.put(data)

    async def all_of_them() -> list[bytes]:
        return [(await mailbox.message()).body for _ in range(20)]

    assert asyncio.run(all_of_them()) == [b"%d\0" % n for n in range(20)]
    assert mailbox.empty
    assert mailbox.rest() == []
    assert mailbox._size == 0


@pytest.mark.parametrize("size", [0, 60_000])
def test_a_flood_while_nobody_asks_is_not_kept(size: int) -> None:
    mailbox = Mailbox(Frames(False), "agent")
    _open(mailbox)
    message = write.password(b"x" * size)
    for _ in range(4 * MOST // (len(message) + 64)):
        mailbox.put(message)
    assert len(mailbox._inbox) * (len(message) + 64) <= MOST
    with pytest.raises(PeerError, match="more than it was asked for"):
        mailbox.rest()


def test_a_flood_before_the_first_packet_is_not_kept() -> None:
    mailbox = Mailbox(Frames(False), "agent")
    for _ in range(100):
        mailbox.put(bytes(65536))
    assert len(mailbox._raw) < 1 << 18


def test_what_breaks_the_protocol_during_the_login_ends_it_afterwards_too() -> None:
    mailbox = Mailbox(Frames(False), "agent")
    _open(mailbox)
    mailbox.put(write.query(b"select 1"))
    with pytest.raises(PeerError, match="before the login is over"):
        mailbox.rest()
