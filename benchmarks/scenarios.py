"""What is measured, one function a measurement. Each gives the figures of one target in one round by the names that
they have in the JSON."""

from __future__ import annotations

import signal
import subprocess
import time

from benchmarks.generators import DELAY_LUA, check_wrk, curl, read_curl, read_slow_wrk, slow_wrk, wrk
from benchmarks.results import BenchmarkFailed, Figures
from benchmarks.setting import Setting
from benchmarks.targets import Target
from benchmarks.upstream import BODY_BYTES

NEW_AT_A_TIME = 16
_PATIENCE = 60.0  # seconds until the first answer


def keepalive(setting: Setting, target: Target, connections: int, warm: float, window: float) -> Figures:
    """Requests for 1 KiB as fast as they go, over connections that stay open.

    What is counted lies within a window of `window` seconds that begins `warm` seconds after the first answer: the
    upstream's own count of requests, and the CPU time of the target's processes. So neither the start of the
    generator nor the handshakes are part of it.
    """
    requests, cpu, seconds = _within_window(setting, target, wrk(connections), warm, window, close=False)
    figures = {"requests_per_s": requests / seconds}
    if target.root is not None:
        figures["requests_per_cpu_s"] = requests / cpu if cpu else 0.0
    return figures


def new_connections(setting: Setting, target: Target, warm: float, window: float) -> Figures:
    """A connection for each request, 16 at a time."""
    script = wrk(NEW_AT_A_TIME, close=True)
    requests, cpu, seconds = _within_window(setting, target, script, warm, window, close=True)
    figures = {"connections_per_s": requests / seconds}
    if target.root is not None:
        figures["connections_per_cpu_s"] = requests / cpu if cpu else 0.0
    return figures


def _within_window(
    setting: Setting, target: Target, script: str, warm: float, window: float, *, close: bool
) -> tuple[int, float, float]:
    """(requests, CPU seconds, seconds) of the window. Raises BenchmarkFailed."""
    upstream = setting.upstream
    idle = upstream.requests()
    generator = target.client(script)
    try:
        _wait_for_answers(target, generator, setting, idle)
        time.sleep(warm)
        begin, requests, cpu = time.monotonic(), upstream.requests(), target.cpu_seconds()
        time.sleep(window)
        end, requests_after, cpu_after = time.monotonic(), upstream.requests(), target.cpu_seconds()
    finally:
        output = stop(generator)
    try:
        check_wrk(output, close=close)
    except BenchmarkFailed as failure:
        raise BenchmarkFailed(f"{target.name}: {failure}\n{target.log()}") from None
    return requests_after - requests - 1, cpu_after - cpu, end - begin


def _wait_for_answers(target: Target, generator: subprocess.Popen[str], setting: Setting, idle: int) -> None:
    end = time.monotonic() + _PATIENCE
    asked = 1  # our own questions are counted by the upstream as well
    while setting.upstream.requests() - idle - asked < 3:
        asked += 1
        if generator.poll() is not None or time.monotonic() > end:
            raise BenchmarkFailed(f"{target.name} gave no answers: {stop(generator)}\n{target.log()}")
        time.sleep(0.01)


def stop(generator: subprocess.Popen[str]) -> str:
    """Interrupts it and returns what it wrote."""
    if generator.poll() is None:
        generator.send_signal(signal.SIGINT)
    try:
        out, err = generator.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        generator.kill()
        out, err = generator.communicate()
    return out + err


def latency(setting: Setting, target: Target, connections: int, rate: float, warm: float, window: float) -> Figures:
    """How long one request takes when the machine has little to do: `rate` a second over all connections."""
    script = setting.world.dir / "delay.lua"
    script.write_text(DELAY_LUA)
    generator = target.client(slow_wrk(script, connections, rate, warm, window))
    try:
        out, err = generator.communicate(timeout=warm + window + _PATIENCE)
        found = read_slow_wrk(out + err)
    except BenchmarkFailed as failure:
        raise BenchmarkFailed(f"{target.name}: {failure}\n{target.log()}") from None
    finally:
        generator.kill()
    return {"p50_ms": found.p50, "p99_ms": found.p99}


def body(target: Target, times: int) -> Figures:
    """200 MB, `times` times over one connection."""
    cpu = target.cpu_seconds()
    generator = target.client(curl(times))
    out, err = generator.communicate(timeout=120)
    cpu = target.cpu_seconds() - cpu
    try:
        transfers = read_curl(out, BODY_BYTES)
    except BenchmarkFailed as failure:
        raise BenchmarkFailed(f"{target.name}: {failure}: {err}\n{target.log()}") from None
    total = sum(transfer.bytes for transfer in transfers)
    figures = {"mb_per_s": total / 1e6 / sum(transfer.seconds for transfer in transfers)}
    if target.root is not None:
        figures["cpu_s_per_gb"] = cpu / (total / 1e9)
    return figures
