"""What the files below /proc/PID say (proc(5)): parsing only. Everything in them is the process's own to forge
except what the kernel writes: command names and arguments are taken as text, never as structure."""

from __future__ import annotations

from typing import NamedTuple

from appliance.model.errors import PeerError

MAX_ARGUMENTS = 64
MAX_ARGUMENT = 256  # characters
_UNITS = (".service", ".scope", ".socket", ".mount", ".swap")


class Stat(NamedTuple):
    comm: str
    state: str
    parent: int
    start_ticks: int


class Status(NamedTuple):
    uid: int  # real
    gid: int
    groups: tuple[int, ...]


def parse_stat(data: bytes) -> Stat:
    """/proc/PID/stat. The name may hold anything, blanks, brackets and line breaks too: it ends at the last one."""
    head, bracket, tail = data.rpartition(b")")
    fields = tail.split()
    try:
        _, _, comm = head.partition(b"(")
        if not bracket or len(fields) < 20:
            raise ValueError
        # field 3 of proc(5) is the first after the name: 4 is the parent, 22 the start time
        return Stat(comm.decode(errors="backslashreplace"), fields[0].decode(), int(fields[1]), int(fields[19]))
    except ValueError:
        raise PeerError("proc-stat", "/proc/PID/stat cannot be read") from None


def parse_status(data: bytes) -> Status:
    """/proc/PID/status: the lines Uid, Gid and Groups. The kernel escapes line breaks in Name, the first line."""
    found: dict[bytes, list[bytes]] = {}
    for line in data.split(b"\n"):
        name, _, rest = line.partition(b":")
        found.setdefault(name, rest.split())
    try:
        return Status(int(found[b"Uid"][0]), int(found[b"Gid"][0]), tuple(int(g) for g in found[b"Groups"]))
    except (KeyError, IndexError, ValueError):
        raise PeerError("proc-status", "/proc/PID/status cannot be read") from None


def parse_cmdline(data: bytes) -> tuple[str, ...]:
    """At most MAX_ARGUMENTS, each cut at MAX_ARGUMENT characters; bytes that are not UTF-8 as \\xNN."""
    if not data:
        return ()
    arguments = data.removesuffix(b"\0").split(b"\0", MAX_ARGUMENTS)[:MAX_ARGUMENTS]
    return tuple(a[: 4 * MAX_ARGUMENT].decode(errors="backslashreplace")[:MAX_ARGUMENT] for a in arguments)


def parse_cgroup(data: bytes) -> str:
    """/proc/PID/cgroup: the path in the unified hierarchy, "/a/b"; "" if there is none."""
    for line in data.split(b"\n"):
        if line.startswith(b"0::"):
            return line[3:].decode(errors="surrogateescape")
    return ""


def unit_of(cgroup: str) -> str:
    """The systemd unit that a cgroup path belongs to: its innermost segment with a unit's suffix; "" if none."""
    for segment in reversed(cgroup.split("/")):
        if segment.endswith(_UNITS):
            return segment
    return ""


def device_of_mount(mountinfo: bytes, mount_id: int) -> int | None:
    """The device number (major << 20 | minor, as the kernel keeps it) of a mount in /proc/PID/mountinfo."""
    for line in mountinfo.split(b"\n"):
        fields = line.split(b" ", 3)
        if len(fields) > 3 and fields[0] == b"%d" % mount_id:
            major, _, minor = fields[2].partition(b":")
            return int(major) << 20 | int(minor)
    return None
