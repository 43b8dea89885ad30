"""What the proxy needs of a connection's record on its way to the cached identity, and no more."""

from __future__ import annotations

import struct
from typing import NamedTuple

from appliance.attest.flowmap import FlowMap
from appliance.attest.layouts import (
    ProcessKey,
    address_text,
    flow_key,
    parse_destination,
    parse_process_key,
    question,
)

_JOBS = struct.Struct("=Q8xQQ")  # struct record: cookie, netns, socket_job, task_job

Address = tuple[str, int] | tuple[str, int, int, int]


class Seen(NamedTuple):
    """One connection as the hooks saw it. `question` is what the vault asks the kernel process by."""

    question: bytes
    process_key: ProcessKey
    cookie: int  # of the client's socket
    socket_job: int  # cgroup id of the job in which the socket was made
    task_job: int  # cgroup id of the job whose task connected
    address: str  # what was asked for
    port: int


def seen(flow_map: FlowMap, netns: int, peer: Address, local: Address, protocol: int) -> Seen | None:
    """The record of the connection (or datagram) from `peer` to `local`, None if no hook saw it.

    Raises EnvironmentFailed if the map cannot be read.
    """
    key = flow_key(netns, peer, local, protocol)
    record = flow_map.lookup(key)
    if record is None:
        return None
    cookie, socket_job, task_job = _JOBS.unpack_from(record)
    address, port = parse_destination(record)
    return Seen(
        question(cookie, key), parse_process_key(record), cookie, socket_job, task_job, address_text(address), port
    )
