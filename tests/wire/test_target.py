"""A path has one meaning or is refused; a query comes out as it went in."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import PeerError
from appliance.wire.target import join_query, parse_target, query_names, query_pieces, split_absolute

TARGETS = st.one_of(
    st.from_regex(rb'\A/[!"$-~]{0,60}\Z'),
    st.lists(
        st.sampled_from([b"/", b"%2F", b"%2f", b".", b"%2e", b"a", b";", b"%3b", b"%5C", b"%25", b"2F"]), max_size=12
    )
    .map(b"".join)
    .map(b"/".__add__),
)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"/a/b", "/a/b"),
        (b"/a/", "/a/"),
        (b"/%61%2Db%7e", "/a-b~"),
        (b"/%c3%a9", "/%C3%A9"),
        (b"/a%20b", "/a%20b"),
        (b"/a|b{c}", "/a%7Cb%7Bc%7D"),
        (b"/a%7cb", "/a%7Cb"),
        (b"/...", "/..."),
        (b"/.well-known/a..b", "/.well-known/a..b"),
        (b"/a;v=1/b:c@d", "/a;v=1/b:c@d"),
        (b"/%252e%252e", "/%252e%252e"),
        (b"/a?../..//", "/a"),
        (b"/@scope%2fname", "/@scope%2Fname"),
        (b"/%40scope%2Fname", "/%40scope%2Fname"),
        (b"/api/v4/projects/group%2Fsub%2Fname/repository/files/src%2Fa.py", None),
        (b"/a%2F", "/a%2F"),
        (b"/a%2F.b/..c%2F...", "/a%2F.b/..c%2F..."),
        (b"/a%252Fb", "/a%252Fb"),
        (b"*", "*"),
    ],
)
def test_paths(target: bytes, path: str | None) -> None:
    assert parse_target(target).path == (target.decode() if path is None else path)
    assert parse_target(target).with_query(parse_target(target).query) == target


@pytest.mark.parametrize(
    "target",
    [
        *(b"/.", b"/..", b"/a/../b", b"/a/./b", b"/%2e", b"/%2E%2e/x", b"/.%2e", b"/..;/x", b"/..;a=b/x"),
        *(b"/%2e;", b"/a/.."),
        *(b"//", b"//a", b"/a//b", b"/a//", b"/a\\b", b"/\\..\\", b"/%00"),
        *(b"/%2f", b"/%2Fa", b"/a%2F/b", b"/a/%2fb", b"/a%2F%2fb"),
        *(b"/a%5cb", b"/a%2F%5Cb", b"/a%5C%2fb", b"/a%5C../b", b"/..%5cb", b"/a%5C%2e%2e"),
        *(b"/a%2F..", b"/a%2f../b", b"/..%2Fb", b"/%2e%2E%2fb", b"/a%2F%2e/b", b"/.%2Fa", b"/a%2F.", b"/a%2f.%2e%2Fb"),
        *(b"/a%2F..;x", b"/a%2F..;/b", b"/..%3B/b", b"/a%2F..%3bx", b"/..%3bx"),
        *(b"/a%0d%0ab", b"/%7f", b"/a%2F%00", b"/%00%2Fa"),
        *(b"/%", b"/%a", b"/%zz", b"/a%2", b"/%u0041", b"/\xc3\xa9", b"/a b", b"/a\x00", b"/a#b"),
        *(b"", b"a", b"?", b"http://a/", b"/a?%", b"/a?b=%zz", b"/a?b c", b"/a?\xff", b"/a?b#c"),
    ],
)  # fmt: skip
def test_what_is_refused(target: bytes) -> None:
    with pytest.raises(PeerError):
        parse_target(target)


@given(TARGETS)
def test_a_path_that_is_taken_is_normal_and_means_the_same(raw: bytes) -> None:
    try:
        target = parse_target(raw)
    except PeerError:
        return
    again = parse_target(target.path.encode())
    assert again.path == target.path
    assert unquote(target.path) == unquote(raw.partition(b"?")[0].decode())
    everything = unquote(target.path, "latin-1").split("/")[1:]  # as a server sees it that decodes first
    assert not {".", ".."} & {segment.partition(";")[0] for segment in everything}
    assert "" not in everything[:-1]
    assert not any(character in target.path for character in "\\\0")
    assert "%2f" not in target.path
    assert target.with_query(target.query) == raw


@given(st.from_regex(rb'\A[!"$-~]{0,60}\Z'))
def test_a_query_comes_out_as_it_went_in(query: bytes) -> None:
    try:
        pieces = query_pieces(query)
    except PeerError:
        return
    assert join_query(pieces) == query


@given(st.binary(max_size=60))
def test_garbage_raises_nothing_but_peer_errors(data: bytes) -> None:
    for raw in (data, b"/" + data, b"/?" + data):
        try:
            query_pieces(parse_target(raw).query)
        except PeerError:
            pass
        try:
            split_absolute(raw)
        except PeerError:
            pass


def test_query_pieces() -> None:
    query = b"a=1&b&&c=&a=%41&%64+e=x=y&%ff=1&="
    pieces = query_pieces(query)
    assert [p.name for p in pieces] == ["a", "b", "", "c", "a", "d e", "%ff", ""]
    assert [p.raw_value for p in pieces] == [b"1", None, None, b"", b"%41", b"x=y", b"1", b""]
    assert query_names(pieces) == ("", "%ff", "a", "b", "c", "d e")
    pieces[0] = pieces[0]._replace(raw_value=b"new")
    assert join_query(pieces) == query.replace(b"a=1", b"a=new", 1)
    with pytest.raises(PeerError):
        query_pieces(b"&" * 1000)


def test_a_replaced_query() -> None:
    assert parse_target(b"/a%20b?c=d").with_query(b"c=e") == b"/a%20b?c=e"
    assert parse_target(b"/a?").with_query(b"") == b"/a?"
    assert parse_target(b"/a").with_query(b"") == b"/a"


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://a.example/x?y", ("http", b"a.example", b"/x?y")),
        (b"HTTPS://A:8443", ("https", b"A:8443", b"/")),
        (b"http://a?x", ("http", b"a", b"/?x")),
    ],
)
def test_absolute_form(target: bytes, parts: tuple[str, bytes, bytes]) -> None:
    assert split_absolute(target) == parts
