"""No form of a secret comes out, in any chunking; nothing else is touched; little is held back."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.secret import Secret
from appliance.placeholders.scrub import Scrubber
from tests.placeholders.looks import LOOKS, decoded, is_in

REAL = b"ghp_/c4n4ry'&<secret>\"0123456789/abcdefXYZ"
NEW = "ghp_/Q7kd1'&<Wm2nVa>\"9f3Kz0LpTe/uRb5cXhGyJ"
OTHER, OTHERS = b"4n4ry-other-0123456789abcdefghijklmnop", "kq1-Wm2nV-9f3Kz0LpTeuRb5cXhGyJaBcDeFgH"
SCRUBBER = Scrubber([(Secret(REAL), NEW), (Secret(OTHER), OTHERS)])
assert len(REAL) == len(NEW)
assert len(OTHER) == len(OTHERS)


def whole(data: bytes) -> bytes:
    return SCRUBBER.text(data)[0]


def chunked(chunks: list[bytes], scrubber: Scrubber = SCRUBBER) -> bytes:
    stream = scrubber.stream()
    out = []
    for chunk in chunks:
        out.append(stream.feed(chunk))
        assert stream.held <= 2 * scrubber.longest
    out.append(stream.flush())
    assert stream.held == 0
    return b"".join(out)


def split(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[low:high] for low, high in pairwise(ends)]


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_becomes_the_placeholders_at_every_split(look: str) -> None:
    data = b'{"a": "' + LOOKS[look](REAL) + b'", "b": 1}'
    out, count = SCRUBBER.text(data)
    assert count >= 1
    assert len(out) == len(data)
    assert is_in(REAL, data)
    assert not is_in(REAL, out)
    assert out.startswith(b'{"a": "')
    assert out.endswith(b'", "b": 1}')
    for place in range(len(data) + 1):
        assert chunked([data[:place], data[place:]]) == out
    assert chunked([bytes((code,)) for code in data]) == out


# Named references and short escapes keep their length, as do &#57; and the like: a character is spoilt
SPOILT = ("html", "html decimal", "json", "json slash")


@pytest.mark.parametrize("look", [name for name in LOOKS if name not in SPOILT])
def test_what_an_agent_decodes_is_the_placeholder(look: str) -> None:
    assert is_in(NEW.encode(), whole(LOOKS[look](REAL)))


PIECES = st.one_of(
    st.sampled_from([LOOKS[look](REAL) for look in LOOKS]),
    st.sampled_from([LOOKS[look](OTHER) for look in LOOKS]),
    st.sampled_from(
        [REAL[:20], REAL[20:], REAL[:-1], REAL[1:], REAL[:-1] + b"!", b"%", b"\\u00", b"&#", b"%25", b"\r\n"]
    ),
    st.binary(max_size=30),
)


@settings(derandomize=True, max_examples=400)
@given(st.lists(PIECES, max_size=6), st.lists(st.integers(0, 1500), max_size=12))
def test_no_chunking_changes_what_comes_out(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    out = whole(data)
    assert len(out) == len(data)
    assert chunked(split(data, places)) == out
    assert REAL not in out
    assert OTHER not in out


@settings(derandomize=True, max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(sorted(LOOKS)), st.binary(max_size=200))
def test_neighbours_are_left_as_they_are(before: bytes, look: str, after: bytes) -> None:
    before, after = before + b" ", b" " + after
    middle = LOOKS[look](REAL)
    out = whole(before + middle + after)
    assert out == before + whole(middle) + after
    assert not is_in(REAL, out[len(before) : len(out) - len(after)])


@settings(derandomize=True)
@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 2))
def test_base64_keeps_the_neighbours_bits(before: bytes, after: bytes, urlsafe: int) -> None:
    import base64

    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    out = whole(encode(before + REAL + after))
    assert base64.b64decode(out.translate(bytes.maketrans(b"-_", b"+/"))) == before + NEW.encode() + after


@pytest.mark.parametrize(
    "near",
    [
        REAL[:-1],
        REAL[1:],
        REAL[:-1] + b"?",
        REAL[:10] + b"?" + REAL[11:],
        REAL.swapcase(),
        LOOKS["base64 0"](REAL[:20]),
        LOOKS["hex"](REAL)[:-1],
        LOOKS["percent"](REAL)[:-1],
        LOOKS["json all"](REAL)[:-1],
        b"%2" * 50,
        b"\\u00" * 50,
        b"&#" * 50,
        REAL[:-1] * 20,
        REAL[:4] * 100,
    ],
)
def test_what_is_nearly_the_secret_is_not_touched(near: bytes) -> None:
    assert SCRUBBER.text(near) == (near, 0)
    assert chunked([bytes((code,)) for code in near]) == near
    out = whole(near + REAL)
    assert len(out) == len(near + REAL)
    assert REAL not in out
    assert chunked([near, REAL]) == out


def test_secrets_that_overlap() -> None:
    inner = REAL[5:37]
    scrubber = Scrubber([(Secret(REAL), NEW), (Secret(inner), "I" * len(inner))])
    for data in (REAL, inner, REAL + inner, inner + REAL, REAL[:20] + REAL + inner):
        out = scrubber.text(data)[0]
        assert inner not in out
        for place in range(len(data)):
            assert chunked([data[:place], data[place:]], scrubber) == out
    ends = Secret(REAL[-20:] + b"-more-of-it-0123")
    both = Scrubber([(Secret(REAL), NEW), (ends, "E" * len(ends))])
    data = REAL + b"-more-of-it-0123"
    out = both.text(data)[0]
    assert REAL not in out
    assert ends.reveal() not in out
    for place in range(len(data)):
        assert chunked([data[:place], data[place:]], both) == out


@pytest.mark.parametrize("secret", [b"a%41" * 10, b"\\\\u0041\\" * 6, b"&amp;&#38;" * 5, b"%25%32%35" * 5, b"a" * 40])
def test_secrets_that_look_like_escapes(secret: bytes) -> None:
    new = "".join("Zq"[code % 2] if chr(code).isalnum() else chr(code) for code in secret)
    scrubber = Scrubber([(Secret(secret), new)])
    for look in LOOKS.values():
        data = b"x" + look(secret) + b"y"
        out = scrubber.text(data)[0]
        assert len(out) == len(data)
        assert secret not in out
        for place in range(0, len(data), 3):
            cut = chunked([data[:place], data[place:]], scrubber)
            assert len(cut) == len(out)
            assert not any(secret in text for text in decoded(cut))
            assert sum(a != b for a, b in zip(cut, out, strict=True)) <= 1  # the edge: see below


def test_only_the_base64_character_before_a_chunk_may_keep_bits_of_the_secret() -> None:
    secret = b"\x7etilde-first" + b"x9" * 12
    scrubber = Scrubber([(Secret(secret), "0" + "Q" * (len(secret) - 1))])
    for offset in range(3):
        data = b" " + LOOKS[f"base64 {offset}"](secret)
        out = scrubber.text(data)[0]
        different = [place for place in range(len(data)) if chunked([data[:place], data[place:]], scrubber) != out]
        assert len(different) == (1 if offset else 0)
        for place in different:
            cut = chunked([data[:place], data[place:]], scrubber)
            assert cut[: place - 1] + cut[place:] == out[: place - 1] + out[place:]
            assert cut[place - 1] == data[place - 1]


def test_headers() -> None:
    headers = [(b"a", b"b"), (b"x-echo", b"t=" + LOOKS["quoted"](REAL)), (REAL, b"v")]
    scrubbed, count = SCRUBBER.headers(headers)
    assert count == 2
    assert REAL not in b"".join(name + value for name, value in scrubbed)
    clean = [(b"a", b"b")]
    assert SCRUBBER.headers(clean) == (clean, 0)
    assert SCRUBBER.headers(clean)[0] is clean


def test_what_holds_no_secret_is_handed_on_as_the_same_object_and_nothing_is_held() -> None:
    data = random.Random(3).randbytes(100_000) + b"\x00"
    stream = SCRUBBER.stream()
    assert stream.feed(data) is data
    assert stream.held == 0
    assert SCRUBBER.text(data)[0] is data


def test_clean_never_says_so_of_what_would_be_scrubbed() -> None:
    for look in LOOKS.values():
        assert not SCRUBBER.clean(b"xx" + look(REAL) + b"yy")


def test_without_secrets_everything_goes_through() -> None:
    nothing = Scrubber([])
    assert not nothing.active
    assert nothing.text(REAL) == (REAL, 0)
    assert chunked([REAL], nothing) == REAL


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="length"):
        Scrubber([(Secret(REAL), NEW + "x")])


def test_a_flood_of_beginnings_is_held_in_bounds_and_in_linear_time() -> None:
    stream = SCRUBBER.stream()
    total = 0
    for chunk in [LOOKS["json all"](REAL)[:-1], b"&#0000", REAL[:-1], b"%25%25"] * 500:
        total += len(stream.feed(chunk))
        assert stream.held <= SCRUBBER.longest
    assert total + stream.held == 500 * (len(LOOKS["json all"](REAL)) - 1 + 6 + len(REAL) - 1 + 6)


def test_throughput_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    data = (b"x" * 200 + b"ghp_ %20 \\n &amp; ") * 300
    stream = SCRUBBER.stream()
    began = time.perf_counter()
    for _ in range(100):
        stream.feed(data)
    took = time.perf_counter() - began
    with capsys.disabled():
        print(f"\n  scrub: {100 * len(data) / took / 1e6:.0f} MB/s of text with escapes")
