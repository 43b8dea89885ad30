"""Giving rights up: to an account, with exactly the capabilities named, never to get more again.

Sources: capabilities(7), prctl(2), capset(2), setresuid(2). After `enter`, no exec regains anything: no_new_privs is
set, the bounding set is what was kept, and the securebits take root its special part.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Sequence
from typing import Final

from appliance.model.errors import EnvironmentFailed

# <linux/capability.h>, those that we ever keep
CAPABILITIES: Final = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 4, 8, 38
_PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 28, 47, 4
# SECBIT_NOROOT, _NO_SETUID_FIXUP, _NO_CAP_AMBIENT_RAISE, each with its lock; KEEP_CAPS locked off
_SECUREBITS = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def enter(uid: int, gid: int, keep: frozenset[str] = frozenset(), groups: Sequence[int] = ()) -> None:
    """Becomes `uid` and `gid` with `groups` and only the capabilities in `keep`, in a process that started as root.

    Also: no core dump, not ptraceable by its own uid, umask 077. Raises EnvironmentFailed("sandbox") if any of it
    cannot be done, or afterwards is not so: the process must then not go on.
    """
    wanted = 0
    for name in keep:
        wanted |= 1 << CAPABILITIES[name]
    _prctl("PR_SET_KEEPCAPS", _PR_SET_KEEPCAPS, 1)
    _drop_bounding(wanted)
    try:
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise EnvironmentFailed("sandbox", f"cannot become uid {uid}, gid {gid}: {error.strerror}") from None
    _set_capabilities(wanted | 1 << 8)  # CAP_SETPCAP, for one more step
    _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl("PR_SET_SECUREBITS", _PR_SET_SECUREBITS, _SECUREBITS)
    _drop_last_bounding(wanted)
    _set_capabilities(wanted)
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    _verify(uid, gid, wanted)


def _prctl(name: str, option: int, *arguments: int) -> int:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    result: int = _libc.prctl(option, *(ctypes.c_ulong(each) for each in padded))
    if result < 0:
        raise EnvironmentFailed("sandbox", f"prctl({name}): {os.strerror(ctypes.get_errno())}")
    return result


def _drop_bounding(wanted: int) -> None:
    """All but what is wanted and CAP_SETPCAP, which drops itself last."""
    for number in range(64):
        if _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) < 0:
            return  # past the last one that this kernel has
        if not wanted >> number & 1 and number != 8:
            _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, number)


def _drop_last_bounding(wanted: int) -> None:
    if not wanted >> 8 & 1:
        _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, 8)


def _set_capabilities(mask: int) -> None:
    """Effective and permitted to `mask`, inheritable to nothing."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    if _libc.capset(header, data) != 0:
        raise EnvironmentFailed("sandbox", f"capset: {os.strerror(ctypes.get_errno())}")


def _verify(uid: int, gid: int, wanted: int) -> None:
    status = {}
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            status[key] = value.split()
    wrong = [
        name
        for name, found, right in (
            ("Uid", status["Uid"], [str(uid)] * 4),
            ("Gid", status["Gid"], [str(gid)] * 4),
            ("CapEff", int(status["CapEff"][0], 16), wanted),
            ("CapPrm", int(status["CapPrm"][0], 16), wanted),
            ("CapInh", int(status["CapInh"][0], 16), 0),
            ("CapAmb", int(status["CapAmb"][0], 16), 0),
            ("CapBnd", int(status["CapBnd"][0], 16), wanted),
            ("NoNewPrivs", status["NoNewPrivs"], ["1"]),
        )
        if found != right
    ]
    if wrong:
        raise EnvironmentFailed("sandbox", f"the process kept more than it should: {', '.join(wrong)}")
