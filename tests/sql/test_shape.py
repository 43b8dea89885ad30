"""The shape of a text holds none of its constants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgast.pg_query_pb2 import Token

from appliance.sql.grammar import Unparsed, tokens
from appliance.sql.shape import shape
from tests.sql.test_normal import adversarial
from tests.sql.texts import TEXTS

CANARY = "7c4n4ry7"
LITERALS = {Token.ICONST, Token.FCONST, Token.SCONST, Token.BCONST, Token.XCONST, Token.USCONST}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select  a,\n'x' from t -- c\n where b = 5", "select a, ? from t where b = ?"),
        ("select a/* x */from t", "select a from t"),
        ("select -1.5e3, 0x1F, B'01', x'ff', E'\\'', U&'\\0061', n'x', $$y$$, $q$'$q$", None),
        ("select 'a'\n'b', \"C d\", $1", 'select ?, "C d", $1'),
        ("create role r password 'x'", "create role r password ?"),
        ("copy t from stdin with (delimiter ',', null 'x')", "copy t from stdin with (delimiter ?, null ?)"),
        ("do $$ begin raise 'x'; end $$ language plpgsql", "do ? language plpgsql"),
        ("set a = 'x'", "set a = ?"),
        ("selec 5 from", "selec ? from"),
        ("select 'ä', \"ä\"", 'select ?, "ä"'),
        ("select 'open", ""),
        ("", ""),
    ],
)
def test_shape(text: str, expected: str | None) -> None:
    if expected is not None:
        assert shape(text.encode()) == expected
    else:
        assert not set("0123456789'$") & set(shape(text.encode()))


@pytest.mark.parametrize(
    "form",
    [
        "'{}'",
        "E'{}'",
        "$${}$$",
        "$a${}$a$",
        "U&'{}'",
        "'x'\n'{}'",
        "/* {} */ 1",
        "'it''s {}' -- {}\n",
        "x'7c4a' /* /* {} */ */",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "select {}",
        "alter role r password {}",
        "set a to {}",
        "comment on table t is {}",
        "insert into t values ({}, {})",
        "do {}",
        "create user mapping for u server s options (password {})",
        "copy t to stdout delimiter {}",
        "notify c, {}",
        "not even sql {} '1",
    ],
)
def test_no_canary(text: str, form: str) -> None:
    assert CANARY not in shape(text.replace("{}", form.replace("{}", CANARY)).encode())


@given(st.one_of(adversarial, st.sampled_from(TEXTS)))
def test_no_constant_is_left(text: str) -> None:
    found = shape(text.encode())
    try:
        kinds = {token.token for token in tokens(found.replace("?", "a").encode())}
    except Unparsed:
        return
    assert not kinds & LITERALS
