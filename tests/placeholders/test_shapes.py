"""A placeholder has its secret's length and alphabet, at least 128 random bits, and nothing of the secret."""

from __future__ import annotations

import os
import random
import re
import string
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.secret import Secret
from appliance.placeholders.shapes import make


class Given(NamedTuple):
    regex: str | None = None
    sample: str | None = None


BODY = st.text(alphabet=string.ascii_letters + string.digits, min_size=40, max_size=200)
PRINTABLE = st.text(alphabet=[chr(code) for code in range(0x21, 0x7F)], min_size=1, max_size=120)


NOTHING_GIVEN = Given()


def made_from(
    real: str,
    shape: Given = NOTHING_GIVEN,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> str:
    return make(Secret(real.encode()), shape, random_bytes)


@given(PRINTABLE)
def test_length_and_alphabet_are_kept_or_it_is_refused(real: str) -> None:
    try:
        made = made_from(real)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "random bits" in refusal or "too much like" in refusal
        assert len(real) < 8 or real not in refusal
        return
    assert len(made) == len(real)
    assert made != real
    for ours, theirs in zip(made, real, strict=True):
        if theirs not in string.ascii_letters + string.digits:
            assert ours == theirs
        assert ours.isascii()
        assert (ours in string.ascii_letters + string.digits) == (theirs in string.ascii_letters + string.digits)
    for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        if not set(real) & set(kind) and not set(real) <= set("abcdefABCDEF"):  # which is taken for hex
            assert not set(made) & set(kind)


@given(BODY)
def test_no_eight_characters_of_the_secret_survive_where_they_were(body: str) -> None:
    real = "ghp_" + body
    try:
        made = made_from(real)
    except ValueError:
        return
    assert made.startswith("ghp_")
    assert not any(made[at : at + 8] == real[at : at + 8] for at in range(4, len(real) - 8))


@pytest.mark.parametrize(
    ("real", "pattern"),
    [
        ("ghp_" + "aB3" * 12, r"ghp_[A-Za-z0-9]{36}"),
        ("sk-ant-api03-" + "Xy9_" * 20, r"sk-ant-[a-zA-Z0-9]{5}-([A-Za-z0-9]{3}_){20}"),
        ("0123456789abcdef" * 4, r"[0-9a-f]{64}"),
        ("0123456789ABCDEF" * 4, r"[0-9A-F]{64}"),
        ("glpat-" + "a1B2" * 10, r"glpat-[A-Za-z0-9]{40}"),
        ("12345678" * 6, r"[0-9]{48}"),
    ],
)
def test_known_shapes(real: str, pattern: str) -> None:
    assert re.fullmatch(pattern, made_from(real))


@pytest.mark.parametrize(
    ("real", "shape"),
    [
        ("short", Given()),
        ("hunter2hunter2", Given()),
        ("0" * 38, Given()),  # 38 digits: 126 bits
        ("-" * 100, Given()),
        ("f" * 31, Given()),
        ("123e4567-e89b-12d3-a456-42661417400", Given()),  # a UUID that is one digit short
        ("a" * 64, Given(regex="a{64}")),
        ("a" * 64, Given(regex="[ab]{64}")),
        ("a" * 64, Given(sample="-" * 64)),
    ],
)
def test_under_128_bits_is_refused_with_the_reason(real: str, shape: Given) -> None:
    with pytest.raises(ValueError, match=r"leaves \d+ random bits, but 128 are needed") as caught:
        made_from(real, shape)
    assert len(real) < 8 or real not in str(caught.value)


@pytest.mark.parametrize(("real", "length"), [("1" * 39, 39), ("f0" * 16, 32), ("aB3dE6gH9jK2mN5pQ8sT1v", 22)])
def test_just_over_128_bits_is_made(real: str, length: int) -> None:
    assert len(made_from(real)) == length


@pytest.mark.parametrize(
    ("regex", "length"),
    [
        ("[a-z]{40}", 40),
        ("tok-[A-Za-z0-9]+", 64),
        (r"\d{10}-[0-9a-f]{32}", 43),
        (r"(ab|cd)", 0),
        ("^k_(?:[A-Z]{4}-){9}[A-Z]{4}$", 51),
        (r"\w{8,}", 50),
    ],
)
def test_a_regular_expression_is_matched(regex: str, length: int) -> None:
    if not length:
        with pytest.raises(ValueError, match=r"shape\.regex: only"):
            made_from("x" * 64, Given(regex=regex))
        return
    for _ in range(5):
        made = made_from("x" * length, Given(regex=regex))
        assert len(made) == length
        assert re.fullmatch(regex, made)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (Given(regex="[a-z]{10}"), "no text as long as the secret (64"),
        (Given(regex="[!?]{64}"), "holds no letter"),
        (Given(regex="[a-z"), "shape.regex"),
        (Given(regex="(?=a)[a-z]{64}"), "only literals"),
        (Given(regex="(?:[a-z]{1,2}){32}"), "a count within"),
        (Given(regex=r"[\s]{64}"), "ranges"),
        (Given(regex="[!]{64}"), "0 random bits"),
        (Given(sample="a" * 10), "the sample has 10 characters, the secret 64"),
    ],
)
def test_a_shape_that_does_not_fit_says_so(shape: Given, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        made_from("q7" * 32, shape)
    assert says in str(caught.value)
    assert "q7q7" not in str(caught.value)


@pytest.mark.parametrize("real", ["a b" * 30, "ä" * 60, "a\n" + "b" * 60, "\x00" * 64])
def test_what_is_not_printable_ascii_is_refused(real: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        made_from(real)


@given(BODY, st.integers())
def test_the_same_random_bytes_give_the_same_placeholder(body: str, seed: int) -> None:
    def twice() -> str:
        return made_from("hvs." + body, random_bytes=random.Random(seed).randbytes)

    try:
        assert twice() == twice()
    except ValueError:
        pass


def test_every_character_is_as_likely_as_the_others() -> None:
    """A class of 62 drawn from bytes: the first ones must not be likelier. 40,000 draws, bounds of eight deviations."""
    chance = random.Random(7)
    counts = dict.fromkeys(string.ascii_letters + string.digits, 0)
    for _ in range(100):
        for character in made_from("aB3" * 134, random_bytes=chance.randbytes)[:400]:
            counts[character] += 1
    mean = sum(counts.values()) / len(counts)
    assert all(abs(count - mean) < 8 * mean**0.5 for count in counts.values())


def test_a_source_of_randomness_that_repeats_the_secret_gives_no_placeholder() -> None:
    alphabet = string.digits + "abcdef"
    real = "".join(alphabet[number % 16] for number in range(64))
    position = iter(range(10**6))

    def repeats(count: int) -> bytes:
        return bytes([next(position) % 16] * count)

    with pytest.raises(ValueError, match="too much like"):
        made_from(real, random_bytes=repeats)
