"""The cgroup2 mount, ids and paths, and the patterns that say which cgroups are governed."""

from __future__ import annotations

import ctypes
import os
import re
from collections import OrderedDict
from pathlib import Path

from appliance.model.errors import EnvironmentFailed

_FILEID_KERNFS = 0xFE  # <linux/exportfs.h>
_CACHED = 8192


def cgroup2_mount() -> Path:
    """Where cgroup2 is mounted (proc(5), mountinfo). Raises EnvironmentFailed."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4].encode().decode("unicode_escape"))
    raise EnvironmentFailed("cgroup2", "no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")


class _Handle(ctypes.Structure):
    """`struct file_handle` (open_by_handle_at(2)) of a cgroup: its id."""

    _fields_ = (("bytes", ctypes.c_uint32), ("type", ctypes.c_int32), ("id", ctypes.c_uint64))


class CgroupTree:
    """Ids and paths below the mount. Paths are text, "/a/b" ("/" is the root); an id names one cgroup for ever."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self._fd = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._paths: OrderedDict[int, str] = OrderedDict()

    def close(self) -> None:
        os.close(self._fd)

    def file(self, path: str) -> Path:
        return self.mount / path.lstrip("/")

    def id_of(self, path: str) -> int:
        """The cgroup id (the directory's inode number), remembered with its path. Raises FileNotFoundError."""
        cgroup_id = self.file(path).stat().st_ino
        self._remember(cgroup_id, path)
        return cgroup_id

    def path_of(self, cgroup_id: int) -> str:
        """The path, also of a cgroup that is gone if it was asked for before; "" if it is not known.
        About 10 us the first time; takes CAP_DAC_READ_SEARCH."""
        path = self._paths.get(cgroup_id)
        if path is not None:
            self._paths.move_to_end(cgroup_id)
            return path
        path = self.path_now(cgroup_id)
        if path:
            self._remember(cgroup_id, path)
        return path

    def path_now(self, cgroup_id: int) -> str:
        """The path of a cgroup that exists; "" if it does not."""
        handle = _Handle(8, _FILEID_KERNFS, cgroup_id)
        flags = os.O_RDONLY | os.O_CLOEXEC
        fd = self._libc.open_by_handle_at(self._fd, ctypes.byref(handle), flags)
        if fd < 0:
            return ""
        try:
            full = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        mount = str(self.mount)
        if full == mount:
            return "/"
        return full[len(mount) :] if full.startswith(mount + "/") else ""

    def _remember(self, cgroup_id: int, path: str) -> None:
        self._paths[cgroup_id] = path
        self._paths.move_to_end(cgroup_id)
        while len(self._paths) > _CACHED:
            self._paths.popitem(last=False)


def populated(cgroup: Path) -> bool:
    """Has the cgroup, or one below it, a process? (cgroups(7), cgroup.events). A cgroup that is gone has none."""
    try:
        return "populated 1" in (cgroup / "cgroup.events").read_text()
    except OSError:  # ENOENT, or ENODEV while it is being removed
        return False


def segments(pattern: str) -> list[re.Pattern[str]]:
    """A pattern (`*` within one segment) as one expression for each path segment."""
    return [
        re.compile(".*".join(re.escape(part) for part in segment.split("*")), re.DOTALL)
        for segment in pattern.strip("/").split("/")
    ]
