"""The agent's side of a raw exchange. Run as a program in a job, it does what lines of JSON on its standard input ask.

In: {"call": NAME, "arguments": {…}}. Out: {"result": …} or {"error": "…"}. Bytes travel as Latin-1 text.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from typing import Any

_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)\r?$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding: *chunked\r?$")
_opened: dict[int, socket.socket] = {}


def exchange(
    host: str,
    port: int,
    pieces: list[str],
    *,
    address: str = "",
    name: str | None = "",
    tls: bool = True,
    alpn: list[str] | None = None,
    verify: bool = True,
    responses: int = 1,
    head_only: bool = False,
    pause: float = 0.0,
    wait: float = 15.0,
) -> dict[str, Any]:
    """Connects, sends the pieces `pause` seconds apart, and reads until `responses` whole ones are there (0: until the
    end) or the connection ends. `name`: the SNI; "" the host, None none at all."""
    result: dict[str, Any] = {"received": "", "end": "complete", "certificate": ""}
    data = b""
    try:
        sock = _connect(host, port, address, name, tls, alpn, verify, wait)
    except (OSError, ValueError) as error:
        return {**result, "end": _word(error)}
    with sock:
        try:
            if isinstance(sock, ssl.SSLSocket):
                certificate = sock.getpeercert(binary_form=True)
                result["certificate"] = ssl.DER_cert_to_PEM_cert(certificate) if certificate else ""
            for index, piece in enumerate(pieces):
                if index and pause:
                    time.sleep(pause)
                sock.sendall(piece.encode("latin-1"))
        except OSError as error:
            result["end"] = _word(error)
        try:
            while not responses or not _complete(data, responses, head_only):
                more = sock.recv(1 << 20)
                if not more:
                    result["end"] = "eof"
                    break
                data += more
        except OSError as error:
            result["end"] = _word(error)
    return {**result, "received": data.decode("latin-1")}


def _connect(
    host: str,
    port: int,
    address: str,
    name: str | None,
    tls: bool,
    alpn: list[str] | None,
    verify: bool,
    wait: float,
) -> socket.socket:
    plain = socket.create_connection((address or host, port), wait)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return plain
    context = ssl.create_default_context()
    if name is None or not verify:
        context.check_hostname = False
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # an end without close_notify must not look like one
    if alpn:
        context.set_alpn_protocols(alpn)
    try:
        asked = (name or host) if name is not None else None
        return context.wrap_socket(plain, server_hostname=asked, suppress_ragged_eofs=False)
    except BaseException:
        plain.close()
        raise


def _word(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "reset"
    return f"{type(error).__name__}: {error}"


def _complete(data: bytes, count: int, head_only: bool) -> bool:
    position = 0
    while count:
        end = data.find(b"\r\n\r\n", position)
        if end < 0:
            return False
        head, position = data[position : end + 2], end + 4
        found = _HEAD.match(head)
        status = int(found[1]) if found else 0
        if 100 <= status < 200 and status != 101:
            continue
        count -= 1
        length = _LENGTH.search(head)
        if head_only or status in (101, 204, 304):
            continue
        if _CHUNKED.search(head):
            end = data.find(b"\r\n0\r\n", position - 2)
            end = data.find(b"\r\n\r\n", end + 3) if end >= 0 else -1
            if end < 0:
                return False
            position = end + 4
        elif length:
            position += int(length[1])
            if position > len(data):
                return False
        else:
            return False  # until the end
    return True


def together(count: int, **arguments: Any) -> list[dict[str, Any]]:
    """`count` exchanges at the same instant."""
    results: list[dict[str, Any]] = []
    gate = threading.Barrier(count)

    def one() -> None:
        gate.wait()
        results.append(exchange(**arguments))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def begin(number: int, host: str, port: int, data: str, *, wait: float = 15.0, small: bool = False) -> None:
    """Opens connection `number`, sends `data`, and reads nothing. `small`: with a small receive buffer."""
    sock = _connect(host, port, "", "", True, None, True, wait)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(data.encode("latin-1"))
    _opened[number] = sock


def send(number: int, data: str, most: float = 15.0) -> str:
    """Sends on; "sent", or "timeout" if it does not get away within `most` seconds."""
    _opened[number].settimeout(most)
    try:
        _opened[number].sendall(data.encode("latin-1"))
    except OSError as error:
        return _word(error)
    return "sent"


def receive(number: int, least: int = 1, wait: float = 15.0) -> dict[str, str]:
    """At least so many bytes, or what came until the end or the time-out."""
    sock, data = _opened[number], b""
    sock.settimeout(wait)
    try:
        while len(data) < least:
            more = sock.recv(1 << 16)
            if not more:
                return {"received": data.decode("latin-1"), "end": "eof"}
            data += more
    except OSError as error:
        return {"received": data.decode("latin-1"), "end": _word(error)}
    return {"received": data.decode("latin-1"), "end": ""}


def drain(number: int, wait: float = 15.0) -> dict[str, Any]:
    """Reads to the end and keeps nothing: how many bytes there were."""
    sock, count = _opened[number], 0
    sock.settimeout(wait)
    buffer = bytearray(1 << 20)
    try:
        while size := sock.recv_into(buffer):
            count += size
    except OSError as error:
        return {"count": count, "end": _word(error)}
    return {"count": count, "end": "eof"}


def finish(number: int) -> None:
    _opened.pop(number).close()


def environment() -> dict[str, str]:
    return dict(os.environ)


def main() -> None:
    calls = {each.__name__: each for each in (exchange, together, begin, send, receive, drain, finish, environment)}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"result": calls[asked["call"]](**asked["arguments"])}
        except Exception as error:  # the test is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
