"""User space and the hooks agree: every struct, every member, every counter."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.attest.layouts import flow_key, parse_destination, parse_key, parse_process_key, parse_record
from appliance.kernel import btf, counters
from appliance.kernel.hooks import Hooks
from appliance.kernel.layouts import JobValue, pack_config, pack_job, parse_job
from tests.world import World

CONSTS = Path(__file__).resolve().parents[2] / "bpf" / "consts.h"


def test_counters_have_the_hooks_names_and_order() -> None:
    body = re.search(r"enum counter \{(.*?)\n\};", CONSTS.read_text(), re.DOTALL)
    assert body is not None
    code = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    names = [name.strip().lower().replace("_", "-") for name in code.split(",") if name.strip()]
    assert names == [*counters.NAMES, "counters"]


@pytest.fixture(scope="module")
def layouts() -> Iterator[dict[str, btf.Layout]]:
    with World() as world:
        hooks = Hooks(world.dir / "bpf", 1, 2, 3)
        yield btf.layouts(hooks._object.btf)
        hooks.close()


def _filled(layout: btf.Layout, **values: bytes) -> bytes:
    data = bytearray(layout.size)
    for name, value in values.items():
        offset = layout.offsets[name]
        data[offset : offset + len(value)] = value
    return bytes(data)


def _u64(value: int) -> bytes:
    return struct.pack("=Q", value)


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


@pytest.mark.world
def test_record(layouts: dict[str, btf.Layout]) -> None:
    address = bytes(range(16))
    wide = ("cookie", "netns", "socket_job", "task_job", "connect_ns", "task_cgroup", "start_ns", "exe_inode")
    narrow = ("exe_device", "pid", "uid", "gid", "tid", "parent")
    values = {name: _u64(1000 + number) for number, name in enumerate(wide)}
    values |= {name: _u32(2000 + number) for number, name in enumerate(narrow)}
    values |= {"address": address, "port": b"\x01\xbb", "family": b"\x0a", "protocol": b"\x06", "turned": _u32(1)}
    values |= {"comm": b"a name\0rest", "exe_name": b"n\xff\0"}
    layout = layouts["record"]
    assert set(values) == set(layout.offsets)
    record = parse_record(_filled(layout, **values))
    for number, name in enumerate(wide):
        assert getattr(record, name) == 1000 + number
    for number, name in enumerate(narrow):
        assert getattr(record, name) == 2000 + number
    assert (record.address, record.port, record.family, record.protocol) == (address, 443, 10, 6)
    assert (record.comm, record.exe_name) == ("a name", "n\\xff")


@pytest.mark.world
def test_key(layouts: dict[str, btf.Layout]) -> None:
    mapped = bytes(10) + b"\xff\xff"
    made = _filled(
        layouts["key"],
        netns=_u64(77),
        client=mapped + bytes([127, 0, 0, 1]),
        proxy=mapped + bytes([127, 0, 0, 2]),
        client_port=b"\x9c\x40",
        proxy_port=b"\x03\xee",
        protocol=b"\x11",
    )
    assert flow_key(77, ("127.0.0.1", 40000), ("127.0.0.2", 1006), 17) == made
    assert flow_key(77, ("::ffff:127.0.0.1", 40000, 0, 0), ("::ffff:127.0.0.2", 1006, 0, 0), 17) == made
    assert parse_key(made)[:3] == (77, mapped + bytes([127, 0, 0, 1]), 40000)


@pytest.mark.world
def test_config_and_job(layouts: dict[str, btf.Layout]) -> None:
    assert pack_config(5, 1006, 1007, True) == _filled(
        layouts["config"], host_netns=_u64(5), proxy_port=b"\x03\xee", dns_port=b"\x03\xef", deny_all=_u32(1)
    )
    assert pack_job(JobValue(True, 1000, "j-1", "ci")) == _filled(
        layouts["job"], managed=_u32(1), launched_uid=_u32(1000), name=b"j-1", label=b"ci"
    )


@given(st.booleans(), st.integers(-1, 2**32 - 2), st.from_regex(r"j-[0-9a-f]{16}", fullmatch=True))
def test_job_comes_back(managed: bool, uid: int, name: str) -> None:
    job = JobValue(managed, uid, name, "label")
    assert parse_job(pack_job(job)) == job


@given(st.binary(min_size=192, max_size=192))
def test_the_short_ways_agree_with_the_long_one(value: bytes) -> None:
    record = parse_record(value)
    assert parse_process_key(value) == record.process_key
    assert parse_destination(value) == (record.address, record.port)
