"""What is remembered of texts."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.sql.analysis import Analyser
from appliance.sql.statements import Unparsed, statements
from tests.sql.test_normal import adversarial
from tests.sql.test_statements import bare
from tests.sql.texts import TEXTS


def test_texts_of_one_key_share_an_analysis() -> None:
    analyser = Analyser()
    first = analyser.analyse(b"select a from t where b = 1")
    assert analyser.analyse(b"select a from t where b = 22") is first
    assert analyser.analyse(b"select a from t where b = 'x'") is not first
    assert first.shape == "select a from t where b = ?"
    assert first.slices(b"select a from t where b = 22") == [b"select a from t where b = 22"]


def test_texts_without_a_key_are_remembered_whole() -> None:
    analyser = Analyser()
    text = b"select 1; set role 'x'"
    assert analyser.analyse(text) is analyser.analyse(text)
    assert analyser.analyse(b"select 1; set role 'y'") is not analyser.analyse(text)
    assert analyser.analyse(text).slices(text) == [b"select 1", b"set role 'x'"]


def test_encodings() -> None:
    analyser = Analyser()
    for encoding in ("UTF8", "utf-8", "SQL_ASCII", "UNICODE"):
        analyser.analyse("select 'ä'".encode(), encoding)
    for encoding in ("LATIN1", "SJIS", ""):
        analyser.analyse(b"select 1", encoding)
        with pytest.raises(Unparsed):
            analyser.analyse("select 'ä'".encode(), encoding)
    with pytest.raises(Unparsed):
        analyser.analyse(b"select '\xe4'", "UTF8")


@given(st.lists(st.one_of(st.sampled_from(TEXTS), adversarial), max_size=40), st.integers(1, 6))
def test_the_memory_never_lies(texts: list[str], most: int) -> None:
    analyser = Analyser(most)
    for text in [*texts, *texts]:
        try:
            expected = bare(statements(text))
        except Unparsed:
            with pytest.raises(Unparsed):
                analyser.analyse(text.encode())
        else:
            assert bare(analyser.analyse(text.encode()).statements) == expected


def test_the_memory_is_bounded() -> None:
    analyser = Analyser(100)
    kept = [analyser.analyse(f"select a{n}".encode()) for n in range(1000)]
    alive = {id(value) for half in (analyser._young, analyser._old) for value in half.values()}
    assert len(alive) <= 100
    assert id(kept[-1]) in alive
    del kept
    gc.collect()
