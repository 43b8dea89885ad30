"""Leaves within JSON text (RFC 8259) are replaced; every other byte stays as it was, spaces and repeated names too.

PATHS, a part of SQL/JSON's (PostgreSQL documentation, chapter 9.16.2):

    $            the value itself
    .name ."name"   the member of that name
    .*           every member
    [*] [3]      every element, the element of that number
    .**          what is here, and all that is in it, at any depth

As in SQL/JSON's lax mode a member that is asked of an array is asked of each of its elements, and a value that is no
array is taken for an array of one: a path hides rather more than less. If what is found is an object or an array, all
of it is hidden. `null` stays `null`.
"""

from __future__ import annotations

import json
import re
from typing import Final

from appliance.masking.hiding import Hiding

_MEMBER: Final = 0  # named
_ANY_MEMBER: Final = 1
_ELEMENT: Final = 2  # numbered
_ANY_ELEMENT: Final = 3
_ANYTHING: Final = 4  # at any depth

Step = tuple[int, str, int]  # which of these, name, number
Path = tuple[Step, ...]

_STEP: Final = re.compile(
    r'\.(?P<deep>\*\*)|\.(?P<any>\*)|\.(?P<name>[^\W\d][\w$]*)|\.(?P<quoted>"(?:[^"\\]|\\.)*")'
    r"|\[(?P<all>\*)\]|\[(?P<number>[0-9]{1,9})\]"
)


def parse_path(text: str) -> Path:
    """A path's steps. Raises ValueError for what is not in the list above."""
    if not text.startswith("$"):
        raise ValueError(f"a JSON path begins with $: {text!r}")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ValueError(f'a JSON path has .name, ."name", .*, .**, [*] and [3] only: {text!r}')
        at = found.end()
        if found["deep"]:
            steps.append((_ANYTHING, "", 0))
        elif found["any"]:
            steps.append((_ANY_MEMBER, "", 0))
        elif found["name"]:
            steps.append((_MEMBER, found["name"], 0))
        elif found["quoted"]:
            steps.append((_MEMBER, str(json.loads(found["quoted"])), 0))
        elif found["all"]:
            steps.append((_ANY_ELEMENT, "", 0))
        else:
            steps.append((_ELEMENT, "", int(found["number"])))
    return tuple(steps)


_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_STRING: Final = re.compile(
    rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"',
)
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_WORD: Final = re.compile(rb"true|false|null")

_QUOTE: Final = 0x22
_OPEN_OBJECT: Final = 0x7B
_CLOSE_OBJECT: Final = 0x7D
_OPEN_ARRAY: Final = 0x5B
_CLOSE_ARRAY: Final = 0x5D
_COMMA: Final = 0x2C
_COLON: Final = 0x3A


class _Unreadable(Exception):
    pass


def _characters(raw: bytes) -> str:
    """A JSON string's characters. Raises ValueError."""
    return str(json.loads(raw))


def string_of(text: bytes) -> bytes:
    """This UTF-8 text as a JSON string, in ASCII: it is the same in every encoding. Raises ValueError."""
    return json.dumps(text.decode("utf-8", "surrogatepass")).encode("ascii")


def _replaced(raw: bytes, hiding: Hiding) -> bytes:
    """A JSON string as it is after this; the same object if nothing changed. Raises ValueError."""
    before = raw[1:-1] if b"\\" not in raw else _characters(raw).encode("utf-8", "surrogatepass")
    after = hiding.text(before)
    if after is before:
        return raw
    return b"null" if after is None else string_of(after)


def _here(paths: tuple[Path, ...], array: bool) -> tuple[Path, ...]:
    """The paths that hold at a value, with those that need no step to be at it already. An empty one: it is meant."""
    all_paths: list[Path] = list(paths)
    for path in all_paths:  # grows on the way
        if path and (path[0][0] == _ANYTHING or (not array and path[0][0] in (_ELEMENT, _ANY_ELEMENT))):
            rest = path[1:]
            if rest not in all_paths:
                all_paths.append(rest)
    return tuple(all_paths)


def _of_member(paths: tuple[Path, ...], name: bytes) -> tuple[Path, ...]:
    """The paths for an object's member. Raises ValueError."""
    if not paths:
        return paths
    text = _characters(name)
    below: list[Path] = []
    for path in paths:
        kind, wanted, _ = path[0]
        if kind == _ANYTHING:
            below.append(path)
        elif kind == _ANY_MEMBER or (kind == _MEMBER and wanted == text):
            below.append(path[1:])
    return tuple(below)


def _of_element(paths: tuple[Path, ...], number: int) -> tuple[Path, ...]:
    below: list[Path] = []
    for path in paths:
        kind, _, wanted = path[0]
        if kind in (_ANYTHING, _MEMBER, _ANY_MEMBER):
            below.append(path)
        elif kind == _ANY_ELEMENT or (kind == _ELEMENT and wanted == number):
            below.append(path[1:])
    return tuple(below)


class JsonText:
    """Hides what the paths name; or, `everywhere`, what `hiding` changes of any string, name and number."""

    __slots__ = ("_everywhere", "_hiding", "_paths")

    def __init__(self, hiding: Hiding, paths: tuple[Path, ...], everywhere: bool) -> None:
        self._hiding = hiding
        self._paths = paths
        self._everywhere = everywhere

    def rewrite(self, data: bytes) -> bytes | None:
        """The text with its leaves hidden, the same object if there were none. None if it is no JSON in UTF-8."""
        try:
            data.decode("utf-8")
            return self._rewrite(data)
        except (_Unreadable, ValueError):
            return None

    def _rewrite(self, data: bytes) -> bytes:
        out: list[bytes] = []
        copied = 0  # what is before it is in `out`
        hidden_at = 0  # depth of the container that is being hidden whole; 0: none is
        open_objects: list[bool] = []  # of each open container: is it an object
        open_paths: list[tuple[Path, ...]] = []
        open_counts: list[int] = []
        paths = self._paths
        at = self._space(data, 0)
        while True:
            # A value begins here.
            if at >= len(data):
                raise _Unreadable
            byte = data[at]
            container = byte in (_OPEN_OBJECT, _OPEN_ARRAY)
            here = _here(paths, byte == _OPEN_ARRAY) if paths else paths
            meant = () in here and not hidden_at
            if container:
                if meant:
                    out.append(data[copied:at])
                    hidden_at = len(open_objects) + 1
                open_objects.append(byte == _OPEN_OBJECT)
                open_paths.append(() if hidden_at else here)
                open_counts.append(0)
                at = self._space(data, at + 1)
                first = True
            else:
                end = self._end_of_scalar(data, at)
                if not hidden_at and (meant or self._everywhere):
                    raw = data[at:end]
                    new = self._scalar(raw, meant)
                    if new is not raw:
                        out.append(data[copied:at])
                        out.append(new)
                        copied = end
                at = self._space(data, end)
                first = False
            # After a value, or just within a container: close what closes here.
            while open_objects:
                is_object = open_objects[-1]
                byte = data[at] if at < len(data) else 0
                if byte == (_CLOSE_OBJECT if is_object else _CLOSE_ARRAY):
                    if hidden_at == len(open_objects):
                        out.append(b"{}" if is_object else b"[]")
                        copied = at + 1
                        hidden_at = 0
                    open_objects.pop()
                    open_paths.pop()
                    open_counts.pop()
                    at = self._space(data, at + 1)
                    first = False
                    continue
                if not first:
                    if byte != _COMMA:
                        raise _Unreadable
                    at = self._space(data, at + 1)
                if is_object:
                    found = _STRING.match(data, at)
                    if found is None:
                        raise _Unreadable
                    name = found.group()
                    if self._everywhere and not hidden_at:
                        new = _replaced(name, self._hiding)
                        if new is not name:
                            out.append(data[copied:at])
                            out.append(b'""' if new == b"null" else new)
                            copied = found.end()
                    paths = _of_member(open_paths[-1], name)
                    at = self._space(data, found.end())
                    if at >= len(data) or data[at] != _COLON:
                        raise _Unreadable
                    at = self._space(data, at + 1)
                else:
                    paths = _of_element(open_paths[-1], open_counts[-1])
                    open_counts[-1] += 1
                break
            else:
                if at != len(data):
                    raise _Unreadable
                if not out:
                    return data
                out.append(data[copied:])
                return b"".join(out)

    def _scalar(self, raw: bytes, meant: bool) -> bytes:
        """What takes the place of a scalar; the same object if it stays. Raises ValueError."""
        byte = raw[0]
        if byte == _QUOTE:
            return _replaced(raw, self._hiding)
        if raw == b"null":
            return raw
        if not meant:
            found = self._hiding.text(raw)
            return raw if found is raw else b"null" if found is None else b"0"
        if self._hiding.nulls:
            return b"null"
        return b"false" if raw in (b"true", b"false") else b"0"

    @staticmethod
    def _space(data: bytes, at: int) -> int:
        found = _SPACE.match(data, at)
        return at if found is None else found.end()

    @staticmethod
    def _end_of_scalar(data: bytes, at: int) -> int:
        byte = data[at]
        pattern = _STRING if byte == _QUOTE else _WORD if 0x61 <= byte <= 0x7A else _NUMBER
        found = pattern.match(data, at)
        if found is None:
            raise _Unreadable
        return found.end()
