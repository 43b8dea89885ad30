"""The few functions of libbpf that are needed, by ctypes: no compiler and no headers at run time.

Every failure is an EnvironmentFailed that says what was tried, what the kernel answered and what libbpf printed.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from appliance.model.errors import EnvironmentFailed

LIBRARY = "libbpf.so.1"
_RDONLY = 1 << 3  # BPF_F_RDONLY, <linux/bpf.h>
_WARN = 0  # enum libbpf_print_level

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)


class _ObjGetOpts(ctypes.Structure):
    _fields_ = (("sz", c_size_t), ("file_flags", c_uint32), ("padding", c_uint32))


class _TestRunOpts(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (c_void_p, (_PRINT,)),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__btf": (c_void_p, (c_void_p,)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_program__expected_attach_type": (c_int, (c_void_p,)),
    "bpf_program__set_autoload": (c_int, (c_void_p, ctypes.c_bool)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__set_pin_path": (c_int, (c_void_p, c_char_p)),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get_opts": (c_int, (c_char_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_char_p, c_char_p, c_uint64)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_char_p, c_void_p)),
    "bpf_map_delete_elem": (c_int, (c_int, c_char_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_char_p, c_void_p)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "btf__type_cnt": (c_uint32, (c_void_p,)),
    "btf__type_by_id": (c_void_p, (c_void_p, c_uint32)),
    "btf__name_by_offset": (c_char_p, (c_void_p, c_uint32)),
}


class _Library:
    """The loaded library; its messages are kept for the next error."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY, use_errno=True)
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(self._library, name)
                function.restype = result
                function.argtypes = arguments
        except (OSError, AttributeError) as error:
            raise EnvironmentFailed("libbpf", f"{LIBRARY} 1.0 or later is needed (libbpf1): {error}") from None
        self._libc = ctypes.CDLL(None)
        self._messages: list[str] = []
        self._print = _PRINT(self._keep)  # held: libbpf keeps no reference
        self._library.libbpf_set_print(self._print)

    def _keep(self, level: int, form: bytes, arguments: int) -> int:
        if level == _WARN:
            buffer = ctypes.create_string_buffer(4096)
            self._libc.vsnprintf(buffer, c_size_t(len(buffer)), form, c_void_p(arguments))
            self._messages.append(buffer.value.decode(errors="replace").strip())
            del self._messages[:-20]
        return 0

    def call(self, name: str, *arguments: object) -> Any:
        self._messages.clear()
        return getattr(self._library, name)(*arguments)

    def check(self, what: str, name: str, *arguments: object) -> int:
        """Calls a function that answers a negative errno. Raises EnvironmentFailed."""
        result: int = self.call(name, *arguments)
        if result < 0:
            raise self.error(what, -result)
        return result

    def error(self, what: str, number: int) -> EnvironmentFailed:
        text = f"{what}: {os.strerror(number)}"
        if self._messages:
            text += f" ({'; '.join(self._messages[-3:])})"
        return EnvironmentFailed("bpf", text)


_loaded: list[_Library] = []


def library() -> _Library:
    """Loaded at first use. Raises EnvironmentFailed if it is missing or too old."""
    if not _loaded:
        _loaded.append(_Library())
    return _loaded[0]


@dataclass(frozen=True)
class Program:
    fd: int
    attach_type: int


class BpfObject:
    """A compiled object, loaded into the kernel. `pins`: a folder where every map is pinned, and taken from if it is
    there already. Descriptors in `maps` and `programs` live until `close()`; what is attached or pinned stays.

    Raises EnvironmentFailed if it cannot be read, or the kernel refuses it.
    """

    def __init__(self, path: str, pins: str | None) -> None:
        lib = library()
        self.maps: dict[str, int] = {}
        self.programs: dict[str, Program] = {}
        self._object: int = lib.call("bpf_object__open_file", path.encode(), None)
        if not self._object:
            raise lib.error(f"the compiled hooks {path} cannot be opened", ctypes.get_errno())
        try:
            if pins is not None:
                for entry in self._entries("bpf_object__next_map"):
                    name = lib.call("bpf_map__name", entry).decode()
                    lib.check(f"pin {name}", "bpf_map__set_pin_path", entry, f"{pins}/{name}".encode())
            lib.check(f"the kernel refuses the hooks of {path}", "bpf_object__load", self._object)
            for entry in self._entries("bpf_object__next_map"):
                self.maps[lib.call("bpf_map__name", entry).decode()] = lib.call("bpf_map__fd", entry)
            for entry in self._entries("bpf_object__next_program"):
                self.programs[lib.call("bpf_program__name", entry).decode()] = Program(
                    lib.call("bpf_program__fd", entry), lib.call("bpf_program__expected_attach_type", entry)
                )
        except BaseException:
            self.close()
            raise

    @property
    def btf(self) -> int:
        """libbpf's `struct btf *` of the object."""
        pointer: int = library().call("bpf_object__btf", self._object)
        return pointer

    def close(self) -> None:
        if self._object:
            library().call("bpf_object__close", self._object)
            self._object = 0

    def _entries(self, following: str) -> Iterator[int]:
        entry = library().call(following, self._object, None)
        while entry:
            yield entry
            entry = library().call(following, self._object, entry)


def refused_programs(path: str) -> dict[str, str]:
    """The programs of a compiled object that this kernel does not take, each with the reason: every one is loaded by
    itself, and let go. Raises EnvironmentFailed if the object cannot be read."""
    refused: dict[str, str] = {}
    position = 0
    while (loaded := _load_alone(path, position)) is not None:
        name, result = loaded
        if result < 0:
            refused[name] = os.strerror(-result)
        position += 1
    return refused


def _load_alone(path: str, position: int) -> tuple[str, int] | None:
    """(name, what the kernel answered) of one program of the object; None if it has no such."""
    lib = library()
    opened: int = lib.call("bpf_object__open_file", path.encode(), None)
    if not opened:
        raise lib.error(f"the compiled hooks {path} cannot be opened", ctypes.get_errno())
    try:
        name, number = None, 0
        program = lib.call("bpf_object__next_program", opened, None)
        while program:
            lib.call("bpf_program__set_autoload", program, number == position)
            if number == position:
                name = lib.call("bpf_program__name", program).decode()
            number += 1
            program = lib.call("bpf_object__next_program", opened, program)
        return None if name is None else (name, lib.call("bpf_object__load", opened))
    finally:
        lib.call("bpf_object__close", opened)


def attach(program: Program, cgroup_fd: int, what: str) -> int:
    """Attaches by link; the link's descriptor. It detaches when the last descriptor and pin of it are gone."""
    return library().check(
        f"attach {what}", "bpf_link_create", program.fd, cgroup_fd, program.attach_type, c_void_p(None)
    )


def replace(link_fd: int, program: Program, what: str) -> None:
    """Puts `program` in the place of the one that a link runs, without a gap."""
    library().check(f"replace {what}", "bpf_link_update", link_fd, program.fd, c_void_p(None))


def pin(fd: int, path: str) -> None:
    library().check(f"pin {path}", "bpf_obj_pin", fd, path.encode())


def open_pinned(path: str, *, read_only: bool = False) -> int:
    """A new descriptor of what is pinned at `path`; `read_only` for maps."""
    options = _ObjGetOpts(ctypes.sizeof(_ObjGetOpts), _RDONLY if read_only else 0, 0)
    return library().check(f"open {path}", "bpf_obj_get_opts", path.encode(), ctypes.byref(options))


def update(fd: int, key: bytes, value: bytes) -> None:
    """Raises EnvironmentFailed, also if the map is full."""
    library().check("write a map", "bpf_map_update_elem", fd, key, value, 0)


def lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """`size` is the value's (of a per-CPU map: of all CPUs', each rounded up to 8 bytes)."""
    value = ctypes.create_string_buffer(size)
    result: int = library().call("bpf_map_lookup_elem", fd, key, value)
    if result == -errno.ENOENT:
        return None
    if result < 0:
        raise library().error("read a map", -result)
    return value.raw


def delete(fd: int, key: bytes) -> bool:
    """False if it was not there."""
    result: int = library().call("bpf_map_delete_elem", fd, key)
    if result < 0 and result != -errno.ENOENT:
        raise library().error("delete from a map", -result)
    return result == 0


def keys(fd: int, size: int) -> list[bytes]:
    """All keys. For maps that nobody else changes meanwhile."""
    found: list[bytes] = []
    key: bytes | None = None
    following = ctypes.create_string_buffer(size)
    while library().call("bpf_map_get_next_key", fd, key, following) == 0:
        key = following.raw
        found.append(key)
    return found


def run_unattached(program: Program, data: bytes, context: bytes = b"") -> int:
    """Runs a program unattached on a packet (BPF_PROG_TEST_RUN): what it returned. Raises EnvironmentFailed where
    the kernel cannot do that for this type of program."""
    packet = ctypes.create_string_buffer(data, len(data))
    options = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts), repeat=1)
    options.data_in, options.data_size_in = ctypes.addressof(packet), len(data)
    if context:
        held = ctypes.create_string_buffer(context, len(context))
        options.ctx_in, options.ctx_size_in = ctypes.addressof(held), len(context)
    library().check("run a program", "bpf_prog_test_run_opts", program.fd, ctypes.byref(options))
    return int(options.retval)
