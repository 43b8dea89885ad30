"""Exchanges that are valid, as clients and servers send them; a head as the product writes it."""

from __future__ import annotations

from typing import Any

from appliance.wire.http1 import Header, write_fields, write_request_line

REQUESTS: list[bytes] = [
    b"GET /a?b=c HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
    b"POST /a HTTP/1.1\r\nhost:api.example.com\r\nContent-Length:5\r\nX-Empty:\r\nX-Pad:  a b \t\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"GET /with-body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nTE: trailers\r\n\r\n"
    b"5\r\nhello\r\n0A;name=value\r\n0123456789\r\n0\r\n\r\n",
    b"PUT /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    b"1\r\n\r\r\n2\r\n\r\n\r\n000\r\nX-Checksum: abc\r\nX-Two: \r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://example.com/x HTTP/1.1\r\nHost: example.com\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
    b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]

RESPONSES: list[tuple[list[str], bytes]] = [
    (["GET"], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello"),
    (["POST"], b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 \r\n\r\n"),
    (["HEAD", "GET"], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 304\r\nContent-Length: 9\r\n\r\n"),
    (["HEAD"], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (
        ["GET", "GET"],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
        b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nGrpc-Status: 0\r\n\r\n"
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    ),
    (["POST"], b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil the end\r\n\r\n0\r\n\r\n"),
    (["GET"], b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    (["CONNECT"], b"HTTP/1.1 200 OK\r\n\r\n"),
]


def write_request(
    method: str, target: bytes, headers: list[Header], framing: Any, length: int = -1, **options: Any
) -> bytes:
    """A whole head, as the product puts it together."""
    return write_request_line(method, target) + write_fields(headers, framing, length, **options)
