"""Texts of one key are one statement: with constants varied, and over an alphabet of everything that is tricky."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.sql.grammar import MAX_BYTES
from appliance.sql.normal import normal
from appliance.sql.shape import shape
from appliance.sql.statements import Unparsed, statements
from tests.sql.test_statements import bare
from tests.sql.texts import TEXTS

# Set apart by "¦".
_PIECES = """select ¦SELECT¦update t set a=¦insert into t values(¦with x as (¦) ¦execute p(¦table t¦merge ¦'¦''¦"¦1¦0¦12
¦007¦999999999¦1234567890¦1.5¦.5¦5.¦1e3¦0x1F¦1_0¦5'a'¦ ¦	¦,¦(¦)¦;¦=¦<¦>¦-¦--¦/*¦*/¦*¦/¦+¦::¦:¦[¦]¦{¦.¦$1¦$¦$$¦$a$
¦a¦b1¦a$1¦é¦é1¦E'¦e'x'¦B'01'¦X'1F'¦N'a'¦U&'¦U&"¦&¦&'¦->¦->>'k'¦#>¦? ¦?
¦| ¦@¦from t¦ where ¦ and ¦ in ¦ limit ¦ order by 1¦null¦float(3)¦float(¦interval '1' ¦interval(3)
¦date ¦::numeric(3,2)¦::regclass¦ as ¦uescape '!'¦set_config('role',
¦json_value(a,'k')¦a->'k'¦operator(pg_catalog.+)¦extract('year' from x)¦\\¦\x01¦\x02¦current of c¦escape '¦union select
¦for update¦ tablesample system(¦like ¦at time zone 'x'"""
tricky = st.lists(st.sampled_from(_PIECES.replace("\n¦", "¦").split("¦")), max_size=12).map("".join)
beginnings = st.sampled_from(["select ", "SELECT 1", "insert into t values (1, ", "update t set a = ", "with x (", ""])
adversarial = st.builds(lambda a, b: a + b, beginnings, tricky)

ALPHABET = "ab'1 \"-*/;$%?é&[{>("
constants = st.one_of(
    st.integers(0, 10**12).map(str),
    st.sampled_from(["0", "00", "1", "54", "999999999", "0000000001"]),
    st.text(ALPHABET, max_size=8).map(lambda s: "'" + s.replace("'", "''") + "'"),
)
CONSTANT = re.compile(r"'(?:[^']|'')*'|(?<![\w$.])\d+(?![\w.])")


def meaning(text: str) -> object:
    try:
        return bare(statements(text))
    except Unparsed:
        return None


def check(first: str, second: str) -> None:
    key = normal(first.encode())
    if key is not None and key == normal(second.encode()):
        assert meaning(first) == meaning(second)
        assert shape(first.encode()) == shape(second.encode())


@given(st.sampled_from(TEXTS), st.data())
@settings(max_examples=400)
def test_other_constants(text: str, data: st.DataObject) -> None:
    check(text, CONSTANT.sub(lambda _: data.draw(constants), text))


@given(st.one_of(adversarial, st.sampled_from(TEXTS)), st.data())
@settings(max_examples=2000)
def test_every_text_of_a_key(text: str, data: st.DataObject) -> None:
    """The marks of a key are filled with any constants: all that comes out is of one meaning."""
    key = normal(text.encode())
    if key is None:
        return
    numbers, strings = st.integers(0, 999_999_999).map(str), st.text(ALPHABET.replace("'", ""), max_size=8)
    other = re.sub("\x01", lambda _: data.draw(strings), re.sub("\x02", lambda _: data.draw(numbers), key.decode()))
    check(text, other)


@given(adversarial, st.data())
@settings(max_examples=1000)
def test_texts_that_differ_a_little(text: str, data: st.DataObject) -> None:
    changed = list(text)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + 1] = data.draw(st.sampled_from([*"0159'\"-/*$;ab (&", "", "12", "''", "--"]))
    check(text, "".join(changed))


@given(adversarial)
def test_a_key_is_no_guess_about_bytes(text: str) -> None:
    broken = text.encode() + b"'\xff'"
    assert normal(broken) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
            "SELECT abalance FROM pgbench_accounts WHERE aid = 99999;",
        ),
        (
            "select * from t where a = 'x' and b in (1, 2)",
            "select * from t where a = 'it; -- /* \"y$' and b in (3, 44)",
        ),
        ('select "a1"."b" from t where c = \'x\' limit 5', 'select "a1"."b" from t where c = \'"\' limit 7'),
        ("insert into t values (1, 'ä', $1)", "insert into t values (2, 'éé', $1)"),
        ("\n  with x as (select 1) select 2 from x", "\n  with x as (select 5) select 6 from x"),
    ],
)
def test_texts_of_one_key(first: str, second: str) -> None:
    assert normal(first.encode()) is not None
    assert normal(first.encode()) == normal(second.encode())
    check(first, second)


@pytest.mark.parametrize(
    "text",
    [
        "select 'a\\'",
        "select $$a$$",
        "select 1 -- x",
        "select /* 1 */ 2",
        "select U&'a' uescape '!'",
        'select U&"a"',
        "select a -> 'k'",
        "select a['k']",
        "select json_value(a, 'k')",
        "select set_config('role', 'x', false)",
        "select float(1)",
        "select 1; select 2",
        "set search_path = 'a'",
        "explain (analyze 0) select 1",
        "copy t from 'x'",
        "select 1 /* ' */ , 'x'",
        "select \x01",
        "select '" + "x" * MAX_BYTES + "'",
    ],
    ids=range(18),
)
def test_texts_without_a_key(text: str) -> None:
    assert normal(text.encode()) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("select a1", "select a2"),
        ("select $1", "select $2"),
        ('select "1"', 'select "2"'),
        ("select 1", "select 'a'"),
        ("select 1", "select 1.5"),
        ("select 1", "select 1234567890"),
        ("select a ? 1", "select a 1 1"),
        ("select 'x'", "select '5"),
        ("select é1", "select é2"),
        ("select 1e1", "select 1e2"),
        ("execute a1", "execute a2"),
        ('select "a" 1', 'select "a" 1 1'),
    ],
)
def test_keys_that_differ(first: str, second: str) -> None:
    assert normal(first.encode()) != normal(second.encode())
