"""Names and layouts in the compiled object, so that user space and the hooks cannot disagree unnoticed.

Source: `struct btf_type` of <linux/btf.h> and Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import ctypes
import struct

from appliance.kernel.libbpf import library

_KIND_STRUCT = 4
_TYPE = struct.Struct("=III")  # name_off, info, size
_MEMBER = struct.Struct("=III")  # name_off, type, offset in bits


class Layout:
    """`size` in bytes and each member's offset in bytes."""

    def __init__(self, size: int, offsets: dict[str, int]) -> None:
        self.size = size
        self.offsets = offsets


def layouts(btf: int) -> dict[str, Layout]:
    """Every named struct of libbpf's `struct btf *`."""
    lib = library()
    found: dict[str, Layout] = {}
    for number in range(1, lib.call("btf__type_cnt", btf)):
        address = lib.call("btf__type_by_id", btf, number)
        name_offset, info, size = _TYPE.unpack(ctypes.string_at(address, _TYPE.size))
        if info >> 24 & 31 != _KIND_STRUCT:
            continue
        members = ctypes.string_at(address + _TYPE.size, (info & 0xFFFF) * _MEMBER.size)
        offsets = {_name(btf, member_name): bits // 8 for member_name, _, bits in _MEMBER.iter_unpack(members)}
        found[_name(btf, name_offset)] = Layout(size, offsets)
    return found


def _name(btf: int, offset: int) -> str:
    name: bytes = library().call("btf__name_by_offset", btf, offset)
    return name.decode()
