"""The bytes of the `config` and `jobs` maps: bpf/records.h. Keys and records of `flows` are in `attest.layouts`."""

from __future__ import annotations

import struct
from typing import NamedTuple

from appliance.attest.layouts import KEY_SIZE, RECORD_SIZE

# Raise it when a map's layout changes: the maps of another layout are left aside at a take-over, jobs are carried on.
LAYOUT = 1

_CONFIG = struct.Struct("=Q2s2sI")
_JOB = struct.Struct("=II32s64s")
_ID = struct.Struct("=Q")
JOB_SIZE = _JOB.size
ID_SIZE = _ID.size
INDEX_ZERO = bytes(4)

SIZES = {"key": KEY_SIZE, "record": RECORD_SIZE, "config": _CONFIG.size, "job": JOB_SIZE}

NO_UID = 0xFFFFFFFF


class JobValue(NamedTuple):
    """`launched_uid` is -1 for a cgroup that something else made."""

    managed: bool
    launched_uid: int
    name: str
    label: str


def pack_config(host_netns: int, proxy_port: int, dns_port: int, deny_all: bool) -> bytes:
    return _CONFIG.pack(host_netns, proxy_port.to_bytes(2, "big"), dns_port.to_bytes(2, "big"), deny_all)


def pack_cgroup_id(cgroup_id: int) -> bytes:
    return _ID.pack(cgroup_id)


def parse_cgroup_id(data: bytes) -> int:
    found: int = _ID.unpack(data)[0]
    return found


def pack_job(job: JobValue) -> bytes:
    uid = NO_UID if job.launched_uid < 0 else job.launched_uid
    return _JOB.pack(job.managed, uid, job.name.encode(), job.label.encode())


def parse_job(data: bytes) -> JobValue:
    managed, uid, name, label = _JOB.unpack(data)
    launched = -1 if uid == NO_UID else uid
    return JobValue(bool(managed), launched, name.rstrip(b"\0").decode(), label.rstrip(b"\0").decode())
