"""Cgroups that come, go and empty, told by inotify(7): cgroupfs reports directories and changes of cgroup.events."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from appliance.kernel.cgroups import CgroupTree, segments
from appliance.model.errors import EnvironmentFailed

_IN_MODIFY = 0x2
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x1000000
_EVENT = struct.Struct("=iIII")  # wd, mask, cookie, len
_DIRECTORY = _IN_CREATE | _IN_DELETE | _IN_ONLYDIR


class Found(NamedTuple):
    path: str
    label: str


class CgroupWatch:
    """`patterns` are (pattern, label). Call `ready()` when `fd` is readable, and `scan()` once at the start.

    `appeared(id, Found)` and `gone(id)` are called for cgroups that match (the first pattern wins), `changed(id)`
    for those that were given to `follow()` whenever their cgroup.events may have changed.
    """

    def __init__(
        self,
        tree: CgroupTree,
        patterns: Sequence[tuple[str, str]],
        *,
        appeared: Callable[[int, Found], None],
        gone: Callable[[int], None],
        changed: Callable[[int], None],
    ) -> None:
        self._tree = tree
        self._patterns = [(segments(pattern), label) for pattern, label in patterns]
        self._appeared, self._gone, self._changed = appeared, gone, changed
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise EnvironmentFailed("inotify", f"inotify_init1: {os.strerror(ctypes.get_errno())}")
        self._folders: dict[int, str] = {}  # watch descriptor -> path
        self._followed: dict[int, int] = {}  # watch descriptor -> cgroup id
        self.found: dict[int, Found] = {}

    def close(self) -> None:
        os.close(self.fd)

    def follow(self, cgroup_id: int, path: str) -> None:
        """Raises EnvironmentFailed if the kernel gives no watch (fs.inotify.max_user_watches)."""
        wd = self._add(f"{path}/cgroup.events", _IN_MODIFY)
        if wd is not None:
            self._followed[wd] = cgroup_id

    def ready(self) -> None:
        changed: set[int] = set()
        scan = False
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                break
            offset = 0
            while offset < len(data):
                wd, mask, _, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size + length
                if wd in self._followed:
                    changed.add(self._followed[wd])
                    if mask & _IN_IGNORED:
                        del self._followed[wd]
                else:  # a folder, or the queue ran over (wd -1)
                    scan = True
                    if mask & _IN_IGNORED:
                        self._folders.pop(wd, None)
        if scan:
            self.scan()
        for cgroup_id in changed:
            self._changed(cgroup_id)

    def scan(self) -> None:
        """Compares what is there with what was. A folder is watched before it is listed, so that nothing is missed."""
        now: dict[int, Found] = {}
        for expressions, label in self._patterns:
            for path in self._matching("", expressions):
                try:
                    now.setdefault(self._tree.id_of(path), Found(path, label))
                except FileNotFoundError:
                    continue  # gone again
        for cgroup_id in [known for known in self.found if known not in now]:
            del self.found[cgroup_id]
            self._gone(cgroup_id)
        for cgroup_id, found in sorted(now.items(), key=lambda item: len(item[1].path)):  # parents first
            if cgroup_id not in self.found:
                self.found[cgroup_id] = found
                self._appeared(cgroup_id, found)

    def _matching(self, folder: str, expressions: Sequence[re.Pattern[str]]) -> list[str]:
        if not expressions:
            return [folder]
        wd = self._add(folder, _DIRECTORY)
        if wd is None:
            return []
        self._folders[wd] = folder
        paths: list[str] = []
        try:
            names = [entry.name for entry in os.scandir(self._tree.file(folder)) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        for name in sorted(names):
            if expressions[0].fullmatch(name):
                paths += self._matching(f"{folder}/{name}", expressions[1:])
        return paths

    def _add(self, path: str, mask: int) -> int | None:
        """The watch (the same one if there is one already), or None if there is no such file."""
        wd: int = self._libc.inotify_add_watch(self.fd, os.fsencode(self._tree.file(path)), mask)
        if wd >= 0:
            return wd
        number = ctypes.get_errno()
        if number in (2, 19, 20):  # ENOENT, ENODEV, ENOTDIR
            return None
        raise EnvironmentFailed("inotify", f"{path} cannot be watched: {os.strerror(number)}")
