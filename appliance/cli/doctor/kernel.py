"""The kernel, cgroup2 and BPF."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.cli.doctor.findings import NEEDS_ROOT, Finding, unknown
from appliance.daemon.sandbox import CAPABILITIES

_OLDEST = (5, 15)
# <linux/capability.h>
_NUMBERS = {
    "CAP_CHOWN": 0,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    **CAPABILITIES,
}
# to mount the bpffs, to become other accounts, and what the kernel process keeps
_NEEDED = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", *CAPABILITIES)
_HOOKS = "every hook is needed: the appliance does not start without one"


def kernel() -> Iterator[Finding]:
    yield _root()
    yield _release()
    yield _cgroup2()
    yield _btf()
    yield _bpffs()
    yield from _bpf()


def _root() -> Finding:
    if os.geteuid() == 0:
        without = lacking(_NEEDED)
        if without:
            mend = "run it in the host's own user namespace, not in a container that takes them away"
            return Finding("root", "missing", f"root here lacks {', '.join(without)}", mend)
        return Finding("root", "ok", "this runs as root, as `coatcheck up` must")
    return unknown("root", f"this runs as uid {os.geteuid()}; `coatcheck up` needs root", NEEDS_ROOT)


def lacking(names: Iterable[str]) -> list[str]:
    """Of these capabilities those that this process does not have (capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    held = int(found[1], 16) if found else 0
    return [name for name in names if not held >> _NUMBERS[name] & 1]


def _release() -> Finding:
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) >= _OLDEST:
        return Finding("kernel", "ok", f"Linux {release}")
    needed = ".".join(map(str, _OLDEST))
    return Finding("kernel", "missing", f"Linux {release}; {needed} or later is needed", "boot a newer kernel")


def _cgroup2() -> Finding:
    from appliance.kernel.cgroups import cgroup2_mount
    from appliance.model.errors import EnvironmentFailed

    try:
        mount = cgroup2_mount()
    except (EnvironmentFailed, OSError) as error:
        return Finding(
            "cgroup2",
            "missing",
            str(error).split(":")[0],
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1",
        )
    if not (mount / "cgroup.procs").exists():
        return Finding("cgroup2", "missing", f"{mount} is not the cgroup2 mount that is seen here", "mount it here")
    return Finding("cgroup2", "ok", f"mounted at {mount}")


def _btf() -> Finding:
    path = Path("/sys/kernel/btf/vmlinux")
    if path.exists():
        return Finding("BTF", "ok", f"{path} says how this kernel's structures lie")
    return Finding(
        "BTF",
        "missing",
        f"{path} is not there: the hooks cannot be fitted to this kernel",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y (distributions' kernels have it)",
    )


def _bpffs() -> Finding:
    try:
        known = Path("/proc/filesystems").read_text().split()
    except OSError as error:
        return unknown("bpffs", f"/proc/filesystems cannot be read: {error.strerror}")
    if "bpf" in known:
        return Finding("bpffs", "ok", "the kernel has the file system that keeps hooks attached")
    return Finding("bpffs", "missing", "the kernel has no bpf file system", "boot a kernel with CONFIG_BPF_SYSCALL=y")


def _bpf() -> Iterator[Finding]:
    """libbpf, the compiled object, and each of its programs as the verifier of this kernel sees it."""
    from appliance.kernel import libbpf
    from appliance.kernel.hooks import OBJECT
    from appliance.model.errors import EnvironmentFailed

    try:
        libbpf.library()
    except EnvironmentFailed as error:
        yield Finding("libbpf", "missing", str(error), "apt-get install libbpf1")
        yield unknown("hooks", "without libbpf it is not known whether the kernel takes the hooks")
        return
    yield Finding("libbpf", "ok", f"{libbpf.LIBRARY} is there")
    if not OBJECT.exists():
        yield Finding("compiled hooks", "missing", f"{OBJECT} is not there", "run make in bpf/, or install the package")
        return
    yield Finding("compiled hooks", "ok", str(OBJECT))
    yield _hooks(str(OBJECT))


def _hooks(path: str) -> Finding:
    """Loads the programs one by one, unattached and unpinned: they are gone when this returns."""
    from appliance.kernel import libbpf
    from appliance.model.errors import EnvironmentFailed

    try:
        refused = libbpf.refused_programs(path)
    except EnvironmentFailed as error:
        return Finding("hooks", "missing", str(error), "build the hooks anew: make in bpf/")
    if not refused:
        return Finding("hooks", "ok", "the kernel takes every hook")
    if os.geteuid() != 0:
        return unknown("hooks", "the kernel shows its hook types to root alone", NEEDS_ROOT)
    words = "; ".join(f"{name}: {why}" for name, why in sorted(refused.items()))
    return Finding("hooks", "missing", f"the kernel refuses {words}; {_HOOKS}", "boot a newer kernel (5.15 or later)")
