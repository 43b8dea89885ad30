"""The programs that make the load: shell commands (they run in a job, where $BENCH_TOKEN is), and what they answer.

wrk makes nearly all of it: one thread, one event loop in C; with `Connection: close` a whole handshake for each
request, many at a time (openssl s_time makes one after the other, h2load does not connect again); with a delay of its
own for each connection, few requests that do not come in bursts (h2load's timers all start together). curl fetches the
large body.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import BenchmarkFailed
from benchmarks.upstream import HOST

HEADER = '-H "Authorization: Bearer $BENCH_TOKEN"'
URL = f"https://{HOST}"
LONGEST = 300  # seconds; a generator is stopped when its window is over

# Called by wrk before each request. Until `warm` seconds are over there are none: connections are being made.
DELAY_LUA = """
local begin, warm, mean = os.time(), 0, 0
function init(args)
    warm, mean = tonumber(args[1]), tonumber(args[2])
    math.randomseed(42)
end
function delay()
    local left = begin + warm - os.time()
    if left > 0 then return 1000 * left + math.random(0, mean) end
    return math.random(math.floor(mean / 2), math.ceil(mean * 3 / 2))
end
function done(summary, latency)
    io.write(string.format("latency %d %d %d\\n", summary.requests, latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(connections: int, *, close: bool = False) -> str:
    """Requests for /1k as fast as they are answered, until SIGINT."""
    extra = ' -H "Connection: close"' if close else ""
    return f"exec wrk -t1 -c{connections} -d{LONGEST} --timeout 60s {HEADER}{extra} {URL}/1k"


def check_wrk(output: str, *, close: bool = False) -> None:
    """Raises BenchmarkFailed if any answer was wrong. With `close`, wrk counts some closed connections as read errors
    when it is interrupted; only answers count there."""
    if "requests in" not in output:
        raise BenchmarkFailed(f"wrk told no result: {output[-800:]}")
    if match := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
        raise BenchmarkFailed(f"{match[1]} answers were errors")
    match = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    if match and not close and any(int(number) for number in match.groups()):
        raise BenchmarkFailed(match[0])


def slow_wrk(script: Path, connections: int, rate: float, warm: float, window: float) -> str:
    """`rate` requests a second over all connections for `window` seconds, after `warm` seconds to make them.

    `script` holds DELAY_LUA. The connections' delays are random, so that requests do not meet more than chance has it.
    """
    mean = max(2, round(1000 * connections / rate))  # milliseconds between two requests of one connection
    whole = math.ceil(warm)  # wrk and Lua count in whole seconds
    return (
        f"exec wrk -t1 -c{connections} -d{whole + math.ceil(window)} --timeout 60s -s {shlex.quote(str(script))} "
        f"{HEADER} {URL}/1k -- {whole} {mean}"
    )


@dataclass(frozen=True)
class Latency:
    """Milliseconds, from the request's first byte sent to the answer's last byte received."""

    p50: float
    p99: float


def read_slow_wrk(output: str) -> Latency:
    """Raises BenchmarkFailed for errors, or fewer than 100 requests: too few for a 99th percentile."""
    check_wrk(output)
    match = re.search(r"^latency (\d+) (\d+) (\d+)$", output, re.MULTILINE)
    if match is None or int(match[1]) < 100:
        raise BenchmarkFailed(f"too few requests were answered: {output[-800:]}")
    return Latency(int(match[2]) / 1000, int(match[3]) / 1000)


def curl(times: int) -> str:
    """Fetches /200mb over one connection, `times` times; a line for each: status, bytes, seconds."""
    line = r"%{http_code} %{size_download} %{time_starttransfer} %{time_total}\n"
    urls = " ".join(f"-o /dev/null {URL}/200mb" for _ in range(times))
    return f"exec curl -s -S --http1.1 {HEADER} -w '{line}' {urls}"


@dataclass(frozen=True)
class Transfer:
    bytes: int
    seconds: float


def read_curl(output: str, size: int) -> list[Transfer]:
    """From the first byte of the answer to the last. Raises BenchmarkFailed if a body was not whole."""
    transfers = []
    for line in output.splitlines():
        status, received, first, last = line.split()
        if status != "200" or int(received) != size:
            raise BenchmarkFailed(f"status {status} with {received} of {size} bytes")
        transfers.append(Transfer(int(received), float(last) - float(first)))
    if not transfers:
        raise BenchmarkFailed("curl told no result")
    return transfers


def probe() -> str:
    """One request; prints the status. The certificate is verified with CURL_CA_BUNDLE."""
    return f"exec curl -s -S --http1.1 {HEADER} -o /dev/null -w '%{{http_code}}' {URL}/1k"
