"""Globs: equal to their meaning as regular expressions, anchored, and linear."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.identity.globs import MAX_PATTERN, Glob

letters = st.text(alphabet="ab/.*\n[\\", max_size=12)


def meaning(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*+)", pattern)
    return re.compile(
        "".join("[^/]*" if p == "*" else ".*" if p.startswith("**") else re.escape(p) for p in parts), re.DOTALL
    )


@given(letters.filter(bool), letters)
def test_a_glob_matches_what_its_meaning_matches(pattern: str, text: str) -> None:
    assert Glob(pattern).matches(text) == (meaning(pattern).fullmatch(text) is not None)


@given(st.lists(st.sampled_from(["*", "**", "/", "a", "b"]), min_size=1, max_size=8), st.data())
def test_whatever_a_star_stands_for_matches(tokens: list[str], data: st.DataObject) -> None:
    text = ""
    for token in tokens:
        match token:
            case "*":
                text += data.draw(st.text(alphabet="abx.\n", max_size=4))
            case "**":
                text += data.draw(st.text(alphabet="ab/x.\n", max_size=4))
            case literal:
                text += literal
    assert Glob("".join(tokens)).matches(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("/usr/bin/curl", "/usr/bin/curl", True),
        ("/usr/bin/curl", "/usr/bin/curl2", False),
        ("/usr/bin/curl", "x/usr/bin/curl", False),
        ("/usr/bin/*", "/usr/bin/curl", True),
        ("/usr/bin/*", "/usr/bin/a/b", False),
        ("/usr/bin/*", "/usr/bin/", True),
        ("/usr/**", "/usr/a/b/c", True),
        ("/usr/**/run", "/usr/a/b/run", True),
        ("/usr/**/run", "/usr/run", False),
        ("/usr/bin/curl", "/usr/bin/curl\n", False),
        ("/usr/bin/c?rl", "/usr/bin/curl", False),
        ("/usr/bin/[c]url", "/usr/bin/curl", False),
        ("*.example.test", "attacker.test/.example.test", False),
        ("*", "", True),
    ],
)
def test_cases(pattern: str, text: str, expected: bool) -> None:
    assert Glob(pattern).matches(text) is expected


@pytest.mark.parametrize("pattern", ["", "a" * (MAX_PATTERN + 1)])
def test_a_pattern_has_a_sound_length(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Glob(pattern)


def test_many_stars_on_a_long_text_end() -> None:
    """A backtracking matcher takes longer than the universe has left; pytest's own limit would end this test."""
    assert not Glob("**a" * 170).matches("a" * 160 + "b" * 8000)
    assert not Glob("*a**" * 120 + "!").matches("a" * 8000)
