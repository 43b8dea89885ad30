"""HTTP/1.1 through the appliance: what is right works in both directions, what is ambiguous reaches no service."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent import Agent
from tests.e2e.raw_service import Connection, RawService, Request, response
from tests.e2e.raw_spine import PORT, RAW, with_raw
from tests.e2e.spine import Spine
from tests.world import OUTSIDE4
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world
REFUSED = "refused.test"  # a destination whose every request is denied
GB = 1 << 30


def _change(config: dict[str, Any], policy: dict[str, Any]) -> None:
    with_raw(config, policy)
    config["dns"]["hosts"][REFUSED] = [OUTSIDE4]
    policy["destinations"].append(
        {"name": "refused", "hosts": [REFUSED], "principals": ["agent"], "rules": [], "addresses": [f"{OUTSIDE4}/32"]}
    )


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        yield made


@pytest.fixture(scope="module")
def agent(spine: Spine) -> Iterator[Agent]:
    with Agent(spine) as made:
        yield made


def _answer(connection: Connection, request: Request) -> bool:
    path = request.path.partition("?")[0]
    if path == "/chunked":
        connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        for piece in (b"one", b"two", b"three"):
            connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.write(b"0\r\nX-Sum: abc\r\n\r\n")
    elif path == "/204":
        connection.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    elif path == "/304":
        connection.write(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 12\r\n\r\n')
    elif path == "/until-close":
        connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
        return False
    elif path == "/continue":
        connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = connection.exactly(5)
        connection.write(response(b"got " + body))
    elif path == "/upload":
        body = _dechunked(connection) if b"chunked" in request.head.lower() else request.body
        connection.write(response(hashlib.sha256(body).hexdigest().encode()))
    elif request.method == "HEAD":
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    else:
        connection.write(response(path.encode()))
    return True


def _dechunked(connection: Connection) -> bytes:
    parts = []
    while size := int(connection.until(b"\r\n").split(b";")[0] or b"0", 16):
        parts.append(connection.exactly(size))
        connection.exactly(2)
    connection.until(b"\r\n")
    return b"".join(parts)


@pytest.fixture(scope="module")
def service(spine: Spine) -> Iterator[RawService]:
    with RawService(spine.world, PORT, _answer, pair=spine.authority.issue(RAW), body=True) as made:
        yield made


@pytest.fixture
def raw(service: RawService) -> RawService:
    service.clear()
    return service


def _request(path: str, *headers: str, method: str = "GET", body: str = "", version: str = "1.1") -> str:
    return "\r\n".join([f"{method} {path} HTTP/{version}", f"Host: {RAW}:{PORT}", *headers, "", body])


def _worker(spine: Spine) -> int:
    """The pid of the one proxy worker."""
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if b"appliance.daemon" in line and b"proxy" in line and str(spine.appliance.config_file).encode() in line:
            return int(folder.name)
    raise AssertionError("there is no proxy worker")


def _memory(pid: int) -> int:
    """Resident bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


# ---- framing ----


def test_one_connection_takes_many_requests(agent: Agent, raw: RawService) -> None:
    reply = agent.raw(*[_request(f"/{n}") for n in range(5)], host=RAW, port=PORT, responses=5, pause=0.02)
    assert reply.received.count(b"HTTP/1.1 200") == 5
    assert [request.path for request in raw.requests] == [f"/{n}" for n in range(5)]
    assert len(raw.accepted) == 1


def test_pipelined_requests_are_answered_in_order(agent: Agent, raw: RawService) -> None:
    paths = ["/a", "/chunked", "/b", "/204", "/304", "/c"]
    reply = agent.raw("".join(map(_request, paths)), host=RAW, port=PORT, responses=6)
    assert re.findall(rb"HTTP/1.1 (\d+)", reply.received) == [b"200", b"200", b"200", b"204", b"304", b"200"]
    assert [request.path for request in raw.requests] == paths
    assert reply.received.endswith(b"\r\n\r\n/c")


def test_chunks_and_trailers_come_back(agent: Agent, raw: RawService) -> None:
    reply = agent.raw(_request("/chunked", "TE: trailers", "Connection: TE"), host=RAW, port=PORT)
    assert re.sub(rb"[0-9a-f]+\r\n([a-z]+)\r\n", rb"\1", reply.body).startswith(b"onetwothree")
    assert reply.received.endswith(b"0\r\nX-Sum: abc\r\n\r\n")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_arrives_as_it_was_sent(agent: Agent, raw: RawService, chunked: bool) -> None:
    body = "".join(chr(n % 251) for n in range(70000))
    if chunked:
        pieces = [body[i : i + 4093] for i in range(0, len(body), 4093)]
        encoded = "".join(f"{len(piece):x}\r\n{piece}\r\n" for piece in pieces) + "0\r\n\r\n"
        data = _request("/upload", "Transfer-Encoding: chunked", method="POST", body=encoded)
    else:
        data = _request("/upload", f"Content-Length: {len(body)}", method="POST", body=body)
    reply = agent.raw(data, host=RAW, port=PORT)
    assert reply.body == hashlib.sha256(body.encode("latin-1")).hexdigest().encode()


def test_expect_100_continue_is_the_services_to_answer(spine: Spine, agent: Agent) -> None:
    port = PORT + 1
    with RawService(spine.world, port, _answer, pair=spine.authority.issue(RAW), body=False):
        data = f"PUT /continue HTTP/1.1\r\nHost: {RAW}:{port}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        agent.call("begin", number=1, host=RAW, port=port, data=data)
        first = agent.call("receive", number=1, least=16)["received"]
        assert first.startswith("HTTP/1.1 100 ")
        agent.call("send", number=1, data="hello")
        assert "got hello" in agent.call("receive", number=1, least=40)["received"]
        agent.call("finish", number=1)


def test_a_refused_request_is_told_before_its_body(agent: Agent) -> None:
    data = f"PUT / HTTP/1.1\r\nHost: {REFUSED}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    reply = agent.raw(data, host=REFUSED)
    assert reply.status == 403
    assert reply.kind == "denied:refused/default-deny"


def test_responses_without_a_body(agent: Agent, raw: RawService) -> None:
    head = agent.raw(_request("/x", method="HEAD"), host=RAW, port=PORT, head_only=True)
    assert b"Content-Length: 1234" in head.received
    assert head.body == b""
    assert agent.raw(_request("/204"), host=RAW, port=PORT).received.endswith(b"\r\n\r\n")
    assert b'ETag: "x"' in agent.raw(_request("/304"), host=RAW, port=PORT).received


def test_http_1_0(agent: Agent, raw: RawService) -> None:
    reply = agent.raw(_request("/chunked", version="1.0"), host=RAW, port=PORT, responses=0)
    assert reply.end == "eof"
    assert reply.body == b"onetwothree"
    assert b"chunked" not in reply.received
    kept = _request("/x", "Connection: keep-alive", version="1.0")
    assert agent.raw(kept, kept, host=RAW, port=PORT, responses=2, pause=0.05).end == "complete"


def test_a_body_that_ends_with_the_connection(agent: Agent, raw: RawService) -> None:
    reply = agent.raw(_request("/until-close"), host=RAW, port=PORT)
    assert reply.status == 200
    assert b"all of it" in reply.received


# ---- upgrades ----

_UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + "A" * 22 + "==",
)
_EXTENSIONS = "Sec-WebSocket-Extensions: permessage-deflate"


def _websocket(connection: Connection, request: Request) -> bool:
    """Says the credential in a message of two fragments, then gives back every frame's payload in capitals."""
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request.head)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    connection.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )
    secret = request.credential
    connection.write(bytes((0x01, 20)) + secret[:20] + bytes((0x80, len(secret) - 20)) + secret[20:])
    while len(head := connection.exactly(6)) == 6:
        payload = connection.exactly(head[1] & 0x7F)
        plain = bytes(byte ^ head[2 + i % 4] for i, byte in enumerate(payload))
        connection.write(bytes((0x81, len(plain))) + plain)
    return False


def _masked(text: bytes) -> str:
    mask = b"\x01\x02\x03\x04"
    return (bytes((0x81, 0x80 | len(text))) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text))).decode(
        "latin-1"
    )


def test_websocket_messages_go_both_ways_at_once_and_are_scrubbed(spine: Spine, agent: Agent) -> None:
    port = PORT + 2
    with RawService(spine.world, port, _websocket, pair=spine.authority.issue(RAW)) as service:
        lines = ["GET /ws HTTP/1.1", f"Host: {RAW}:{port}", f"Authorization: Bearer {agent.placeholder}"]
        agent.call("begin", number=2, host=RAW, port=port, data="\r\n".join([*lines, *_UPGRADE, _EXTENSIONS, "", ""]))
        frames = len(TOKEN) + 4
        got = ""
        while len(got.partition("\r\n\r\n")[2]) < frames:
            got += agent.call("receive", number=2)["received"]
        assert got.startswith("HTTP/1.1 101 ")
        said = got.partition("\r\n\r\n")[2]
        assert said[2:22] + said[24:] == agent.placeholder
        assert TOKEN.encode() == service.requests[0].credential
        assert b"permessage-deflate" not in service.requests[0].head
        for text in (b"ping", b"ending", b"g", b"gh", b"ghp_", agent.placeholder[:30].encode()):
            agent.call("send", number=2, data=_masked(text))
            back = agent.call("receive", number=2, least=2 + len(text), wait=15)
            assert back["received"].encode("latin-1") == bytes((0x81, len(text))) + text
        agent.call("finish", number=2)


def test_an_upgrade_that_policy_does_not_name_is_denied(spine: Spine, agent: Agent, raw: RawService) -> None:
    data = _request("/up", "Connection: Upgrade", "Upgrade: something")
    reply = agent.raw(data, host=RAW, port=PORT)
    assert reply.status == 403
    assert "upgrade" in reply.kind
    assert raw.requests == []
    before = len(spine.received())
    reply = agent.get("/ws", *_UPGRADE, host="service.test")
    assert reply.status == 403
    assert len(spine.received()) == before


def test_http_goes_on_after_an_upgrade_that_was_not_accepted(agent: Agent, raw: RawService) -> None:
    reply = agent.raw(_request("/ws", *_UPGRADE) + _request("/after"), host=RAW, port=PORT, responses=2)
    assert reply.received.endswith(b"/after")
    assert [request.path for request in raw.requests] == ["/ws", "/after"]


# ---- memory ----


def _giant(connection: Connection, request: Request) -> bool:
    block = b"0123456789abcdef" * 16384
    if request.method == "GET":
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * GB))
        for _ in range(2 * GB // len(block)):
            connection.write(block)
    else:
        left = 2 * GB
        buffer = bytearray(1 << 20)
        left -= len(connection.read(1 << 20))
        while left > 0:
            left -= connection.sock.recv_into(buffer)
        connection.write(response(b"all"))
    return True


def test_memory_does_not_grow_with_a_body(spine: Spine, agent: Agent) -> None:
    port, worker = PORT + 3, _worker(spine)
    with RawService(spine.world, port, _giant, pair=spine.authority.issue(RAW), body=False):
        agent.get("/warm", host="service.test")
        before = _memory(worker)
        url = f"https://{RAW}:{port}/big"
        token = '-H "Authorization: Bearer $DEMO_TOKEN"'
        down = spine.shell(f"curl -sS {token} -o /dev/null -w '%{{size_download}}' {url}", timeout=60)
        assert down.stdout == str(2 * GB), down.stderr
        between = _memory(worker)
        file = spine.world.dir / "big"
        with open(file, "wb") as sparse:
            sparse.truncate(2 * GB)
        up = spine.shell(f"curl -sS {token} -H Expect: -T {file} {url}", timeout=60)
        assert up.stdout == "all", up.stderr
        assert between - before < 16 << 20
        assert _memory(worker) - before < 16 << 20


def test_an_agent_that_does_not_read_fills_nothing(spine: Spine, agent: Agent) -> None:
    port, worker = PORT + 4, _worker(spine)
    with RawService(spine.world, port, _giant, pair=spine.authority.issue(RAW), body=False):
        before = _memory(worker)
        data = f"GET /big HTTP/1.1\r\nHost: {RAW}:{port}\r\n\r\n"
        for number in range(10, 20):
            agent.call("begin", number=number, host=RAW, port=port, data=data, small=True)
        time.sleep(1.0)  # in which a gigabyte would come
        grown = _memory(worker) - before
        for number in range(10, 20):
            agent.call("finish", number=number)
        assert grown < 10 * (2 << 20)


def test_refusals_that_nobody_reads_fill_nothing(spine: Spine, agent: Agent) -> None:
    worker = _worker(spine)
    request = f"GET / HTTP/1.1\r\nHost: {REFUSED}\r\n\r\n"
    before = _memory(worker)
    agent.call("begin", number=20, host=REFUSED, port=443, data=request)
    end = "sent"
    for _ in range(100):
        end = agent.call("send", number=20, data=request * 4000, most=1)
        if end != "sent":
            break
    grown = _memory(worker) - before
    agent.call("finish", number=20)
    assert end == "timeout"  # it is told to wait
    assert grown < 24 << 20


def test_thousands_of_pipelined_refusals_are_all_answered(agent: Agent) -> None:
    count = 3000
    data = f"GET / HTTP/1.1\r\nHost: {REFUSED}\r\n\r\n" * count
    agent.call("begin", number=21, host=REFUSED, port=443, data=data)
    received, end = "", ""
    while received.count("HTTP/1.1 403") < count and not end:
        more = agent.call("receive", number=21, least=60000, wait=15)
        received, end = received + more["received"], more["end"]
    agent.call("finish", number=21)
    assert received.count("HTTP/1.1 403") == count


# ---- what may be read in two ways ----

_HOST = f"Host: {RAW}:{PORT}\r\n"
_NEXT = f"GET /smuggled HTTP/1.1\r\n{_HOST}\r\n"
SMUGGLING = {
    "cl.te": f"POST / HTTP/1.1\r\n{_HOST}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{_NEXT}",
    "te.cl": f"POST / HTTP/1.1\r\n{_HOST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n35\r\n{_NEXT}0\r\n\r\n",
    "te.te": f"POST / HTTP/1.1\r\n{_HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{_NEXT}",
    "te-tab": f"POST / HTTP/1.1\r\n{_HOST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{_NEXT}",
    "te-list": f"POST / HTTP/1.1\r\n{_HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{_NEXT}",
    "te-1.0": f"POST / HTTP/1.0\r\n{_HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{_NEXT}",
    "cl.cl": f"POST / HTTP/1.1\r\n{_HOST}Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello{_NEXT}",
    "cl-sign": f"POST / HTTP/1.1\r\n{_HOST}Content-Length: +5\r\n\r\nhello{_NEXT}",
    "obs-fold": f"GET / HTTP/1.1\r\n{_HOST}X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n{_NEXT}",
    "bare-lf": f"GET / HTTP/1.1\n{_HOST}\r\n{_NEXT}",
    "bare-lf-field": f"GET / HTTP/1.1\r\n{_HOST}X-A: b\nX-B: c\r\n\r\n{_NEXT}",
    "space-colon": f"POST / HTTP/1.1\r\n{_HOST}Content-Length : 5\r\n\r\nhello{_NEXT}",
    "two-hosts": f"GET / HTTP/1.1\r\n{_HOST}Host: evil.test\r\n\r\n",
    "no-host": "GET / HTTP/1.1\r\nX-A: b\r\n\r\n",
    "absolute": f"GET http://evil.test/ HTTP/1.1\r\n{_HOST}\r\n",
    "userinfo": f"GET https://{RAW}:{PORT}@evil.test/ HTTP/1.1\r\n{_HOST}\r\n",
    "host-userinfo": f"GET / HTTP/1.1\r\nHost: x@{RAW}:{PORT}\r\n\r\n",
    "host-nul": f"GET / HTTP/1.1\r\nHost: evil.test\0.{RAW}:{PORT}\r\n\r\n",
    "name-nul": f"GET / HTTP/1.1\r\n{_HOST}X-\0A: b\r\n\r\n",
    "chunk-size": f"POST / HTTP/1.1\r\n{_HOST}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk-lf": f"POST / HTTP/1.1\r\n{_HOST}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "connection-host": f"GET / HTTP/1.1\r\n{_HOST}Connection: host\r\n\r\n",
    "connect": f"CONNECT evil.test:443 HTTP/1.1\r\n{_HOST}\r\n",
    "trace": f"TRACE / HTTP/1.1\r\n{_HOST}\r\n",
    "dots": f"GET /a/../admin HTTP/1.1\r\n{_HOST}\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_is_ambiguous_reaches_no_service(agent: Agent, raw: RawService, name: str) -> None:
    reply = agent.raw(SMUGGLING[name], host=RAW, port=PORT, wait=15)
    assert reply.status in (400, 403, 421), reply
    assert reply.problem["status"] == reply.status
    assert raw.requests == []


def test_a_chunked_body_that_turns_bad_ends_without_a_second_request(agent: Agent, raw: RawService) -> None:
    head = _request("/upload", "Transfer-Encoding: chunked", method="POST")
    reply = agent.raw(head + "5\r\nhello\r\n", "zz\r\n" + _NEXT, host=RAW, port=PORT, pause=0.2, wait=15)
    assert reply.status != 200
    assert [request.path for request in raw.requests] in ([], ["/upload"])


def test_a_server_that_says_more_than_was_asked_is_not_believed(spine: Spine, agent: Agent) -> None:
    """A response that nobody asked for must not be taken for the next request's."""

    def double(connection: Connection, request: Request) -> bool:
        connection.write(response(b"first") + response(b"poison"))
        return True

    port = PORT + 5
    with RawService(spine.world, port, double, pair=spine.authority.issue(RAW)):
        data = f"GET / HTTP/1.1\r\nHost: {RAW}:{port}\r\n\r\n"
        reply = agent.raw(data, data, host=RAW, port=port, responses=2, pause=0.2, wait=15)
        assert b"poison" not in reply.received
