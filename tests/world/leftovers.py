"""What worlds left behind whose process was killed before it could tidy up: found by name, removed by the next one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.world.cgroup import cgroup2_mount, remove_tree

PREFIX = "cc"
_OURS = re.compile(PREFIX + r"-(\d+)-[0-9a-f]{6}")
_NETNS = Path("/run/netns")


def _dead(names: Iterable[str]) -> set[str]:
    """Names of worlds, of those given, whose maker is no longer there."""
    found = (_OURS.match(name) for name in names)
    return {match[0] for match in found if match is not None and not os.path.exists(f"/proc/{match[1]}")}


def remove_leftovers() -> list[str]:
    """Ends what runs in the worlds of makers that are gone, and removes their cgroups, namespaces and folders.

    Their names, for whoever wants to tell.
    """
    cgroups, folders = cgroup2_mount(), Path(tempfile.gettempdir())
    gone = _dead([*os.listdir(cgroups), *(os.listdir(_NETNS) if _NETNS.is_dir() else []), *os.listdir(folders)])
    for name in gone:
        remove_tree(cgroups / name)
        for file in _NETNS.glob(f"{name}-*"):
            subprocess.run(["umount", "--lazy", str(file)], capture_output=True, check=False)  # if it is mounted here
            file.unlink(missing_ok=True)
        for folder in folders.glob(f"{name}-*"):
            _remove(folder)
    return sorted(gone)


def _remove(folder: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(folder, ignore_errors=True)  # another world may be removing it too
