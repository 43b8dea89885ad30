"""Whatever a service gives back of the credential, the agent gets the placeholder; and nobody else gets either."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote_from_bytes

import brotli
import pytest
import zstandard

from tests.e2e.agent import Agent, Reply
from tests.e2e.canary import files_with, seen_in
from tests.e2e.raw_service import Connection, RawService, Request, response
from tests.e2e.raw_spine import PORT, RAW, with_raw
from tests.e2e.spine import HOST, Spine
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world
ODD = 'p4ss/w+rd="q&<x>%41~ABCDEFGHIJ0123456789'  # what JSON, URLs and HTML write in another way
HEADERS = {"demo": "Authorization: Bearer {}", "odd": "X-Odd: {}"}
REAL = {"demo": TOKEN, "odd": ODD}


def _change(config: dict[str, Any], policy: dict[str, Any]) -> None:
    with_raw(config, policy)
    config["secrets"][0]["shape"] = {"regex": "ghp_[A-Za-z0-9]{36}"}  # a sample would be the credential itself
    odd = {
        "name": "odd",
        "from": {"environment": "ODD_CREDENTIAL"},
        "shape": {"regex": 'p4ss[A-Za-z0-9/+"&<>%=~]{36}'},
        "env": "ODD",
        "destinations": ["raw"],
        "hosts": [RAW],
        "slots": [{"in": "header", "name": "x-odd"}],
    }
    config["secrets"].append(odd)
    policy["destinations"][-1]["secrets"].append("odd")
    policy["destinations"][-1]["allow_range"] = False


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change, environment={"ODD_CREDENTIAL": ODD}) as made:
        yield made


@pytest.fixture(scope="module")
def agent(spine: Spine) -> Iterator[Agent]:
    with Agent(spine) as made:
        yield made


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}
CODERS: dict[str, Callable[[bytes], bytes]] = {
    "identity": lambda data: data,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
# how a service may write a credential in a text; the same is done to the placeholder, which the agent must get
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text,
    "base64-0": lambda text: base64.b64encode(b"" + text + b"."),
    "base64-1": lambda text: base64.b64encode(b"u" + text + b".."),
    "base64-2": lambda text: base64.b64encode(b"us" + text),
    "base64-basic": lambda text: base64.b64encode(b"user:" + text),
    "base64url": lambda text: base64.urlsafe_b64encode(b"?>" + text),
    "base64-mime": lambda text: base64.encodebytes(b"x" * 40 + text + b"y" * 40),
    "url": lambda text: quote_from_bytes(text, safe="").encode(),
    "url-all": lambda text: b"".join(b"%%%02X" % code for code in text),
    "url-twice": lambda text: quote_from_bytes(quote_from_bytes(text, safe="").encode(), safe="").encode(),
    "json": lambda text: json.dumps(text.decode()).encode(),
    "json-slash": lambda text: json.dumps(text.decode()).replace("/", "\\/").encode(),
    "json-u": lambda text: b"".join(rb"\u%04x" % code for code in text),
    "html": lambda text: text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;"),
    "html-numbers": lambda text: b"".join(b"&#%d;" % code for code in text),
    "hex": lambda text: text.hex().encode(),
    "hex-upper": lambda text: text.hex().upper().encode(),
}


class Echo:
    """Gives the credential back as `self.how` says: a function of it that returns the whole raw response."""

    def __init__(self) -> None:
        self.how: Callable[[bytes], bytes] = response
        self.got: list[bytes] = []
        self.pause = 0.0
        self.step = 0

    def __call__(self, connection: Connection, request: Request) -> bool:
        odd = re.search(rb"(?im)^x-odd: (.*)\r$", request.head)
        credential = odd[1] if odd else request.credential
        self.got.append(credential)
        data = self.how(credential)
        if not self.step:
            connection.write(data)
        for start in range(0, len(data) if self.step else 0, self.step or 1):
            connection.write(data[start : start + self.step])
            time.sleep(self.pause)
        return False


@pytest.fixture(scope="module")
def served(spine: Spine) -> Iterator[Echo]:
    made = Echo()
    with RawService(spine.world, PORT, made, pair=spine.authority.issue(RAW)):
        yield made


@pytest.fixture
def echo(served: Echo) -> Echo:
    served.got.clear()
    served.step, served.pause = 0, 0.0
    return served


def _ask(agent: Agent, name: str = "demo", *headers: str, method: str = "GET") -> tuple[Reply, bytes]:
    """The answer, and the placeholder that was sent."""
    placeholder = agent.placeholder if name == "demo" else agent.environment["ODD"]
    lines = [*headers, HEADERS[name].format(placeholder)]
    if name == "odd":
        lines.append("Authorization: none")
    reply = agent.get("/x", *lines, host=RAW, port=PORT, method=method)
    return reply, placeholder.encode()


def _check(echo: Echo, reply: Reply, secret: str) -> None:
    assert echo.got == [REAL[secret].encode()], reply
    assert not seen_in(REAL[secret], reply.received), reply.received


def _plain(reply: Reply, coding: str = "identity") -> bytes:
    """The body without chunks and content coding."""
    head, _, body = reply.received.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        plain = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            count = int(size, 16)
            if not count:
                break
            plain, body = plain + body[:count], body[count + 2 :]
        body = plain
    return CODERS[coding](body)


# ---- every spelling, in every coding ----


@pytest.mark.parametrize("secret", ["demo", "odd"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_in_a_body_becomes_the_placeholders(
    agent: Agent, echo: Echo, spelling: str, secret: str
) -> None:
    spell = SPELLINGS[spelling]
    echo.how = lambda credential: response(b"before " + spell(credential) + b" after")
    reply, placeholder = _ask(agent, secret)
    _check(echo, reply, secret)
    assert not seen_in(REAL[secret], _reread(spelling, reply.body[7:-6]))
    if secret == "demo":
        expected = b"before " + spell(placeholder) + b" after"
        if spelling == "html-numbers":  # a character of two digits has no room for one of three
            assert len(reply.body) == len(b"before " + spell(TOKEN.encode()) + b" after")
        else:
            same = bytes.lower if spelling.startswith("url") else bytes  # %6a is %6A
            assert same(reply.body) == same(expected)


def _reread(spelling: str, text: bytes) -> bytes:
    """What a reader who knows the spelling gets."""
    if spelling.startswith("base64"):
        return base64.b64decode(text.strip().replace(b"-", b"+").replace(b"_", b"/"))
    return bytes.fromhex(text.decode()) if spelling.startswith("hex") else text


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("chunked", [False, True])
def test_every_coding_is_looked_into(agent: Agent, echo: Echo, coding: str, chunked: bool) -> None:
    def how(credential: bytes) -> bytes:
        data = CODINGS[coding](b"a" * 100000 + credential + b"b" * 70000 + SPELLINGS["base64-1"](credential))
        if not chunked:
            return response(data, f"Content-Encoding: {coding}")
        pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body

    echo.how = how
    reply, placeholder = _ask(agent, "demo", f"Accept-Encoding: {coding}")
    _check(echo, reply, "demo")
    plain = _plain(reply, coding)
    assert not seen_in(TOKEN, plain)
    assert plain == b"a" * 100000 + placeholder + b"b" * 70000 + SPELLINGS["base64-1"](placeholder)


def test_codings_on_codings(agent: Agent, echo: Echo) -> None:
    echo.how = lambda c: response(gzip.compress(brotli.compress(b"see " + c)), "Content-Encoding: br, gzip")
    reply, placeholder = _ask(agent, "demo", "Accept-Encoding: gzip, br")
    _check(echo, reply, "demo")
    assert brotli.decompress(_plain(reply, "gzip")) == b"see " + placeholder


@pytest.mark.parametrize("coding", ["compress", "aes128gcm", "gzip", "x"])
def test_what_cannot_be_looked_into_is_not_passed_on(agent: Agent, echo: Echo, coding: str) -> None:
    echo.how = lambda credential: response(b"not at all coded " + credential, f"Content-Encoding: {coding}")
    reply, _ = _ask(agent)
    _check(echo, reply, "demo")
    assert reply.status in (0, 502), reply


def test_a_part_that_nobody_asked_for_is_not_passed_on(agent: Agent, echo: Echo) -> None:
    echo.how = lambda c: response(c[:20], f"Content-Range: bytes 0-19/{len(c)}", status="206 Partial Content")
    reply, _ = _ask(agent, "demo", "Range: bytes=0-19")
    assert reply.status == 502
    assert TOKEN[:20].encode() not in reply.received


# ---- places ----


@pytest.mark.parametrize(
    "header",
    [
        "X-Echo: {}",
        "Location: https://other.test/?token={}",
        "Set-Cookie: session={}; Path=/; HttpOnly",
        'WWW-Authenticate: Bearer realm="x", error="bad token {}"',
        "X-{}: in the name",
        "Link: <https://x/{}>; rel=next",
        'Content-Type: text/plain; note="{}"',
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "401 Unauthorized", "500 Internal Server Error"])
def test_headers_of_any_answer(agent: Agent, echo: Echo, header: str, status: str) -> None:
    echo.how = lambda c: response(b"error: " + c, header.format(c.decode()), status=status)
    reply, placeholder = _ask(agent)
    _check(echo, reply, "demo")
    assert reply.status == int(status[:3])
    assert header.format(placeholder.decode()).encode() in reply.received
    assert reply.body == b"error: " + placeholder


def test_the_reason_informational_heads_and_trailers(agent: Agent, echo: Echo) -> None:
    def how(credential: bytes) -> bytes:
        early = b"HTTP/1.1 103 Early %b\r\nLink: </%b>\r\n\r\n" % (credential, credential)
        head = b"HTTP/1.1 200 Hello %b\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n" % credential
        return early + head + b"2\r\nok\r\n0\r\nX-T: %b\r\nX-%b: 1\r\n\r\n" % (credential, credential)

    echo.how = how
    reply, placeholder = _ask(agent, "demo", "TE: trailers", "Connection: TE")
    _check(echo, reply, "demo")
    assert b"Link: </" + placeholder + b">" in reply.received
    assert b"X-T: " + placeholder in reply.received


def test_head_and_bodies_that_end_with_the_connection(agent: Agent, echo: Echo) -> None:
    echo.how = lambda c: b"HTTP/1.1 200 OK\r\nX-Echo: %b\r\nConnection: close\r\n\r\n%b" % (c, c)
    reply, placeholder = _ask(agent)
    _check(echo, reply, "demo")
    assert reply.received.count(placeholder) == 2


def test_http_1_0_agents_too(agent: Agent, echo: Echo) -> None:
    echo.how = lambda c: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(c), c)
    data = f"GET / HTTP/1.0\r\nHost: {RAW}:{PORT}\r\nAuthorization: Bearer {agent.placeholder}\r\n\r\n"
    reply = agent.raw(data, host=RAW, port=PORT, responses=0)
    _check(echo, reply, "demo")
    assert reply.body == agent.placeholder.encode()


# ---- cuts ----


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("spelling", ["plain", "base64-2", "json-u"])
def test_cut_into_chunks_of_seven_bytes(agent: Agent, echo: Echo, spelling: str, chunked: bool) -> None:
    spell = SPELLINGS[spelling]

    def how(credential: bytes) -> bytes:
        data = b"x" * 5 + spell(credential) + b"y" * 9
        if not chunked:
            return response(data)
        pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"

    echo.how, echo.step, echo.pause = how, 13, 0.002
    reply, placeholder = _ask(agent)
    assert echo.got == [TOKEN.encode()]
    assert not seen_in(TOKEN, reply.received, _plain(reply))
    assert _plain(reply) == b"x" * 5 + spell(placeholder) + b"y" * 9


@pytest.mark.parametrize("edge", [16384, 65536, 131072, 262144])
def test_at_the_edges_of_records_and_reads(agent: Agent, echo: Echo, edge: int) -> None:
    """The credential across each place at which a buffer of that size may end, in one large body."""
    places = [edge * n - cut for n, cut in ((1, 1), (2, len(TOKEN) - 1), (3, len(TOKEN) // 2), (4, 0), (5, len(TOKEN)))]

    def body(text: bytes) -> bytes:
        data = bytearray(b"." * (edge * 6))
        for place in places:
            data[place : place + len(text)] = text
        return bytes(data)

    def answer(before: int, credential: bytes) -> bytes:
        return response(b"-" * before + body(credential))

    for before in (0, 38, 100):  # the head moves the edges, too
        echo.got.clear()
        echo.how = partial(answer, before)
        reply, placeholder = _ask(agent)
        _check(echo, reply, "demo")
        assert reply.body == b"-" * before + body(placeholder)


def test_a_body_that_is_cut_off_within_the_credential_gives_nothing_of_it(agent: Agent, echo: Echo) -> None:
    echo.how = lambda c: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsecret: " + c[:30]
    reply, _ = _ask(agent)
    assert reply.end == "reset" or "EOF" in reply.end, reply
    assert TOKEN[:30].encode() not in reply.received


# ---- and nobody else ----


def test_the_credential_is_nowhere_but_in_the_vault(spine: Spine, agent: Agent, echo: Echo) -> None:
    """Runs last: the log, the record, the metrics, the state, what a job can read, after all that was done above."""
    spine.shell(f'curl -sS -H "Authorization: Bearer $DEMO_TOKEN" https://{HOST}/echo')
    seen = [
        spine.appliance.cli(*words).stdout
        for words in (("status", "--json"), ("flows", "--json"), ("jobs", "--json"), ("audit", "show"), ("doctor",))
    ]
    socket = str(spine.appliance.run_dir / "coatcheck.sock")
    seen.append(spine.world.run(["curl", "-sS", "--unix-socket", socket, "http://x/metrics"]).stdout)
    seen.append(spine.appliance.log())
    seen.append(json.dumps(agent.call("environment")))
    assert "coatcheck_" in seen[5]
    records = json.dumps(spine.appliance.audit())
    for real in (TOKEN, ODD):
        for text in (*seen, records):
            assert not seen_in(real, text)
        vault, pins = spine.appliance.state_dir / "vault", spine.appliance.run_dir / "bpf"
        assert files_with(real, spine.world.dir, (spine.log, vault, pins, spine.appliance.root)) == []
    assert agent.placeholder not in records
    assert agent.environment["ODD"] not in records
