"""CPU seconds and memory of a process and everything below it, from /proc (proc(5))."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")  # a second, 100 everywhere: a window of one second is exact to 1 %
_ESTABLISHED = "01"  # <net/tcp_states.h>


def _stat(pid: int) -> list[str] | None:
    """The fields from "state" on (the third, index 0 here), or None if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()  # the name before may hold spaces and brackets


def tree(root: int) -> list[int]:
    """The pids of `root` and its descendants that live now, `root` first."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            children[int(fields[1])].append(int(entry))
    found = [root]
    for pid in found:  # grows while it is walked
        found.extend(children[pid])
    return found


def cpu_seconds(root: int) -> float:
    """user + system time of the tree, including children that have ended and were waited for."""
    ticks = 0
    for pid in tree(root):
        fields = _stat(pid)
        if fields is not None:
            ticks += sum(int(field) for field in fields[11:15])  # utime stime cutime cstime
    return ticks / _TICKS


def pss_kb(pid: int) -> int:
    """Proportional set size in KiB: pages shared by n processes count 1/n. 0 if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) if match else 0


def tree_pss_kb(root: int) -> int:
    return sum(pss_kb(pid) for pid in tree(root))


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def connections_to(root: int, address: str, port: int) -> int:
    """How many established TCP connections to the IPv4 `address` the tree holds."""
    octets = bytes(int(part) for part in address.split("."))
    remote = f"{int.from_bytes(octets, 'little'):08X}:{port:04X}"  # as the kernel of a little-endian machine prints it
    pids = tree(root)
    rows = [row.split() for row in Path(f"/proc/{root}/net/tcp").read_text().splitlines()[1:]]
    wanted = {row[9] for row in rows if row[2] == remote and row[3] == _ESTABLISHED}
    return len(wanted & set().union(*(_socket_inodes(pid) for pid in pids)))


def _socket_inodes(pid: int) -> set[str]:
    found: set[str] = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            target = os.readlink(entry.path)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended, or closed one while we looked
    return found


def pin(root: int, cpu: int) -> None:
    """Every thread of the tree runs on `cpu` alone from now on, and so does what it starts."""
    for pid in tree(root):
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), {cpu})
        except (FileNotFoundError, ProcessLookupError):
            continue


def begin_peak(root: int) -> float:
    """Megabytes of resident memory that the tree has now; `tree_peak_mb` counts from here on."""
    for pid in tree(root):
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM
        except (FileNotFoundError, ProcessLookupError):
            continue
    return _resident_mb(root, "VmRSS")


def tree_peak_mb(root: int) -> float:
    """The sum of the processes' peaks since `begin_peak`: more than the tree had at any one time, if anything."""
    return _resident_mb(root, "VmHWM")


def _resident_mb(root: int, field: str) -> float:
    total = 0
    for pid in tree(root):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        match = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
        total += int(match[1]) if match else 0
    return total / 1024
