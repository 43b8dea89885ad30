"""The file system that keeps maps and links when we are gone: a bpffs of our own, for root only.

    maps-LAYOUT/NAME          every map
    links/CGROUP-ID/PROGRAM   every attached hook

Whoever removes a link's pin, while we do not run, lets its cgroup go ungoverned: so nothing but `release` does.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from appliance.model.errors import EnvironmentFailed

_FLAGS = 2 | 4 | 8  # MS_NOSUID, MS_NODEV, MS_NOEXEC of mount(2)


def _mounted(folder: Path) -> bool:
    """Is `folder` itself a mount of type bpf? (proc(5), mountinfo)"""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "bpf" and left.split()[4].encode().decode("unicode_escape") == str(folder):
            return True
    return False


def mount(folder: Path) -> None:
    """Makes `folder` a bpffs with mode 0700 unless it is one. Raises EnvironmentFailed; takes CAP_SYS_ADMIN."""
    folder = folder.resolve()
    if not _mounted(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"bpf", os.fsencode(folder), b"bpf", ctypes.c_ulong(_FLAGS), b"mode=0700"):
            reason = os.strerror(ctypes.get_errno())
            raise EnvironmentFailed("bpffs", f"a bpffs cannot be mounted at {folder}: {reason}")
    found = folder.stat()
    if found.st_uid != 0 or found.st_mode & 0o077:
        raise EnvironmentFailed(
            "bpffs", f"{folder} must belong to root with mode 0700: whoever can write there can ungovern"
        )


def _remove(top: Path) -> None:
    for parent, folders, files in os.walk(top, topdown=False):
        for name in files:
            os.unlink(os.path.join(parent, name))
        for name in folders:
            os.rmdir(os.path.join(parent, name))
    top.rmdir()


def release(folder: Path) -> None:
    """Uninstall: every hook is detached, every map dropped, the file system unmounted. Governed cgroups are free
    from here on. Nothing happens where there is nothing. Raises EnvironmentFailed if the mount is busy."""
    folder = folder.resolve()
    if not _mounted(folder):
        return
    for top in folder.iterdir():
        if top.is_dir():  # the files at the top are the kernel's own (maps.debug, progs.debug)
            _remove(top)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(folder), 0):
        raise EnvironmentFailed("bpffs", f"{folder} cannot be unmounted: {os.strerror(ctypes.get_errno())}")
    folder.rmdir()
