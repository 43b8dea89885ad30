"""Cgroup trees that a world makes: found by the kernel's own list of mounts, killed and removed as a whole."""

from __future__ import annotations

import os
import time
from pathlib import Path


def cgroup2_mount() -> Path:
    """Where cgroup2 is mounted (proc(5), mountinfo). Raises RuntimeError with what to do if it is not."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4].encode().decode("unicode_escape"))
    raise RuntimeError("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")


def remove_tree(root: Path, timeout: float = 10.0) -> None:
    """Kills every process below `root` and removes the tree. Raises TimeoutError after `timeout` seconds."""
    if not root.exists():
        return
    end = time.monotonic() + timeout
    while True:
        try:
            (root / "cgroup.kill").write_text("1")
            for folder, _, _ in os.walk(root, topdown=False):
                os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:  # EBUSY: a killed process has not been reaped by the kernel yet
            if time.monotonic() > end:
                raise TimeoutError(f"{root} could not be emptied in {timeout:g} s") from None
            time.sleep(0.01)
        else:
            return
