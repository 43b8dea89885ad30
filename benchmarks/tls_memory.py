"""What OpenSSL itself takes: prints KiB for one server side and one client side after a handshake (TLS 1.3), as a proxy
holds them for one connection that it ends and one that it makes. `tls_memory.py CHAIN_AND_KEY CA HOST`."""

from __future__ import annotations

import re
import ssl
import sys
from pathlib import Path

PAIRS = 400


def pss_kb() -> int:
    match = re.search(r"^Pss:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1])


def pair(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    ends[1].write(b"x" * 200)  # and the tickets go with it
    ends[0].read(4096)
    return ends


def main(chain: str, ca: str, host: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    client = ssl.create_default_context(cafile=ca)
    warm = [pair(server, client, host) for _ in range(20)]
    before = pss_kb()
    held = [pair(server, client, host) for _ in range(PAIRS)]
    print(round((pss_kb() - before) / PAIRS, 1))
    assert warm
    assert held


if __name__ == "__main__":
    main(*sys.argv[1:])
