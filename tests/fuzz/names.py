"""Names: what is taken is a fixed point, ASCII, and never an address in disguise."""

from __future__ import annotations

import random
import socket

from appliance.wire.names import canonical_host, literal_of, split_host_port
from tests.fuzz.runner import Harness, main


def check(data: bytes, chance: random.Random) -> None:
    host, port = split_host_port(data, 443)
    if canonical_host(host) != host or not 0 < port < 65536 or not host.isascii():
        raise AssertionError("a canonical host is not a fixed point")
    if literal_of(host) is None:
        try:
            socket.inet_aton(host)
        except OSError:
            return
        raise AssertionError("what the C library takes for an address is taken for a name")


HARNESS = Harness(
    "names",
    [b"api.example.com:443", b"1.2.3.4", b"[2001:db8::1]:80", b"xn--bcher-kva.example.", b"[::ffff:1.2.3.4]"],
    [
        b".",
        b"..",
        b":",
        b"[",
        b"]",
        b"0x",
        b"127.1",
        b"-",
        b"%",
        b"@",
        b"\0",
        b"_",
        b"::",
        b"0",
        b"\xc3\xbc",
        b"a" * 63,
    ],
    check,
)

if __name__ == "__main__":
    main(HARNESS)
