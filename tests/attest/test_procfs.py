"""Files below /proc: what a process can forge in them stays text."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.attest import procfs
from appliance.model.errors import PeerError

names = st.binary(max_size=15).filter(lambda name: b"\0" not in name)


@given(names, st.integers(0, 2**22), st.integers(0, 2**63))
def test_stat_with_any_name(name: bytes, parent: int, start: int) -> None:
    fields = [b"S", b"%d" % parent, *[b"0"] * 17, b"%d" % start, b"0"]
    stat = procfs.parse_stat(b"77 (" + name + b") " + b" ".join(fields) + b"\n")
    assert (stat.comm, stat.parent, stat.start_ticks) == (name.decode(errors="backslashreplace"), parent, start)


@pytest.mark.parametrize("name", [") S 1 1 1", "a) b (c", "line\nbreak", "1 (x) R 0"])
def test_stat_of_a_real_liar(name: str) -> None:
    """What the kernel writes for it, compared with what it is."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "wb") as file:
            file.write(name.encode())
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = procfs.parse_stat(file.read())
        with open(f"/proc/{pid}/status", "rb") as file:
            status = procfs.parse_status(file.read())
        assert stat.comm == name[:15]
        assert stat.parent == os.getpid()
        assert (status.uid, status.gid) == (os.getuid(), os.getgid())
        assert status.groups == tuple(sorted(os.getgroups()))
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)


@given(st.binary(max_size=300))
def test_garbage_gives_only_our_error(data: bytes) -> None:
    for parse in (procfs.parse_stat, procfs.parse_status):
        try:
            parse(data)
        except PeerError:
            pass  # the one error that there is
    procfs.parse_cgroup(data)
    assert len(procfs.parse_cmdline(data)) <= procfs.MAX_ARGUMENTS


@given(st.lists(st.binary(max_size=1200).filter(lambda a: b"\0" not in a), max_size=100))
def test_cmdline_is_bounded(arguments: list[bytes]) -> None:
    parsed = procfs.parse_cmdline(b"".join(a + b"\0" for a in arguments))
    assert len(parsed) == min(len(arguments), procfs.MAX_ARGUMENTS)
    assert all(len(argument) <= procfs.MAX_ARGUMENT for argument in parsed)
    for mine, theirs in zip(parsed, arguments, strict=False):
        assert theirs.decode(errors="backslashreplace").startswith(mine) or len(theirs) > procfs.MAX_ARGUMENT


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/ssh.service", "ssh.service"),
        ("/system.slice/runner.service/job/7", "runner.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope", "x.scope"),
        ("/coatcheck.slice/j-1", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_unit(cgroup: str, unit: str) -> None:
    assert procfs.unit_of(cgroup) == unit


def test_cgroup_beside_version_one() -> None:
    assert procfs.parse_cgroup(b"4:memory:/x\n1:name=systemd:/y\n0::/a/b\n") == "/a/b"
    assert procfs.parse_cgroup(b"4:memory:/x\n") == ""


def test_device_of_mount() -> None:
    info = b"31 23 0:28 / /sys rw - tmpfs tmpfs rw\n99 31 259:2 / /x rw - ext4 /dev/x rw\n"
    assert procfs.device_of_mount(info, 99) == 259 << 20 | 2
    assert procfs.device_of_mount(info, 9) is None
