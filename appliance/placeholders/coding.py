"""Coded bodies: undone, scrubbed, and coded again with the same codings, a bounded piece at a time.

A decompression bomb is as much work as its plain size but never more memory than a piece: the caller takes the pieces
one by one and may rest between two. The encoder is flushed after each chunk that came, so that a stream flows.

A body that breaks its own coding, ends early or goes on after its end is refused (PeerError): what cannot be read
cannot be scrubbed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import brotli
import zstandard

from appliance.model.errors import PeerError
from appliance.placeholders.scrub import Scrubber

PIECE: Final = 256 * 1024  # bytes of plain body at a time
MOST_CODINGS: Final = 3  # on top of each other
_ZSTD_WINDOW: Final = 8 << 20  # bytes, RFC 9659 3
CODINGS: Final = frozenset(("gzip", "x-gzip", "deflate", "br", "zstd"))


def parse_content_encoding(values: Sequence[bytes]) -> tuple[str, ...]:
    """The codings of a body in the order in which they were applied (RFC 9110 8.4), without identity.

    Raises PeerError("content-coding") for one that cannot be undone, or more than three.
    """
    if not values:
        return ()
    names = [part.strip(b" \t").lower().decode("latin-1") for value in values for part in value.split(b",")]
    codings = tuple(name for name in names if name not in ("", "identity"))
    unknown = [name for name in codings if name not in CODINGS]
    if unknown:
        raise PeerError(
            "content-coding", f"the body has the content coding {unknown[0][:32]!r}, which cannot be undone"
        )
    if len(codings) > MOST_CODINGS:
        raise PeerError("content-coding", f"the body has more than {MOST_CODINGS} content codings")
    return codings


class _Decoder(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def end(self) -> None: ...


class _Encoder(Protocol):
    def feed(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def end(self) -> bytes: ...


class ContentScrubber:
    """One body. `codings` as `parse_content_encoding` gives them."""

    def __init__(self, codings: Sequence[str], scrubber: Scrubber) -> None:
        self._decoders: list[_Decoder] = [_decoder(coding) for coding in reversed(codings)]
        self._encoders: list[_Encoder] = [_encoder(coding) for coding in codings]
        self._stream = scrubber.stream()
        self.flushed = False

    @property
    def count(self) -> int:
        return self._stream.count

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The coded pieces that `data` gives. Take all of them before the next call. Raises PeerError."""
        wrote = False
        for plain in self._decode(data, 0):
            wrote = True
            yield self._encode(self._stream.feed(plain))
        if wrote:
            yield self._flush_encoders()

    def flush(self) -> Iterator[bytes]:
        """What is left, at the body's end. Raises PeerError if it was cut short."""
        self.flushed = True
        for decoder in self._decoders:
            decoder.end()
        rest = self._encode(self._stream.flush())
        for index, encoder in enumerate(self._encoders):
            rest = (encoder.feed(rest) if index else rest) + encoder.end()
        yield rest

    def _decode(self, data: bytes, level: int) -> Iterator[bytes]:
        if level == len(self._decoders):
            yield data
            return
        for piece in self._decoders[level].feed(data):
            yield from self._decode(piece, level + 1)

    def _encode(self, data: bytes) -> bytes:
        for encoder in self._encoders:
            data = encoder.feed(data) if data else data
        return data

    def _flush_encoders(self) -> bytes:
        data = b""
        for encoder in self._encoders:
            data = (encoder.feed(data) if data else b"") + encoder.flush()
        return data


def _decoder(coding: str) -> _Decoder:
    if coding in ("gzip", "x-gzip"):
        return _ZlibDecoder(16 + zlib.MAX_WBITS)
    if coding == "deflate":
        return _ZlibDecoder(zlib.MAX_WBITS)
    return _BrotliDecoder() if coding == "br" else _ZstdDecoder()


def _encoder(coding: str) -> _Encoder:
    if coding in ("gzip", "x-gzip"):
        return _ZlibEncoder(16 + zlib.MAX_WBITS)
    if coding == "deflate":
        return _ZlibEncoder(zlib.MAX_WBITS)
    return _BrotliEncoder() if coding == "br" else _ZstdEncoder()


def _broken(coding: str) -> PeerError:
    return PeerError("content-coding", f"the body is not well-formed {coding}")


class _ZlibDecoder:
    """gzip (RFC 1952, with more than one member) and deflate (RFC 9110 8.4.1.2: zlib; raw deflate is seen often)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._name = "gzip" if wbits > zlib.MAX_WBITS else "deflate"
        self._zlib = zlib.decompressobj(wbits)
        self._begun = False
        self._complete = False
        self._first = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._begun and self._name == "deflate":
            data, self._first = self._first + data, b""
            if len(data) < 2:  # zlib's header, or its absence, is told by two bytes
                self._first = data
                return
        while data:
            if self._complete:
                if self._name == "deflate":
                    raise _broken(self._name)
                self._zlib, self._complete = zlib.decompressobj(self._wbits), False
            try:
                plain = self._zlib.decompress(data, PIECE)
            except zlib.error:
                if self._name == "gzip" or self._begun:
                    raise _broken(self._name) from None
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
                self._begun = True
                continue
            self._begun = True
            if plain:
                yield plain
            if self._zlib.eof:
                self._complete = True
                data = self._zlib.unused_data
            else:
                data = self._zlib.unconsumed_tail
                if not data and len(plain) == PIECE:
                    yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        """Output that zlib still holds although it took all input."""
        while True:
            try:
                plain = self._zlib.decompress(b"", PIECE)
            except zlib.error:
                raise _broken(self._name) from None
            if plain:
                yield plain
            if len(plain) < PIECE:
                self._complete = self._zlib.eof
                return

    def end(self) -> None:
        if (self._begun and not self._complete) or self._first:
            raise PeerError("content-coding", f"the {self._name} body ends too early")


class _ZlibEncoder:
    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.compressobj(1, zlib.DEFLATED, wbits)

    def feed(self, data: bytes) -> bytes:
        return self._zlib.compress(data)

    def flush(self) -> bytes:
        return self._zlib.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._zlib.flush(zlib.Z_FINISH)


class _BrotliDecoder:
    """RFC 7932. Output is taken in pieces; input is given only when all output of the last is out."""

    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        self._begun = True
        try:
            if self._brotli.is_finished():
                raise _broken("br")
            plain = self._brotli.process(data, output_buffer_limit=PIECE)
            while True:
                if plain:
                    yield plain
                full = len(plain) >= PIECE  # then more may be left although all input was taken
                if self._brotli.is_finished() or (self._brotli.can_accept_more_data() and not full):
                    return
                plain = self._brotli.process(b"", output_buffer_limit=PIECE)
        except brotli.error:
            raise _broken("br") from None

    def end(self) -> None:
        if self._begun and not self._brotli.is_finished():
            raise PeerError("content-coding", "the br body ends too early")


class _BrotliEncoder:
    def __init__(self) -> None:
        self._brotli = brotli.Compressor(quality=1)

    def feed(self, data: bytes) -> bytes:
        return bytes(self._brotli.process(data))

    def flush(self) -> bytes:
        return bytes(self._brotli.flush())

    def end(self) -> bytes:
        return bytes(self._brotli.finish())


class _ZstdDecoder:
    """RFC 8878, one frame after the other. The decoder gives all output of an input, so input is given in small steps:
    a block is at most 128 KiB (3.1.1.2) and takes at least 4 bytes."""

    _STEP = 16  # bytes: at most four blocks of 128 KiB
    _MOST = 256  # bytes: at the very worst 8 MiB of output, which is then the piece

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._frame = self._context.decompressobj()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        step = self._STEP
        position = 0
        while position < len(data):
            if self._frame.eof:
                self._frame = self._context.decompressobj()
            self._begun = True
            piece = data[position : position + step]
            try:
                plain = self._frame.decompress(piece)
            except zstandard.ZstdError:
                raise _broken("zstd") from None
            position += len(piece) - len(self._frame.unused_data if self._frame.eof else b"")
            # what expands little may be given in larger steps
            step = min(step * 2, self._MOST) if len(plain) <= 2 * len(piece) else self._STEP
            for start in range(0, len(plain), PIECE):
                yield plain[start : start + PIECE]

    def end(self) -> None:
        if self._begun and not self._frame.eof:
            raise PeerError("content-coding", "the zstd body ends too early")


class _ZstdEncoder:
    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=1).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._zstd.compress(data)

    def flush(self) -> bytes:
        return self._zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._zstd.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)
