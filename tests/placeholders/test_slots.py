"""A placeholder is swapped in the slots that its secret names, and nowhere else."""

from __future__ import annotations

import base64
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.ids import SecretName
from appliance.model.placeholder import LeasedPlaceholder, LeasedSecret, Narrowing, Slot
from appliance.model.secret import Secret
from appliance.placeholders.slots import Swapper

REAL, PLACEHOLDER = b"s3cr3t/+&=" + b"R" * 30, "tok_" + "P" * 36
OTHER, OTHERS = b"OTHER" * 8, "oth_" + "Q" * 36


def leased(name: str, real: bytes, text: str, *slots: Slot, more: tuple[str, ...] = ()) -> LeasedSecret:
    placeholders = tuple(LeasedPlaceholder(each, Narrowing(), 1e12, False) for each in (text, *more))
    return LeasedSecret(SecretName(name), Secret(real), slots, placeholders)


HEADER = Slot("header", "authorization")
KEY = Slot("header", "x-api-key")
USER, PASSWORD = Slot("basic", "user"), Slot("basic", "password")
QUERY = Slot("query", "api key")
TOKEN = Swapper([leased("token", REAL, PLACEHOLDER, HEADER, KEY)])
BASIC = Swapper([leased("token", REAL, PLACEHOLDER, PASSWORD), leased("user", OTHER, OTHERS, USER)])
BY_QUERY = Swapper([leased("token", REAL, PLACEHOLDER, QUERY)])
P = PLACEHOLDER.encode()


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"Authorization", b"Bearer " + P, b"Bearer " + REAL),
        (b"authorization", b"token  " + P, b"token  " + REAL),
        (b"AUTHORIZATION", P, REAL),
        (b"X-API-Key", P, REAL),
    ],
)
def test_a_header_slot(name: bytes, value: bytes, expected: bytes) -> None:
    swap = TOKEN.swap([(b"Host", b"a"), (name, value)], b"")
    assert swap.headers == [(b"Host", b"a"), (name, expected)]
    assert [(secret, each.text) for secret, each in swap.used] == [("token", PLACEHOLDER)]
    assert swap.stray == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X-Other", P),
        (b"Authorization", b"Bearer x" + P),
        (b"Authorization", P + b"x"),
        (b"Authorization", b"Bearer " + P + b", Bearer " + P),
        (b"Authorization", b'Digest username="' + P + b'"'),
        (b"Cookie", b"a=" + P),
        (b"X-Api-Key", b"a b " + P),
        (b"Authorization", basic(b"u", P)),
        (b"Referer", b"https://x/?" + P),
    ],
)
def test_anywhere_else_it_stays_and_is_noted(name: bytes, value: bytes) -> None:
    headers = [(name, value)]
    swap = TOKEN.swap(headers, b"")
    assert swap.headers is headers
    assert swap.used == []
    if not value.startswith(b"Basic"):
        assert swap.stray == [f"token@header:{name.decode().lower()}"]


def test_basic_user_and_password() -> None:
    swap = BASIC.swap([(b"authorization", basic(OTHERS.encode(), P))], b"")
    assert swap.headers == [(b"authorization", basic(OTHER, REAL))]
    assert [name for name, _ in swap.used] == ["user", "token"]
    for user, password in ((b"me", P), (b"", P)):
        assert BASIC.swap([(b"authorization", basic(user, password))], b"").headers[0][1] == basic(user, REAL)


@pytest.mark.parametrize(
    "value",
    [
        basic(P, b"x"),  # the password's placeholder as user
        basic(b"x", OTHERS.encode()),
        basic(b"x", P + b"x"),
        basic(b"x", b":" + P),
        b"Basic " + base64.b64encode(P),  # no colon
        b"Basic " + base64.b64encode(b"x:" + P)[:-3] + b"!",
        b"Basic " + base64.b64encode(b"x:" + P) + b" more",
        b"Bearer " + P,
    ],
)
def test_basic_anywhere_else(value: bytes) -> None:
    headers = [(b"authorization", value)]
    swap = BASIC.swap(headers, b"")
    assert swap.headers is headers
    assert swap.used == []


@pytest.mark.parametrize("name", [b"api%20key", b"api+key", b"%61pi%20key"])
@pytest.mark.parametrize("value", [P, b"".join(b"%%%02x" % code for code in P), P[:5] + b"%50" + P[6:]])
def test_a_query_slot_with_escapes(name: bytes, value: bytes) -> None:
    swap = BY_QUERY.swap([], b"a=b&" + name + b"=" + value + b"&&c")
    assert swap.query == b"a=b&" + name + b"=" + quote(REAL, safe="").encode() + b"&&c"
    assert dict(parse_qsl(swap.query.decode()))["api key"] == REAL.decode()
    assert swap.stray == []


@pytest.mark.parametrize("query", [b"other=" + P, b"api%20key=x" + P, b"api%20key", P + b"=1", b"apikey=" + P])
def test_a_query_anywhere_else(query: bytes) -> None:
    swap = BY_QUERY.swap([], query)
    assert swap.query is query
    assert swap.used == []
    assert swap.stray == (["token@query"] if P in query else [])


def test_the_same_placeholder_twice_is_used_twice() -> None:
    swap = TOKEN.swap([(b"authorization", P), (b"x-api-key", P), (b"authorization", b"Bearer " + P)], b"")
    assert [value for _, value in swap.headers] == [REAL, REAL, b"Bearer " + REAL]
    assert len(swap.used) == 3
    again = BY_QUERY.swap([], b"api+key=" + P + b"&api+key=" + P)
    assert again.query.count(quote(REAL, safe="").encode()) == 2
    assert len(again.used) == 2


def test_a_minted_placeholder_is_told_from_the_jobs_own() -> None:
    minted = "tok_" + "M" * 36
    swapper = Swapper([leased("token", REAL, PLACEHOLDER, HEADER, more=(minted,))])
    swap = swapper.swap([(b"authorization", minted.encode())], b"")
    assert [each.text for _, each in swap.used] == [minted]


def test_what_is_none_of_ours_is_a_candidate_for_the_vault() -> None:
    swap = TOKEN.swap([(b"authorization", b"Bearer somebody-elses")], b"")
    assert swap.candidates == [b"somebody-elses"]
    assert swap.used == []


def test_a_placeholder_in_a_path_is_noted_and_named_on_the_record() -> None:
    for path in (b"/a/" + P, b"/a/" + P.replace(b"P", b"%50", 1)):
        assert TOKEN.stands_in(path)
        assert TOKEN.swap([], b"", path).stray == ["token@path"]
        assert PLACEHOLDER not in TOKEN.named(path.decode())
        assert "{token}" in TOKEN.named(path.decode())


NOISE = st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b""))


@given(NOISE, NOISE, st.sampled_from([b"authorization", b"x-api-key", b"cookie", b"x"]))
def test_the_secret_goes_out_only_where_exactly_the_placeholder_stood(before: bytes, after: bytes, name: bytes) -> None:
    value = before + P + after
    swap = TOKEN.swap([(name, value)], b"q=" + quote(value).encode())
    out = swap.headers[0][1]
    assert (REAL in out) is bool(swap.used)
    if swap.used:
        assert name in (b"authorization", b"x-api-key")
        assert out == before + REAL
        assert not after
        assert before == b"" or before.rstrip(b" ") != before
    assert swap.query == b"q=" + quote(value).encode()


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(0, 60))
def test_strays_in_a_body_are_seen_in_any_chunking(noise: list[bytes], cut: int) -> None:
    body = b"".join(noise[:4]) + P + b"".join(noise[4:])
    watcher = TOKEN.watcher()
    watcher.feed(body[:cut])
    for code in body[cut:]:
        watcher.feed(bytes((code,)))
    assert watcher.seen == ["token@body"]
    clean = TOKEN.watcher()
    for chunk in noise:
        clean.feed(chunk.replace(b"P", b""))
    assert clean.seen == []
