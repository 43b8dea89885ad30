"""One frame: 4 bytes length (big endian, of what follows), then MessagePack of a call or an answer."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from appliance.ipc.envelope import Answer, Call

MAX_FRAME: Final = 8 << 20  # bytes
_HEADER: Final = 4

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
EMPTY = Raw(encode(None))
read_call = msgspec.msgpack.Decoder(Call).decode
read_answer = msgspec.msgpack.Decoder(Answer).decode


class FrameError(Exception):
    """The peer broke the framing: the connection ends."""


def pack(message: Call | Answer) -> bytes:
    """The frame of one message. Raises FrameError if it is over MAX_FRAME."""
    body: bytes = encode(message)
    if len(body) > MAX_FRAME:
        raise FrameError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return len(body).to_bytes(_HEADER, "big") + body


def decode(data: Raw | bytes | memoryview, kind: Any) -> Any:
    """Strict decode of one value to a msgspec-supported type."""
    return msgspec.msgpack.decode(data, type=kind)


class Deframer:
    """Bytes in any chunking in, whole frame bodies out."""

    __slots__ = ("_held", "_wanted")

    def __init__(self) -> None:
        self._held = bytearray()  # the beginning of a frame
        self._wanted = 0  # bytes that `_held` must have before it makes sense to look again

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that these bytes complete. Raises FrameError."""
        if self._held:
            self._held += data
            if len(self._held) < self._wanted:
                return []
            data = bytes(self._held)
            self._held = bytearray()
        bodies: list[bytes] = []
        start = 0
        size = len(data)
        wanted = _HEADER
        while size - start >= _HEADER:
            length = data[start] << 24 | data[start + 1] << 16 | data[start + 2] << 8 | data[start + 3]
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
            if size - start - _HEADER < length:
                wanted = _HEADER + length
                break
            start += _HEADER
            bodies.append(data[start : start + length])
            start += length
        if start < size:
            self._held += data[start:]
            self._wanted = wanted
        return bodies
