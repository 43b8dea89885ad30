"""Keeps HTTPS connections open, alone on its CPU: `hold.py HOST PATH`. For each number that it reads from stdin it
brings its open connections up to that many, sends a request on each new one *at once*, reads the answers, and prints
the number. The connections stay open until stdin ends.

All requests of a batch are sent together to a path that answers slowly: so that a proxy, too, needs as many
connections as there are clients, and cannot serve them all over one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys

HANDSHAKES = 50  # at a time

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def request(connection: Connection, host: str, path: str) -> None:
    reader, writer = connection
    token = os.environ["BENCH_TOKEN"]
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if lines[0].split()[1] != "200":
        raise SystemExit(f"the answer was {lines[0]}")
    length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
    await reader.readexactly(length)


async def main(host: str, path: str) -> None:
    context = ssl.create_default_context(cafile=os.environ["CURL_CA_BUNDLE"])
    gate = asyncio.Semaphore(HANDSHAKES)
    held: list[Connection] = []

    async def connect() -> Connection:
        async with gate:
            return await asyncio.open_connection(host, 443, ssl=context)

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        new = await asyncio.gather(*(connect() for _ in range(int(line) - len(held))))
        await asyncio.gather(*(request(connection, host, path) for connection in new))
        held.extend(new)
        print(len(held), flush=True)
    os._exit(0)  # the kernel closes them all; a goodbye for each would take seconds


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
