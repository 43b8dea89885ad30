"""How one value is hidden: what comes out is of the column's type and says nothing of what went in."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.masking import kinds
from appliance.masking.detectors import chosen
from appliance.masking.hiding import HOWS, Token
from appliance.masking.json_text import parse_path
from appliance.masking.kinds import ValueType, array_of, known, value_type
from appliance.masking.masker import chain
from appliance.masking.values import detecting, masker

TOKEN = Token(b"key of one job")
TEXT, JSON, JSONB, INT8, BYTEA, INET, NUMERIC, FLOAT8 = map(known, (25, 114, 3802, 20, 17, 869, 1700, 701))
TEXTS, JSONBS, INT8S = map(known, (1009, 3807, 1016))


def masked(
    value: bytes, how: str = "hide", oid: int = 25, binary: bool = False, paths: tuple[str, ...] = ()
) -> bytes | None:
    return masker(how, paths, known(oid), binary, TOKEN).mask(value)


# --- texts ---


@given(st.text(max_size=60))
def test_partial_keeps_no_more_than_a_quarter(text: str) -> None:
    out = masked(text.encode(), "partial")
    assert out is not None
    kept = out.decode().removeprefix("***")
    assert len(kept) == min(4, len(text) // 4)
    assert text.endswith(kept)


@pytest.mark.parametrize(
    ("value", "out"),
    [
        (b"", b"***"),
        (b"abc", b"***"),
        (b"abcd", b"***d"),
        (b"4111111111111111", b"***1111"),
        (b"someone@example.com", b"***.com"),
        ("ÄÖÜß".encode(), "***ß".encode()),
        ("ÄÖÜß".encode("latin-1"), b"***"),
    ],
)
def test_partial(value: bytes, out: bytes) -> None:
    assert masked(value, "partial") == out


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_tokens_are_equal_where_values_are(one: bytes, other: bytes) -> None:
    first, second = masked(one, "token"), masked(other, "token")
    assert first is not None
    assert len(first) == 28
    assert first.startswith(b"tok_")
    assert (first == second) == (one == other)
    assert Token(b"key of one job").text(one) == first
    assert Token(b"key of another job").text(one) != first


def test_tokens_that_are_remembered_are_bounded() -> None:
    token = Token(b"k")
    for number in range(10_000):
        token.text(b"%d" % number)
    token.text(b"x" * 100_000)
    assert len(token._known) <= 4096
    assert max(map(len, token._known)) <= 256
    assert token.text(b"1") == Token(b"k").text(b"1")


@pytest.mark.parametrize("key", [b"", b"x" * 65])
def test_a_key_that_is_none(key: bytes) -> None:
    with pytest.raises(ValueError):
        Token(key)


def test_a_way_that_there_is_not() -> None:
    with pytest.raises(ValueError):
        masker("", (), TEXT, False, TOKEN)


# --- other types ---


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    "oid", [16, 17, 18, 20, 21, 23, 600, 602, 700, 701, 869, 1007, 1082, 1114, 1700, 2249, 2950, 99999]
)
def test_what_is_no_text_says_nothing(oid: int, how: str, binary: bool) -> None:
    hiding = masker(how, (), known(oid), binary, TOKEN)
    assert hiding.constant
    if how == "null" or oid in (602, 2249, 99999):
        assert hiding.value is None
    else:
        assert hiding.value == (known(oid).neutral_binary if binary else known(oid).neutral_text)
        assert hiding.value is not None


MADE = {
    70000: ("e", 0),
    70001: ("t", 0),  # citext
    70002: ("d", 20),
    70003: ("d", 70999),  # over a composite type
    70004: ("r", 0),
    70005: ("m", 0),
    70006: ("a", 70000),
    70007: ("d", 25),
    70008: ("a", 70007),
    70009: ("d", 70008),
    70010: ("a", 70009),  # of a domain over an array
    70011: ("d", 3802),
    70012: ("a", 70011),
    70013: ("d", 70013),  # no server has that
    70014: ("a", 70002),
}


def test_types_that_users_made() -> None:
    def of(oid: int) -> ValueType:
        return value_type(oid, MADE)

    assert of(70000).kind == of(70001).kind == kinds.TEXT
    assert (of(70002), of(70007)) == (INT8, TEXT)
    assert of(70003).neutral_text is of(70003).neutral_binary is None
    assert of(70004).neutral_binary == b"\x01"
    assert of(70005).neutral_text == b"{}"
    assert of(70099).neutral_text is of(70013).neutral_text is None
    assert (of(70006).kind, of(70006).element, of(70006).element_oid) == (kinds.ARRAY, kinds.TEXT, 70000)
    assert masker("hide", (), of(70006), False, TOKEN).mask(b"{sad,NULL}") == b"{***,NULL}"
    # The server names the domain, not what it is over
    assert of(70008).neutral_binary == struct.pack(">iiI", 0, 0, 70007)
    assert masker("hide", (), of(70008), True, TOKEN).mask(array([b"x"], 70007)) == array([b"***"], 70007)
    assert masker("hide", (), of(70010), False, TOKEN).mask(b'{"{x}"}') == b"{}"
    assert masker("token", ("$.a",), of(70010), True, TOKEN).mask(b"x") == struct.pack(">iiI", 0, 0, 70009)
    json_of = masker("hide", ("$.a",), of(70012), False, TOKEN)
    assert json_of.mask(b'{"{\\"a\\": \\"x\\"}"}') == b'{"{\\"a\\": \\"***\\"}"}'
    hits = detecting(chosen(("credit-card",)), "hide", of(70014), False, TOKEN)
    assert hits is not None
    assert hits.mask(b"{1,%d}" % CARD) == b"{1,0}"


def test_no_row_changes_what_is_known_of_the_servers_own_types() -> None:
    assert value_type(17, {17: ("t", 0)}) == BYTEA


OIDS = range(70000, 70007)
TYPES = st.dictionaries(
    st.sampled_from(OIDS), st.tuples(st.sampled_from("demrtax"), st.sampled_from([0, 25, 3802, *OIDS]))
)
VALUE = st.text(alphabet='{}[]()",:\\c1', max_size=8).map(lambda text: text.encode())


@given(TYPES, VALUE, st.booleans(), st.sampled_from(HOWS))
def test_whatever_a_type_is_said_to_be_its_value_is_hidden(
    types: dict[int, tuple[str, int]], around: bytes, binary: bool, how: str
) -> None:
    """Also if it has become another since."""
    for oid in (*types, 70007):
        out = masker(how, (), value_type(oid, types), binary, TOKEN)
        for value in (around + b"canary" + around, array([b"canary", around], oid), array([around + b"canary"], 25)):
            assert b"canary" not in (out.mask(value) or b"")


# --- JSON ---

DOCUMENT = b' { "id" : 1e2,"user":{"email":"a@b.c", "tags":["x",{"y":null}]} ,"user":{"em\\u0061il":"d"}, "n":[] } '


@pytest.mark.parametrize(
    ("paths", "out"),
    [
        (("$.user.email",), DOCUMENT.replace(b'"a@b.c"', b'"***"').replace(b'"d"', b'"***"')),
        (("$.id",), DOCUMENT.replace(b"1e2", b"0")),
        (("$.user.tags[*]",), DOCUMENT.replace(b'["x",{"y":null}]', b'["***",{}]')),
        (("$.user.tags[1].y", "$.nothing"), DOCUMENT),
        (("$.user.tags[0]", "$.n"), DOCUMENT.replace(b'["x"', b'["***"')),
        (('$."user".tags',), DOCUMENT.replace(b'["x",{"y":null}]', b"[]")),
        (("$.user",), b' { "id" : 1e2,"user":{} ,"user":{}, "n":[] } '),
        (("$.*.email",), DOCUMENT.replace(b'"a@b.c"', b'"***"').replace(b'"d"', b'"***"')),
        (("$.**.email",), DOCUMENT.replace(b'"a@b.c"', b'"***"').replace(b'"d"', b'"***"')),
        (("$[*].user[0].email",), DOCUMENT.replace(b'"a@b.c"', b'"***"').replace(b'"d"', b'"***"')),
        (("$.user.tags.y",), DOCUMENT),
        (("$",), b" {} "),
        (("$.**",), b" {} "),
    ],
)
def test_paths(paths: tuple[str, ...], out: bytes) -> None:
    assert masked(DOCUMENT, oid=114, paths=paths) == out
    assert masked(b"\x01" + DOCUMENT, oid=3802, binary=True, paths=paths) == b"\x01" + out


def test_a_member_of_an_array_is_that_of_its_elements() -> None:
    value = b'{"items":[{"card":"1"},[{"card":"2"}],{"card":3},{"card":true},{"card":null}]}'
    assert masked(value, oid=114, paths=("$.items.card",)) == (
        b'{"items":[{"card":"***"},[{"card":"***"}],{"card":0},{"card":false},{"card":null}]}'
    )


def test_leaves_in_other_ways() -> None:
    value = b'{"a":"caf\\u00e9 au lait","b":7}'
    paths = ("$.a", "$.b")
    assert masked(value, "null", 114, paths=paths) == b'{"a":null,"b":null}'
    assert masked(value, "partial", 114, paths=paths) == b'{"a":"***ait","b":0}'
    assert masked(b'{"a":"\\u00e9\\u00e9\\u00e9\\u00e9"}', "partial", 114, paths=paths) == b'{"a":"***\\u00e9"}'
    token = TOKEN.text("café au lait".encode())
    assert token is not None
    assert masked(value, "token", 114, paths=paths) == b'{"a":"' + token + b'","b":0}'


@pytest.mark.parametrize(
    "bad",
    [
        *(
            b"",
            b" ",
            b"{",
            b"}",
            b"[1",
            b"[1,]",
            b"[,1]",
            b'{"a"}',
            b'{"a":}',
            b'{"a":1,}',
            b"{a:1}",
            b"1 2",
            b"01",
            b"+1",
        ),
        *(
            b"1.",
            b"tru",
            b"truex",
            b'"a',
            b'"\n"',
            b'"\\x"',
            b'"\\u12"',
            b"\xff",
            b'"\xff"',
            b"'a'",
            b"NaN",
            b"[1}",
            b"nul",
        ),
    ],
)
def test_json_that_cannot_be_read_is_hidden_whole(bad: bytes) -> None:
    assert masked(bad, oid=114, paths=("$.a",)) == b'"***"'
    assert masked(bad, oid=3802, binary=True, paths=("$.a",)) == b'\x01"***"'
    assert masked(b"\x01" + bad, oid=3802, binary=True, paths=("$.a",)) == b'\x01"***"'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.just("card"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "card", "ü\\"]), inner, max_size=4)
    ),
    max_leaves=25,
)


def without_cards(value: Any, within: bool = False) -> Any:
    """What `$.**.card` leaves, from Python's own reading."""
    if within:
        neutral = {str: "***", bool: False, int: 0, list: [], dict: {}}
        return None if value is None else neutral[type(value)]
    if isinstance(value, list):
        return [without_cards(one) for one in value]
    if isinstance(value, dict):
        return {name: without_cards(one, name == "card") for name, one in value.items()}
    return value


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_json_is_what_it_was_but_for_its_leaves(value: Any, indent: int | None, plain: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=plain).encode()
    out = masked(text, oid=114, paths=("$.**.card",))
    assert out is not None
    assert json.loads(out) == without_cards(value)
    if b'"card"' not in text:
        assert out is text


@given(st.binary(max_size=30) | st.text(alphabet='{}[]",:01e.\\ut-n ', max_size=20).map(str.encode))
def test_json_is_read_as_python_reads_it(data: bytes) -> None:
    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        data.decode()
        json.loads(data, parse_constant=refuse)
        readable = data[:3] != b"\xef\xbb\xbf"
    except (ValueError, RecursionError):
        readable = False
    assert (masked(data, oid=114, paths=("$.none.of.it",)) == data) == readable


def test_json_of_any_depth() -> None:
    deep = b"[" * 100_000 + b'{"a":"x"}' + b"]" * 100_000
    assert masked(deep, oid=114, paths=("$.a",)) == deep.replace(b"x", b"***")
    assert masked(deep[:-1], oid=114, paths=("$.a",)) == b'"***"'


@pytest.mark.parametrize(
    "path", ["", "a", "$a", "$.", "$..a", "$[", "$[-1]", "$[1:2]", "$.a-b", "$.a ", "$?(@.a)", '$."a']
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(ValueError):
        parse_path(path)


def test_whole_json() -> None:
    assert masked(b'{"a":1}', oid=114) == b'"***"'
    assert masked(b'\x01{"a":1}', oid=3802, binary=True) == b'\x01"***"'
    assert masked(b'{"a":1}', "partial", 114) == b'"***"'
    text = masked(b'{"a":1}', "token", 3802)
    assert text is not None
    assert masked(b'\x01{"a":1}', "token", 3802, binary=True) == b"\x01" + text
    assert json.loads(text).startswith("tok_")


# --- arrays ---


@pytest.mark.parametrize(
    ("value", "out"),
    [
        (b"{}", b"{}"),
        (b"{a,b}", b"{***,***}"),
        (b'{NULL,"NULL",null}', b"{NULL,***,null}"),
        (b'{{"a,b","c}d"},{"e\\"f","g\\\\"}}', b"{{***,***},{***,***}}"),
        (b'[0:1]={a,"b c"}', b"[0:1]={***,***}"),
        (b'{""}', b"{***}"),
        *(
            (bad, b"{}")
            for bad in (b"", b"a", b"{a", b"a}", b"{a}}", b"{a}{b}", b'{"a}', b'{"a"b}', b"{a\\b}", b"{a}b")
        ),
        *((bad, b"{}") for bad in (b"[0:1]", b"[a]={b}", b'{a"b"}', b'{"a" }', b"{}}", b"{{a},b}c")),
    ],
)
def test_arrays_as_text(value: bytes, out: bytes) -> None:
    after = masked(value, oid=1009)
    assert after is not None
    assert after == out


def array(values: list[bytes | None], oid: int = 25, lower: int = 1) -> bytes:
    head = struct.pack(">iiI", 1 if values else 0, int(None in values), oid)
    if values:
        head += struct.pack(">ii", len(values), lower)
    return head + b"".join(b"\xff" * 4 if one is None else struct.pack(">i", len(one)) + one for one in values)


@given(st.lists(st.none() | st.binary(max_size=10)), st.integers(-5, 5))
def test_arrays_in_binary(values: list[bytes | None], lower: int) -> None:
    expected: list[bytes | None] = [None if one is None else b"***" for one in values]
    assert masked(array(values, 25, lower), oid=1009, binary=True) == array(expected, 25, lower)


@given(st.lists(st.none() | st.binary(max_size=5), min_size=1), st.data())
def test_arrays_in_binary_that_cannot_be_read_are_hidden_whole(values: list[bytes | None], data: st.DataObject) -> None:
    value = array(values)
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    assert masked(cut, oid=1009, binary=True) == array([])
    assert masked(value + b"x", oid=1009, binary=True) == array([])


def test_arrays_of_json() -> None:
    assert masked(b'{"{\\"a\\": \\"x\\"}",NULL}', oid=199, paths=("$.a",)) == b'{"{\\"a\\": \\"***\\"}",NULL}'
    value, out = array([b'\x01{"a":"x"}', None], 3802), array([b'\x01{"a":"***"}', None], 3802)
    assert masked(value, oid=3807, binary=True, paths=("$.a",)) == out


# --- what detectors find ---


def found(
    value: bytes, value_type: ValueType, names: tuple[str, ...], how: str = "hide", binary: bool = False
) -> bytes | None:
    hiding = detecting(chosen(names), how, value_type, binary, TOKEN)
    assert hiding is not None
    return hiding.mask(value)


CARD = 4111111111111111


def test_only_the_hit_in_a_text_is_hidden() -> None:
    text = b"to a@b.example, c@d.example: hello"
    assert found(text, TEXT, ("email",)) == b"to ***, ***: hello"
    assert found(text, TEXT, ("email",), "null") is None
    token = TOKEN.text(b"a@b.example")
    assert token is not None
    assert (found(text, TEXT, ("email",), "token") or b"").startswith(b"to " + token + b", tok_")
    assert found(b"nothing", TEXT, ("email",)) == b"nothing"


def test_in_json() -> None:
    value = b'{"a\\u0040b.example": "x", "n": [%d, 1, true, null, "to a\\u0040b.example"]}' % CARD
    assert found(value, JSON, ("email", "credit-card")) == b'{"***": "x", "n": [0, 1, true, null, "to ***"]}'
    assert found(b"\x01" + value, JSONB, ("email",), "null", True) == (
        b'\x01{"": "x", "n": [%d, 1, true, null, null]}' % CARD
    )
    assert found(b"{", JSON, ("email",)) == b'"***"'
    assert found(b'{"a": 1}', JSON, ("email",)) == b'{"a": 1}'


def test_in_what_is_no_text() -> None:
    assert found(b"%d" % CARD, INT8, ("credit-card",)) == b"0"
    assert found(struct.pack(">q", CARD), INT8, ("credit-card",), binary=True) == bytes(8)
    assert found(struct.pack(">q", CARD + 1), INT8, ("credit-card",), binary=True) == struct.pack(">q", CARD + 1)
    assert found(b"\7" * 5000, INT8, ("credit-card",), binary=True) == b"\7" * 5000
    assert found(b"\\x" + b"a@b.example".hex().encode(), BYTEA, ("email",)) == b"\\x"
    assert found(b"a@b.example", BYTEA, ("email",), binary=True) == b""
    assert found(b"\x02\x20\0\x04\x0a\1\2\3", INET, ("ipv4",), binary=True) == INET.neutral_binary
    assert found(b"\x03\x80\0\x10" + bytes(15) + b"\1", INET, ("ipv6",), binary=True) == INET.neutral_binary
    assert found(b"4.111111111111111e+15", FLOAT8, ("credit-card",)) == b"0"
    assert found(struct.pack(">d", CARD), FLOAT8, ("credit-card",), binary=True) == bytes(8)
    numeric = struct.pack(">hhHh4h", 4, 3, 0, 0, 4111, 1111, 1111, 1111)
    assert found(numeric, NUMERIC, ("credit-card",), binary=True) == bytes(8)
    assert found(b'(1,"a@b.example")', known(2249), ("email",)) is None
    assert found(b"{1,%d}" % CARD, INT8S, ("credit-card",)) == b"{1,0}"
    records = array([b"a@b.example", b"x"], 2249)
    assert found(records, known(2287), ("email",), binary=True) == array([None, b"x"], 2249)
    assert found(b'{"(1,a@b.example)",NULL}', known(2287), ("email",)) == b"{NULL,NULL}"
    assert detecting(chosen(("email",)), "hide", known(16), False, TOKEN) is None
    assert detecting(chosen(("email",)), "hide", known(1182), False, TOKEN) is None


@given(
    st.binary(max_size=40),
    st.sampled_from([17, 20, 25, 114, 199, 650, 701, 869, 1007, 1009, 1016, 1700, 2249, 3802, 3807, 99]),
    st.booleans(),
)
def test_no_value_breaks_a_masker(value: bytes, oid: int, binary: bool) -> None:
    for how in HOWS:
        hiding = detecting(chosen(("email", "credit-card", "ipv6", "iban", "jwt")), how, known(oid), binary, TOKEN)
        if hiding is not None:
            hiding.mask(value)
        masker(how, ("$.a",), known(oid), binary, TOKEN).mask(value)


# --- several masks ---


def test_chains() -> None:
    paths = [masker("hide", (path,), JSON, False, TOKEN) for path in ("$.a", "$.b")]
    both = chain(paths)
    assert both is not None
    assert both.mask(b'{"a":1,"b":2,"c":3}') == b'{"a":0,"b":0,"c":3}'
    assert chain([]) is None
    assert chain(paths[:1]) is paths[0]
    hide, null = masker("hide", (), TEXT, False, TOKEN), masker("null", (), TEXT, False, TOKEN)
    assert chain([*paths, hide, null]) is null
    assert chain([hide, *paths]) is hide
    assert array_of(5, TEXT).kind == kinds.ARRAY
