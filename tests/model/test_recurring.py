"""What comes once is not kept, what recurs is, and there is an end to both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.model.recurring import Recurring


def test_kept_from_the_second_time_on() -> None:
    known: Recurring[bytes, int] = Recurring(2)
    known.put(b"a", 1)
    assert known.get(b"a") is None
    known.put(b"a", 2)
    assert known.get(b"a") == 2
    for key in (b"b", b"c"):
        known.put(key, 3)
        known.put(key, 3)
    assert known.get(b"a") is None  # full: emptied
    assert known.get(b"c") == 3


@given(st.lists(st.integers(0, 50)))
def test_it_gives_what_was_put_and_is_bounded(keys: list[int]) -> None:
    known: Recurring[int, str] = Recurring(4)
    for key in keys:
        found = known.get(key)
        assert found in (None, str(key))
        if found is None:
            known.put(key, str(key))
        assert len(known._values) <= 4
        assert len(known._met) <= 16
