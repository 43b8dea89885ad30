"""The processes of one running appliance, and what /proc says of them. Takes root."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.world.appliance import Appliance

NAMES = ("kernel", "vault", "control", "proxy")


def pids(appliance: Appliance) -> dict[str, int]:
    """Name -> pid, of those that run now."""
    found: dict[str, int] = {}
    config = os.fsencode(str(appliance.config_file))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if config in words and b"appliance.daemon" in words:
            found[words[words.index(b"appliance.daemon") + 1].decode()] = int(entry.name)
    return found


def all_running(appliance: Appliance, but: dict[str, int] | None = None) -> dict[str, int]:
    """`pids`, once all four are there and none of them is one of `but`. Raises TimeoutError after 20 s."""
    end = time.monotonic() + 20
    while True:
        found = pids(appliance)
        if set(found) == set(NAMES) and not set((but or {}).values()) & set(found.values()):
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"only {found} run:\n{appliance.log()}")
        time.sleep(0.02)


def status(pid: int) -> dict[str, list[str]]:
    """/proc/PID/status, each line's words."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


def times_in_memory(pid: int, text: bytes) -> int:
    """How often `text` lies in the process's memory."""
    found = 0
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if "w" not in rights or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            try:
                memory.seek(start)
                found += memory.read(end - start).count(text)
            except OSError:
                continue  # unmapped meanwhile, or a device
    return found


def gone(pid: int, patience: float = 10.0) -> bool:
    """Has it ended (or will it within `patience` seconds)?"""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in ("Z", "X"):
            return True
        time.sleep(0.01)
    return False
