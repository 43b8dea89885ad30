"""WebSocket messages: scrubbed across fragments, whole at once, of the same length, in any chunking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import PeerError
from appliance.model.secret import Secret
from appliance.placeholders.scrub import Scrubber
from appliance.session.websocket import MessageScrubber

REAL = "ghp_RealCredential0fTheService4242424242"
FAKE = "ghp_placeholderplaceholderplaceholder123"
SCRUBBER = Scrubber([(Secret(REAL.encode()), FAKE)])


def frame(payload: bytes, opcode: int = 1, final: bool = True) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    elif size < 65536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes((opcode | (0x80 if final else 0),)) + length + payload


def scrubbed(data: bytes, cuts: list[int]) -> bytes:
    scrubber = MessageScrubber(SCRUBBER)
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(scrubber.feed(data[start:end]) for start, end in zip([0, *ends], ends, strict=False))


@given(st.integers(0, len(REAL)), st.integers(0, 300), st.lists(st.integers(0, 2000), max_size=6))
def test_a_secret_across_fragments_and_any_chunks_is_put_back(cut: int, before: int, cuts: list[int]) -> None:
    text = b"x" * before + REAL.encode() + b"y" * 70
    first, second = text[: before + cut], text[before + cut :]
    data = frame(first, final=False) + frame(b"are you there?", 9) + frame(second, 0) + frame(b"ping")
    expected = text.replace(REAL.encode(), FAKE.encode())
    out = scrubbed(data, cuts)
    assert len(out) == len(data)
    assert REAL.encode() not in out
    joined = out.replace(frame(b"are you there?", 9), b"")
    head = frame(first, final=False)[: -len(first) or None] if first else frame(b"", final=False)
    assert joined.startswith(head)
    payload = joined[len(head) :].replace(frame(second, 0)[: len(frame(second, 0)) - len(second)], b"", 1)
    assert payload == expected + frame(b"ping")


@given(st.binary(max_size=70000).filter(lambda data: b"\0" not in data), st.sampled_from((1, 2)))
def test_a_message_is_out_as_soon_as_it_is_complete(payload: bytes, opcode: int) -> None:
    assert MessageScrubber(SCRUBBER).feed(frame(payload, opcode)) == frame(payload, opcode)


@pytest.mark.parametrize("end", range(1, len(REAL)))
def test_nothing_is_held_back_after_a_message(end: int) -> None:
    data = frame(REAL[:end].encode())
    assert MessageScrubber(SCRUBBER).feed(data) == data


@pytest.mark.parametrize(
    "data",
    [
        frame(b"compressed", 0x41),
        b"\x81\x84maskping",
        frame(b"x" * 126, 9),
        frame(b"", 9, final=False),
        frame(b"nothing to continue", 0),
        frame(b"one", final=False) + frame(b"two"),
        b"\x81\x7f" + b"\xff" * 8,
        frame(b"g", final=False) + frame(b"", 9) * 2000,
    ],
)
def test_what_could_hide_something_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        MessageScrubber(SCRUBBER).feed(data)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_garbage_gives_only_a_peer_error(data: bytes, cuts: list[int]) -> None:
    try:
        out = scrubbed(data, cuts)
    except PeerError:
        return
    assert data.startswith(out[:2])
