"""The smuggling catalogue and everything else that a reader must refuse, with the code it is refused by."""

from __future__ import annotations

import pytest

from appliance.model.errors import InternalError, PeerError
from appliance.wire.http1 import (
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
    end_to_end,
    last_chunk,
    write_response,
)
from tests.wire.exchanges import write_request

HOST = b"Host: a\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


REQUESTS: list[tuple[str, bytes]] = [
    # CL.TE, TE.CL and TE.TE
    ("ambiguous-framing", post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nX")),
    ("ambiguous-framing", post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"5c\r\nGPOST")),
    ("ambiguous-framing", post(b"Content-Length: 0\r\nTransfer-Encoding: identity\r\n")),
    ("repeated-header", post(b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", b"0\r\n\r\n")),
    ("repeated-header", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    *(
        ("bad-transfer-encoding", post(b"Transfer-Encoding: " + value + b"\r\n", b"0\r\n\r\n"))
        for value in (
            b"xchunked",
            b"chunked, identity",
            b"identity, chunked",
            b"gzip, chunked",
            b"chunked,",
            b"chunked;q=1",
            b'"chunked"',
            b"x",
            b"identity",
            b"",
            b"\xffchunked",
        )
    ),
    ("space-before-colon", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    ("space-before-colon", post(b"Content-Length\t: 1\r\n", b"a")),
    ("bad-header-value", post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n")),
    ("bad-header-value", post(b"Transfer-Encoding:\x0cchunked\r\n")),
    ("obs-fold", post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n")),
    ("obs-fold", post(b"X: 1\r\n\tTransfer-Encoding: chunked\r\n")),
    ("obs-fold", b"POST / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("bare-lf", post(b"X: 1\nTransfer-Encoding: chunked\r\n")),
    ("bare-cr", post(b"X: 1\rTransfer-Encoding: chunked\r\n")),
    ("bare-lf", b"POST / HTTP/1.1\nHost: a\n\n"),
    ("bare-lf", b"POST / HTTP/1.1\r\nHost: a\r\n\n"),
    ("ambiguous-framing", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # Content-Length
    ("repeated-header", post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc")),
    ("repeated-header", post(b"Content-Length: 3\r\ncontent-length: 4\r\n", b"abc")),
    *(
        ("bad-content-length", post(b"Content-Length: " + value + b"\r\n"))
        for value in (
            b"+3",
            b"-1",
            b"3, 3",
            b"3,4",
            b"0x3",
            b"3 3",
            b"1_0",
            b"",
            b"\xb2",
            b"3.0",
            b"9223372036854775808",
            b"99999999999999999999",
        )
    ),
    # Host
    ("missing-host", b"GET / HTTP/1.1\r\n\r\n"),
    ("missing-host", b"GET / HTTP/1.1\r\nHost: \r\n\r\n"),
    ("missing-host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("repeated-header", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("repeated-header", b"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n"),
    ("repeated-header", post(b"Authorization: a\r\nAuthorization: b\r\n")),
    # first line
    ("bad-start-line", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-start-line", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-start-line", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("bad-start-line", b"GET /\r\nHost: a\r\n\r\n"),
    ("bad-start-line", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-method", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-method", b"A" * 33 + b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-version", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("bad-version", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("bad-version", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    ("bad-version", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(
        ("bad-target", b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        for target in (
            b"/\xc3\xa9",
            b"/a#b",
            b"/\x00",
            b"/\x7f",
            b"/\t",
            b"*",
            b"a",
            b"example.com:443",
            b"ftp://a/",
            b"http:///x",
            b"http://u:p@a/",
            b"https://a\\@b/",
            b"//",
        )
        if target != b"//"
    ),
    ("bad-target", b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad-target", b"CONNECT u@a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    # fields
    ("bad-header-name", post(b": x\r\n")),
    ("bad-header-name", post(b"X(Y): x\r\n")),
    ("bad-header-name", post(b"X\xc3: x\r\n")),
    ("bad-header-name", post(b"X\x00: x\r\n")),
    ("bad-header", post(b"no colon here\r\n")),
    ("bad-header-value", post(b"X: a\x00b\r\n")),
    ("bad-header-value", post(b"X: a\x1bb\r\n")),
    ("bad-header-value", post(b"X: \x7f\r\n")),
    ("bad-connection", post(b"Connection: close, Host\r\n")),
    ("bad-connection", post(b"Connection: authorization\r\n")),
    ("bad-header-value", post(b"Connection: close, a b\r\n")),
    ("bad-expect", post(b"Expect: 200-ok\r\n")),
    ("bad-upgrade", post(b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n")),
    ("too-many-headers", post(b"X: y\r\n" * 60)),
    ("head-too-large", post(b"X: " + b"y" * 5000 + b"\r\n")),
    ("head-too-large", b"GET /" + b"y" * 5000),
    # chunks
    *(
        ("bad-chunk-size", chunked(body))
        for body in (
            b"\r\n",
            b"g\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"-1\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\t\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\rhello",
            b"5;a\nb\r\nhello\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"5;a\x00\r\nhello\r\n",
            b"5;" + b"a" * 300,
            b"8000000000000000\r\n",
            b"FFFFFFFFFFFFFFFF\r\n",
            b"00000000000000005\r\n",
            b";a=b\r\n",
            b"5,5\r\nhello\r\n",
        )
    ),
    *(
        ("bad-chunk", chunked(body))
        for body in (b"5\r\nhelloX\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\rX", b"4\r\nhello\r\n0\r\n\r\n")
    ),
    *(
        ("bad-trailer", chunked(b"0\r\n" + name + b": x\r\n\r\n"))
        for name in (
            b"Transfer-Encoding",
            b"content-length",
            b"Host",
            b"Authorization",
            b"Cookie",
            b"Connection",
            b"Trailer",
            b"Content-Type",
        )
    ),
    ("obs-fold", chunked(b"0\r\nX: a\r\n b\r\n\r\n")),
    ("bare-lf", chunked(b"0\r\nX: a\nY: b\r\n\r\n")),
    ("data-after-close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("data-after-close", b"GET / HTTP/1.0\r\n\r\nX"),
]


def feed(reader: RequestReader | ResponseReader, data: bytes, step: int) -> None:
    for i in range(0, len(data), step):
        reader.feed(data[i : i + step])


@pytest.mark.parametrize(("code", "data"), REQUESTS)
def test_requests_that_are_refused(code: str, data: bytes) -> None:
    for step in (len(data), 1, 7):
        reader = RequestReader(4096, 50)
        with pytest.raises(PeerError) as caught:
            feed(reader, data, step)
        if step == len(data):
            assert caught.value.code == code


RESPONSES: list[tuple[str, str, bytes]] = [
    ("bad-version", "GET", b"HTTP/2 200 OK\r\n\r\n"),
    ("bad-version", "GET", b"ICY 200 OK\r\n\r\n"),
    ("bad-start-line", "GET", b"HTTP/1.1 20 OK\r\n\r\n"),
    ("bad-start-line", "GET", b"HTTP/1.1 2000 OK\r\n\r\n"),
    ("bad-start-line", "GET", b"HTTP/1.1 099 OK\r\n\r\n"),
    ("bad-start-line", "GET", b"HTTP/1.1 600 OK\r\n\r\n"),
    ("bad-start-line", "GET", b"HTTP/1.1 200 O\x00K\r\n\r\n"),
    ("bare-lf", "GET", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("ambiguous-framing", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("ambiguous-framing", "GET", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("ambiguous-framing", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("ambiguous-framing", "GET", b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n"),
    ("ambiguous-framing", "GET", b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("ambiguous-framing", "GET", b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n"),
    ("ambiguous-framing", "CONNECT", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    ("bad-transfer-encoding", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ("repeated-header", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"),
    ("unexpected-upgrade", "POST", b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("unexpected-response", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    ("unexpected-response", "GET", b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ("unexpected-response", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"),
    ("too-many-1xx", "GET", b"HTTP/1.1 103 E\r\n\r\n" * 17),
]


@pytest.mark.parametrize(("code", "method", "data"), RESPONSES)
def test_responses_that_are_refused(code: str, method: str, data: bytes) -> None:
    for step in (len(data), 1):
        reader = ResponseReader(4096, 50)
        reader.expect(method)
        with pytest.raises(PeerError) as caught:
            feed(reader, data, step)
        if step == len(data):
            assert caught.value.code == code


def test_an_answer_that_nobody_asked_for() -> None:
    with pytest.raises(PeerError):
        ResponseReader(4096, 50).feed(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_a_response_cut_short(data: bytes) -> None:
    reader = ResponseReader(4096, 50)
    reader.expect("GET")
    reader.feed(data)
    with pytest.raises(PeerError) as caught:
        reader.eof()
    assert caught.value.code == "truncated"


def test_no_response_at_all() -> None:
    reader = ResponseReader(4096, 50)
    assert reader.eof() == []
    reader.expect("GET")
    with pytest.raises(PeerError) as caught:
        reader.eof()
    assert caught.value.code == "closed-before-response"


def test_upgrades_pause_the_request_reader() -> None:
    reader = RequestReader(4096, 50)
    ask = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    events = reader.feed(ask + b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n")
    head = events[0]
    assert isinstance(head, RequestHead)
    assert head.upgrade == "websocket"
    assert len(events) == 2
    assert reader.paused
    assert reader.leftover.startswith(b"GET /two")
    again = reader.resume()
    assert isinstance(again[0], RequestHead)
    assert again[0].target == b"/two"
    assert not reader.paused


def test_upgraded_responses_end_http() -> None:
    reader = ResponseReader(4096, 50)
    reader.expect("GET", upgrade=True)
    events = reader.feed(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00")
    assert isinstance(events[0], ResponseHead)
    assert len(events) == 2
    assert reader.upgraded
    assert reader.leftover == b"\x81\x00"


def test_fields_for_one_hop_are_removed() -> None:
    reader = RequestReader(4096, 50)
    head = reader.feed(
        post(
            b"Connection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers;q=0.5\r\n"
            b"PROXY-Authorization: Basic x\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-Kept: 1\r\n"
            b"Transfer-Encoding: chunked\r\nCookie: a\r\nCookie: b\r\n",
            b"0\r\n\r\n",
        )
    )[0]
    assert isinstance(head, RequestHead)
    assert end_to_end(head) == [(b"Host", b"a"), (b"X-Kept", b"1"), (b"Cookie", b"a"), (b"Cookie", b"b")]
    assert head.te_trailers
    assert head.upgrade == ""
    assert head.get(b"cookie") == b"a, b"
    assert head.get_all(b"cookie") == [b"a", b"b"]
    assert head.get_all(b"x-kept") == [b"1"]
    assert head.get_all(b"x-none") == []


@pytest.mark.parametrize(
    "header",
    [
        (b"X", b"a\r\nY: b"),
        (b"X", b"a\nb"),
        (b"X", b"a\rb"),
        (b"X", b"a\0b"),
        (b"X\r\nY", b"b"),
        (b"X Y", b"b"),
        (b"", b"b"),
        (b"Content-Length", b"3"),
        (b"TRANSFER-encoding", b"chunked"),
        (b"connection", b"close"),
    ],
)
def test_writers_refuse_what_could_split_a_message(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(InternalError):
        write_request("GET", b"/", [(b"Host", b"a"), header], "none")
    with pytest.raises(InternalError):
        write_response(200, b"OK", [header], "none")
    with pytest.raises(InternalError):
        last_chunk([header])


def test_writers_refuse_first_lines_that_could_split_a_message() -> None:
    for method, target in (("G T", b"/"), ("GET\r\n", b"/"), ("", b"/"), ("GET", b"/ a"), ("GET", b""), ("GÉT", b"/")):
        with pytest.raises(InternalError):
            write_request(method, target, [], "none")
    for status, reason in ((99, b"x"), (600, b"x"), (200, b"a\r\nb"), (200, b"\0")):
        with pytest.raises(InternalError):
            write_response(status, reason, [], "none")
    with pytest.raises(InternalError):
        write_response(101, b"x", [], "none", upgrade="a\r\nb")
    with pytest.raises(InternalError):
        write_request("GET", b"/", [], "length")
