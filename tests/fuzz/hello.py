"""The ClientHello: a hello, or a wish for more bytes than there are."""

from __future__ import annotations

import random
import ssl

from appliance.wire.names import canonical_host
from appliance.wire.tls import MAX_HELLO, ClientHello, parse_hello
from tests.fuzz.runner import Harness, main


def from_openssl(name: str) -> bytes:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def check(data: bytes, chance: random.Random) -> None:
    found = parse_hello(data)
    if isinstance(found, int):
        if not len(data) < found <= len(data) + MAX_HELLO:
            raise AssertionError(f"{found} bytes are asked for where there are {len(data)}")
        return
    if found.server_name and canonical_host(found.server_name) != found.server_name:
        raise AssertionError("the name is not canonical")
    shorter = parse_hello(data[: chance.randint(0, len(data))])
    if isinstance(shorter, ClientHello) and shorter != found:
        raise AssertionError("less of the same bytes is another hello")


HARNESS = Harness(
    "hello",
    [from_openssl("api.example.com"), from_openssl("x" * 60 + ".example"), b"\x16\x03\x01\x00\x04\x01\x00\x00\x2f"],
    [
        b"\x00",
        b"\xff",
        b"\x00\x00",
        b"\xff\xff",
        b"\x16\x03\x01\x00\x01",
        b"\x00\x01",
        b"\xfe\x0d\x00\x00",
        b"\x00\x10",
    ],
    check,
)

if __name__ == "__main__":
    main(HARNESS)
