"""One frame: 4 bytes length (big endian, of what follows), then MessagePack of a call or an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

MAX_FRAME = 8 << 20  # bytes; the largest real one is a batch of audit records
_HEADER = 4


class Call(Struct, frozen=True, array_like=True):
    number: int
    method: str
    params: Raw


class Answer(Struct, frozen=True, array_like=True):
    """`family` "" is success, otherwise the class name of the error family."""

    number: int
    family: str
    code: str
    message: str
    result: Raw


class FrameError(Exception):
    """The peer broke the framing: the connection ends."""


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
EMPTY = Raw(encode(None))


def pack(message: Call | Answer) -> bytes:
    """The frame of one message. Raises FrameError if it is over MAX_FRAME."""
    body = encode(message)
    if len(body) > MAX_FRAME:
        raise FrameError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return len(body).to_bytes(_HEADER, "big") + body


def decode(data: Raw | bytes | memoryview, kind: Any) -> Any:
    """Strict decode of one value to a msgspec-supported type."""
    return msgspec.msgpack.decode(data, type=kind)


class Deframer:
    """Bytes in any chunking in, whole frame bodies out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        start = 0
        size = len(self._buffer)
        try:
            while size - start >= _HEADER:
                length = int.from_bytes(self._buffer[start : start + _HEADER], "big")
                if length > MAX_FRAME:
                    raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
                if size - start - _HEADER < length:
                    break
                start += _HEADER
                yield bytes(self._buffer[start : start + length])
                start += length
        finally:
            del self._buffer[:start]
