"""What was left behind on the machine: looked for by other ways than those that clean up."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from tests.demo.setting import Setting
from tests.world import cgroup2_mount

FREED_WITHIN = 10.0  # seconds: the kernel frees programs and maps after a grace period


class Remains:
    """Made while everything runs: it remembers what there is. `found()` is asked after the end."""

    def __init__(self, setting: Setting) -> None:
        world = setting.world
        self._name = world.name
        self._networks = {os.stat(f"/run/netns/{path.name}").st_ino for path in self._netns()}
        self._programs, self._maps = _pinned(setting.appliance.run_dir / "bpf")
        running = self._processes()
        if not (self._networks and self._programs and self._maps and running and self._mounts() and self._cgroups()):
            raise RuntimeError("what the demo must not leave behind cannot be found while it runs")

    def found(self) -> dict[str, list[str]]:
        """By kind, what is still there."""
        return {
            "processes": self._processes(),
            "cgroups": self._cgroups(),
            "mounts": self._mounts(),
            "network namespaces": [str(path) for path in self._netns()],
            "folders": [str(path) for path in Path("/tmp").glob(f"{self._name}*")],
            "BPF programs and maps": self._in_kernel(),
        }

    def _netns(self) -> list[Path]:
        return list(Path("/run/netns").glob(f"{self._name}*"))

    def _cgroups(self) -> list[str]:
        return [str(path) for path in cgroup2_mount().glob(f"**/{self._name}*")]

    def _mounts(self) -> list[str]:
        """Ours, and those of the machine's first process."""
        lines = [line for pid in ("self", "1") for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        return [line for line in lines if self._name in line]

    def _processes(self) -> list[str]:
        """Those in the world's networks or cgroups, or that have its name among their arguments."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                inside = os.stat(folder / "ns" / "net").st_ino in self._networks
                words = (folder / "cmdline").read_bytes() + (folder / "cgroup").read_bytes()
            except OSError:  # it has just ended
                continue
            if inside or self._name.encode() in words:
                found.append(f"{folder.name} {words.split(bytes(1))[0].decode(errors='replace')}")
        return found

    def _in_kernel(self) -> list[str]:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
        end = time.monotonic() + FREED_WITHIN
        while True:
            left = [
                f"{kind} {number}"
                for kind, numbers in (("prog", self._programs), ("map", self._maps))
                for number in numbers
                if _alive(library, kind, number)
            ]
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.05)


def _alive(library: ctypes.CDLL, kind: str, number: int) -> bool:
    fd = getattr(library, f"bpf_{kind}_get_fd_by_id")(ctypes.c_uint32(number))
    if fd < 0:
        return False
    os.close(fd)
    return True


def _pinned(folder: Path) -> tuple[set[int], set[int]]:
    """Ids of the programs and maps that are pinned below `folder` (proc(5), fdinfo of bpf objects)."""
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    programs, maps = set[int](), set[int]()
    for path in folder.glob("*/**/*"):
        if not path.is_file():
            continue
        fd = library.bpf_obj_get(os.fsencode(path))
        if fd < 0:
            raise RuntimeError(f"{path}: {os.strerror(ctypes.get_errno())}")
        info = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines())
        os.close(fd)
        if "prog_id" in info:
            programs.add(int(info["prog_id"]))
        if "map_id" in info:
            maps.add(int(info["map_id"]))
    return programs, maps
