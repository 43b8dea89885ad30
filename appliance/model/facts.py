"""What the kernel says of a connecting process, and of the socket it connects with."""

from __future__ import annotations

from msgspec import Struct

from appliance.model.ids import JobId


class SocketRecord(Struct, frozen=True):
    """One entry of the kernel's `flows` map: written by the hooks at connect(2), before the SYN.

    Addresses are packed 16-byte IPv6, IPv4 as ::ffff:a.b.c.d. Ports are host order.
    """

    cookie: int  # socket cookie
    netns: int  # network namespace cookie of the client's socket
    task_cgroup: int  # cgroup id of the task that called connect(2)
    socket_job: int  # cgroup id of the job root in which the socket was created
    task_job: int  # cgroup id of the job root of the task that connected
    start_ns: int  # group_leader->start_boottime, ns: the guard against pid reuse
    connect_ns: int  # bpf_ktime_get_ns() at the hook
    exe_inode: int
    exe_device: int  # kernel encoding: major << 20 | minor
    pid: int  # tgid in the initial pid namespace
    tid: int
    uid: int
    gid: int
    parent: int
    address: bytes  # the destination that was asked for
    port: int
    family: int  # AF_INET or AF_INET6, of the socket
    protocol: int  # IPPROTO_TCP or IPPROTO_UDP
    comm: str
    exe_name: str  # last path component only

    @property
    def process_key(self) -> tuple[int, int, int, int, int, int, int]:
        """What must be equal for two records to be of the same program in the same process and job."""
        return (self.pid, self.start_ns, self.exe_inode, self.exe_device, self.uid, self.gid, self.task_cgroup)


class Ancestor(Struct, frozen=True):
    pid: int
    exe: str
    comm: str


class ProcessFacts(Struct, frozen=True):
    """What is known of a process, read while it was proven to be the one that connected.

    `exe` and `exe_sha256` are "" only where `complete` is False: then the process ended between connect
    and look-up, and only what the hooks recorded is filled in. `exe` (an ancestor's too) is also "" where its path
    leads to another file on the host: in a mount namespace of its own a process can put anything at any path.
    Workload rules that name a missing fact do not match.
    """

    pid: int
    start_ticks: int  # /proc/PID/stat field 22
    uid: int
    gid: int
    groups: tuple[int, ...]
    exe: str
    exe_inode: int
    exe_device: int
    exe_sha256: str  # hex
    cmdline: tuple[str, ...]  # each cut at 256 characters, at most 64 of them
    comm: str
    cgroup: str  # path below the cgroup2 mount, "/a/b"
    cgroup_id: int
    unit: str  # systemd unit or ""
    netns: int  # inode of /proc/PID/ns/net
    ancestors: tuple[Ancestor, ...]  # parent first, at most 16
    job: JobId  # "" is never attested: no job, no facts
    job_label: str  # workload label that `coatcheck run --workload` or the governed pattern gave
    launched_uid: int  # uid of whoever started the job; -1 for governed cgroups
    complete: bool
