"""Coded bodies: undone, scrubbed, coded again, in any chunking, in bounded memory; what cannot be read is refused."""

from __future__ import annotations

import gzip
import itertools
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import PeerError
from appliance.placeholders.coding import PIECE, ContentScrubber, parse_content_encoding
from tests.placeholders.test_scrub import NEW, REAL, SCRUBBER


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def inflate_any(data: bytes) -> bytes:
    return zlib.decompress(data)


def unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "x-gzip": gzip.decompress,
    "deflate": inflate_any,
    "br": brotli.decompress,
    "zstd": unzstd,
}
PLAIN = b'{"token": "' + REAL + b'", "rest": "' + bytes(range(32, 127)) * 20 + b'"}'
SCRUBBED = PLAIN.replace(REAL, NEW.encode())


def through(codings: Iterable[str], data: bytes, size: int = 1 << 30) -> bytes:
    scrubber = ContentScrubber(tuple(codings), SCRUBBER)
    out = [b"".join(scrubber.feed(data[at : at + size])) for at in range(0, len(data), size)]
    out.append(b"".join(scrubber.flush()))
    return b"".join(out)


def packed(codings: Iterable[str], data: bytes) -> bytes:
    for coding in codings:
        data = PACK[coding](data)
    return data


def unpacked(codings: Iterable[str], data: bytes) -> bytes:
    for coding in reversed(tuple(codings)):
        data = UNPACK[coding](data)
    return data


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 1 << 30])
@pytest.mark.parametrize("coding", PACK)
def test_each_coding_in_any_chunking(coding: str, size: int) -> None:
    out = through([coding], PACK[coding](PLAIN), size)
    assert UNPACK[coding](out) == SCRUBBED


@pytest.mark.parametrize("size", [1, 2, 3, 1 << 30])
def test_raw_deflate(size: int) -> None:
    assert inflate_any(through(["deflate"], raw_deflate(PLAIN), size)) == SCRUBBED


@pytest.mark.parametrize(
    "codings", [c for n in (2, 3) for c in itertools.product(["gzip", "deflate", "br", "zstd"], repeat=n)][::3]
)
def test_codings_on_top_of_each_other(codings: tuple[str, ...]) -> None:
    assert unpacked(codings, through(codings, packed(codings, PLAIN), 500)) == SCRUBBED


@pytest.mark.parametrize("size", [1, 10, 1 << 30])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_more_than_one_member_with_a_secret_across_them(coding: str, size: int) -> None:
    at = PLAIN.index(REAL) + 10
    data = PACK[coding](PLAIN[:at]) + PACK[coding](b"") + PACK[coding](PLAIN[at:])
    assert UNPACK[coding](through([coding], data, size)) == SCRUBBED


@pytest.mark.parametrize("size", [1, 100, 1 << 30])
@pytest.mark.parametrize("coding", PACK)
def test_a_body_that_is_cut_short_is_refused(coding: str, size: int) -> None:
    data = PACK[coding](PLAIN)
    for end in (1, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(PeerError) as caught:
            through([coding], data[:end], size)
        assert caught.value.code == "content-coding"


@pytest.mark.parametrize("garbage", [b"x", b"\0" * 8, REAL, b"\x1f\x8b"])
@pytest.mark.parametrize("size", [1, 1 << 30])
@pytest.mark.parametrize("coding", PACK)
def test_what_goes_on_after_its_end_is_refused(coding: str, size: int, garbage: bytes) -> None:
    with pytest.raises(PeerError):
        through([coding], PACK[coding](PLAIN) + garbage, size)


@pytest.mark.parametrize("coding", PACK)
def test_an_empty_body_stays_one(coding: str) -> None:
    for data in (b"", PACK[coding](b"")):
        out = through([coding], data)
        assert out == b"" or UNPACK[coding](out) == b""


@settings(derandomize=True, max_examples=200)
@given(st.sampled_from(sorted(PACK)), st.binary(max_size=300), st.data())
def test_garbage_raises_nothing_but_peer_errors(coding: str, noise: bytes, data: st.DataObject) -> None:
    body = bytearray(PACK[coding](PLAIN))
    at = data.draw(st.integers(0, len(body)))
    body[at : at + len(noise)] = noise
    for each in (noise, bytes(body)):
        try:
            through([coding], each, 64)
        except PeerError as error:
            assert error.code == "content-coding"  # noqa: PT017  # other errors end the test


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_taken_apart_in_bounded_memory(coding: str) -> None:
    """40 MB of zeros in some 40 kB or less."""
    bomb = PACK[coding](bytes(20_000_000))
    data = bomb * 2 if coding in ("gzip", "zstd") else PACK[coding](bytes(40_000_000))
    scrubber = ContentScrubber((coding,), SCRUBBER)
    out: list[bytes] = []
    tracemalloc.start()
    try:
        for at in range(0, len(data), 65536):
            for piece in scrubber.feed(data[at : at + 65536]):
                assert len(piece) <= 2 * PIECE
                out.append(piece)
        out += scrubber.flush()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert UNPACK[coding](b"".join(out)).strip(b"\0") == b"" if coding != "zstd" else out
    assert peak < 20_000_000


def test_a_stream_flows_with_each_chunk() -> None:
    packer, unpacker = zlib.compressobj(6, zlib.DEFLATED, 31), zlib.decompressobj(31)
    gzipped = ContentScrubber(("gzip",), SCRUBBER)
    brotlied, brotli_packer, brotli_unpacker = (
        ContentScrubber(("br",), SCRUBBER),
        brotli.Compressor(),
        brotli.Decompressor(),
    )
    for number in range(5):
        event = b"data: %d\n\n" % number
        out = b"".join(gzipped.feed(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)))
        assert unpacker.decompress(out) == event
        out = b"".join(brotlied.feed(brotli_packer.process(event) + brotli_packer.flush()))
        assert brotli_unpacker.process(out) == event


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], ()),
        ([b""], ()),
        ([b"identity"], ()),
        ([b"gzip"], ("gzip",)),
        ([b" GZip\t"], ("gzip",)),
        ([b"gzip, br"], ("gzip", "br")),
        ([b"gzip", b"identity,, br"], ("gzip", "br")),
        ([b"deflate,zstd,x-gzip"], ("deflate", "zstd", "x-gzip")),
    ],
)
def test_content_encoding(values: list[bytes], codings: tuple[str, ...]) -> None:
    assert parse_content_encoding(values) == codings


@pytest.mark.parametrize(
    "value", [b"compress", b"gzip;q=1", b"gzip gzip", b"aes128gcm", b"exi", b"*", b"\xff", b"dcb", b"gzip,br,gzip,br"]
)
def test_codings_that_cannot_be_undone_are_refused(value: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        parse_content_encoding([value])
    assert caught.value.code == "content-coding"


def test_random_bodies_come_out_as_they_were() -> None:
    data = random.Random(5).randbytes(700_000)
    for coding in PACK:
        assert UNPACK[coding](through([coding], PACK[coding](data), 10_000)) == data
