"""A request as policy sees it and as it goes on: one destination, no field of another hop, the secret in its slot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import Denied, PeerError
from appliance.model.ids import SecretName
from appliance.model.placeholder import LeasedPlaceholder, LeasedSecret, Narrowing, Slot
from appliance.model.secret import Secret
from appliance.model.verdict import Operation, Verdict
from appliance.placeholders.slots import Swapper
from appliance.session.http import (
    Judged,
    Prepared,
    check_host,
    judge,
    prepare,
    response_framing,
    response_head,
    split_target,
)
from appliance.wire.http1 import RequestHead, RequestReader, ResponseHead, ResponseReader, end_to_end

REAL, PLACEHOLDER = "sk-" + "Real0" * 8, "sk-" + "Fake1" * 8
NOTHING = Swapper([])
SWAPPER = Swapper(
    [
        LeasedSecret(
            SecretName("token"),
            Secret(REAL.encode()),
            (Slot("header", "authorization"), Slot("query", "key")),
            (LeasedPlaceholder(PLACEHOLDER, Narrowing(), 1e12, False),),
        )
    ]
)


class Allows:
    """Remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Operation] = []

    def verdict(self, operation: Operation) -> Verdict:
        self.asked.append(operation)
        return Verdict("allow", "api/all")


def head_of(text: str, line: str = "GET /a HTTP/1.1", host: str = "api.example.com") -> RequestHead:
    raw = f"{line}\r\n" + (f"Host: {host}\r\n" if host else "") + "".join(f"{each}\r\n" for each in text.splitlines())
    head = RequestReader(65536, 200).feed(raw.encode("latin-1") + b"\r\n")[0]
    assert isinstance(head, RequestHead)
    return head


def prepared(
    head: RequestHead, swapper: Swapper = NOTHING, *, scrubbed: bool = False, ranges: bool = False
) -> Prepared:
    return prepare(head, swapper, scrubbed=scrubbed, allow_range=ranges, default_port=443)


def forwarded(text: str, *, scrubbed: bool = False, ranges: bool = False, line: str = "GET /a HTTP/1.1") -> list[str]:
    lines = prepared(head_of(text, line), scrubbed=scrubbed, ranges=ranges).lines.decode("latin-1")
    assert lines.endswith("\r\n\r\n")
    return lines[:-4].split("\r\n")


def judged(head: RequestHead, swapper: Swapper = SWAPPER) -> tuple[Judged, Operation]:
    decider = Allows()
    result = judge(head, split_target(head)[1], prepared(head, swapper), swapper, decider)
    (operation,) = decider.asked
    return result, operation


# ---- fields ----


@pytest.mark.parametrize(
    "field",
    [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Authenticate: Basic",
        "TE: gzip;q=0.5",
        "Connection: x-hop, keep-alive\nX-Hop: 1",
        "Connection: X-Hop\nConnection: close\nx-hop: 1",
        "Connection: HTTP2-Settings\nHTTP2-Settings: AAA",
        "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAA",
    ],
)
def test_fields_of_this_hop_do_not_go_on(field: str) -> None:
    assert forwarded(field) == ["Host: api.example.com"]


@given(
    st.lists(st.sampled_from(["a", "b", "c", "keep-alive", "close", ""]), max_size=5),
    st.sampled_from([",", ", ", " ,\t"]),
)
def test_what_connection_names_does_not_go_on(names: list[str], comma: str) -> None:
    try:
        out = forwarded(f"A: 1\nB: 2\nC: 3\nConnection: {comma.join(names)}")
    except PeerError:
        return
    assert out == [
        "Host: api.example.com",
        *(f"{n.upper()}: {v}" for n, v in zip("abc", "123", strict=True) if n not in names),
    ]


def test_te_trailers_goes_on_as_our_own() -> None:
    assert forwarded("TE: trailers\nConnection: TE") == ["Host: api.example.com", "TE: trailers", "Connection: TE"]


def test_end_to_end_fields_go_on_as_they_came_in_order() -> None:
    fields = ["x-One: 1", "Via: 1.1 proxy", "X-one: 2", "Cookie: a=b", "Forwarded: for=x", "Expect: 100-continue"]
    out = forwarded("\n".join(fields))
    assert [line for line in out if not line.startswith(("Host", "Expect"))] == fields[:-1]


def test_framing_is_written_anew() -> None:
    assert forwarded("Content-Length: 5", line="POST / HTTP/1.1")[-1] == "Content-Length: 5"
    assert forwarded("Transfer-Encoding: chunked", line="POST / HTTP/1.1")[-1] == "Transfer-Encoding: chunked"
    assert "Content-Length: 0" in forwarded("Content-Length: 0", line="POST / HTTP/1.1")


@pytest.mark.parametrize(
    ("field", "out"),
    [
        ("Accept-Encoding: gzip, deflate, br, zstd", "Accept-Encoding: gzip, deflate, br, zstd"),
        ("Accept-Encoding: gzip;q=1.0, aes128gcm, dcb, br", "Accept-Encoding: gzip;q=1.0, br"),
        ("Accept-Encoding: compress", "Accept-Encoding: identity"),
        ("accept-encoding: X-GZIP", "accept-encoding: X-GZIP"),
        ("Sec-WebSocket-Extensions: permessage-deflate", None),
        ("Range: bytes=0-9", None),
        ("If-Range: abc", None),
    ],
)
def test_nothing_is_asked_for_that_could_not_be_scrubbed(field: str, out: str | None) -> None:
    assert forwarded(field, scrubbed=True)[1:] == ([] if out is None else [out])
    assert forwarded(field)[1:] == [field]


def test_ranges_where_policy_allows_them() -> None:
    assert forwarded("Range: bytes=0-9\nIf-Range: x", scrubbed=True, ranges=True)[1:] == [
        "Range: bytes=0-9",
        "If-Range: x",
    ]


def test_an_upgrade_goes_on_as_the_one_protocol() -> None:
    head = head_of("Connection: keep-alive, Upgrade\nUpgrade: websocket")
    plan = prepared(head)
    assert plan.upgrade == "websocket"
    assert b"Upgrade: websocket\r\n" in plan.lines
    assert prepared(head_of("Upgrade: websocket")).upgrade == ""  # Connection does not name it


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ('multipart/form-data; boundary="a,b"', "multipart/form-data"),
        (" text/plain ;x=y", "text/plain"),
        ("", ""),
    ],
)
def test_the_media_type(value: str, media_type: str) -> None:
    assert prepared(head_of(f"Content-Type: {value}")).content_type == media_type


@pytest.mark.parametrize("value", ["a/b, c/d", "a/b;x=y, c/d", 'a/b; x="c", d/e', 'a/b; x="\\"", d/e'])
def test_two_media_types_are_refused(value: str) -> None:
    with pytest.raises(PeerError):
        prepared(head_of(f"Content-Type: {value}"))
    with pytest.raises(PeerError):
        prepared(head_of("Content-Type: a/b\nContent-Type: c/d"))


# ---- destination ----


def checked(head: RequestHead, host: str = "api.example.com", port: int = 443) -> None:
    check_host(head, split_target(head)[0], prepared(head), host, port, 443)


@pytest.mark.parametrize("host", ["api.example.com", "API.example.com", "api.example.com:443"])
def test_the_host_of_the_connection_is_let_through(host: str) -> None:
    checked(head_of("", host=host))
    checked(head_of("", f"GET https://{host}/a HTTP/1.1", host))


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("GET /a HTTP/1.1", "other.example.com"),
        ("GET /a HTTP/1.1", "api.example.com:8443"),
        ("GET /a HTTP/1.1", "api.example.com.evil.net"),
        ("GET /a HTTP/1.1", "192.0.2.1"),
        ("GET https://other.example.com/a HTTP/1.1", "api.example.com"),
        ("GET https://api.example.com/a HTTP/1.1", "other.example.com"),
        ("GET https://api.example.com:80/a HTTP/1.1", "api.example.com"),
    ],
)
def test_another_host_is_misdirected(line: str, host: str) -> None:
    with pytest.raises(Denied) as caught:
        checked(head_of("", line, host))
    assert caught.value.rule == "host-mismatch"


@pytest.mark.parametrize("host", ["a b", "user@api.example.com", "api.example.com:x", "a_b/c", "[::1", "a\x00b"])
def test_a_malformed_host_is_refused(host: str) -> None:
    with pytest.raises((PeerError, Denied)):
        checked(head_of("", host=host))


def test_connect_is_for_proxies() -> None:
    with pytest.raises(Denied) as caught:
        checked(head_of("", "CONNECT api.example.com:443 HTTP/1.1"))
    assert caught.value.rule == "no-connect"


def test_no_host_at_all_is_refused() -> None:
    with pytest.raises(PeerError) as caught:
        checked(head_of("", "GET /a HTTP/1.0", ""))
    assert caught.value.code == "missing-host"
    with pytest.raises(PeerError):
        head_of("", "GET /a HTTP/1.1", "")


@pytest.mark.parametrize("value", ["x", "100-continue, y", "200-ok"])
def test_expect_is_100_continue(value: str) -> None:
    with pytest.raises(PeerError):
        head_of(f"Expect: {value}")
    assert head_of("Expect: 100-Continue").expect_continue


# ---- what policy sees ----


def test_policy_sees_names_and_never_a_secret() -> None:
    head = head_of(
        f"Authorization: Bearer {PLACEHOLDER}\nContent-Type: text/plain",
        f"POST /a/%62?key={PLACEHOLDER}&x=1&x=2 HTTP/1.1",
    )
    result, operation = judged(head)
    assert operation == Operation("http", "POST", "/a/b", ("key", "x"), "text/plain", "", ("token",))
    assert f"Bearer {REAL}".encode() in result.lines
    assert result.target == f"/a/%62?key={REAL}&x=1&x=2".encode()
    assert result.head().startswith(b"POST /a/%62?key=")
    assert [name for name, _ in result.used] == ["token", "token"]
    for text in (repr(result), repr(operation), result.path, repr(prepared(head, SWAPPER))):
        assert REAL not in text
        assert PLACEHOLDER not in text


def test_a_placeholder_in_a_path_goes_on_as_it_is_and_is_named_on_the_record() -> None:
    result, operation = judged(head_of("", f"GET /a/{PLACEHOLDER}/b HTTP/1.1"))
    assert result.target == f"/a/{PLACEHOLDER}/b".encode()
    assert result.path == "/a/{token}/b"
    assert operation.credentials == ()
    assert "token@path" in result.stray


def test_what_is_not_a_placeholder_of_this_job_is_a_candidate() -> None:
    result, operation = judged(head_of("Authorization: Bearer stolen"))
    assert result.candidates == (b"stolen",)
    assert operation.credentials == ()


@pytest.mark.parametrize("target", ["/a//b", "/a/../b", "/a?%", "/%00", "/a%2F..", "/a\\b"])
def test_a_target_with_two_readings_is_refused(target: str) -> None:
    with pytest.raises(PeerError):
        judged(head_of("", f"GET {target} HTTP/1.1"))


def test_an_absolute_target_goes_on_in_origin_form() -> None:
    result, operation = judged(head_of("", "GET https://api.example.com/x?y HTTP/1.1"))
    assert result.target == b"/x?y"
    assert operation.path == "/x"
    assert judged(head_of("", "OPTIONS * HTTP/1.1"))[1].path == "*"


# ---- responses ----


def response(text: bytes, method: str = "GET") -> ResponseHead:
    reader = ResponseReader(65536, 200)
    reader.expect(method)
    head = reader.feed(text)[0]
    assert isinstance(head, ResponseHead)
    return head


@pytest.mark.parametrize(
    ("text", "changes", "version", "framing"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", False, 1, "length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True, 1, "chunked"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True, 0, "close"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False, 1, "chunked"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False, 0, "close"),
        (b"HTTP/1.1 200 OK\r\n\r\n", False, 1, "chunked"),
        (b"HTTP/1.1 204 No\r\n\r\n", True, 1, "none"),
        (b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", True, 1, "none"),
    ],
)
def test_response_framing(text: bytes, changes: bool, version: int, framing: str) -> None:
    assert response_framing(response(text), length_changes=changes, version=version) == framing


def test_a_length_that_is_announced_without_a_body_stays() -> None:
    head = response(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD")
    assert b"Content-Length: 7\r\n" in response_head(head, end_to_end(head), b"OK", "none", close=False)
    head = response(b"HTTP/1.1 204 No\r\nX: y\r\n\r\n")
    assert response_head(head, end_to_end(head), b"No", "none", close=True) == (
        b"HTTP/1.1 204 No\r\nX: y\r\nConnection: close\r\n\r\n"
    )
