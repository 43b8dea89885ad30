"""How a line is bound to the one before it. Pure.

    {"seq":N,"prev":"<hex>","record":{"type":…}}     a record
    {"seq":N,"prev":"<hex>","head":{…}}              a checkpoint: a head that the vault signed

`prev` is the SHA-256 of the previous line's bytes, without its line feed, in lower-case hex; of the first line,
`GENESIS`. Sequence numbers begin with 1 and have no gaps. The encoding is canonical: fields in the order of the
types, defaults left out, no spaces, UTF-8. So two different texts are never the same record.

The head in a checkpoint names a line before the checkpoint's own: lines may be written while the vault signs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

import msgspec

from appliance.audit.line import Line
from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import PeerError

GENESIS = "0" * 64
MAX_LINE = 1 << 20  # bytes; a record is at most intake.MAX_RECORD, twice over for the worst escapes
_HEAD_DOMAIN = b"coatcheck audit head v1\0"  # a signature of this key over anything else never starts so
_HEAD_LAYOUT = struct.Struct(">Q32sd")  # sequence, hash, time


class Tip(NamedTuple):
    """The last line of a chain."""

    sequence: int
    hash: str  # lower-case hex


BEGIN = Tip(0, GENESIS)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def bind(tip: Tip, payloads: Iterable[bytes]) -> tuple[bytes, Tip]:
    """The lines (each ended by a line feed) that put canonical record payloads after `tip`, and the new tip."""
    sequence, prev = tip.sequence, tip.hash.encode()
    lines = []
    for payload in payloads:
        sequence += 1
        line = b'{"seq":%d,"prev":"%b","record":%b}' % (sequence, prev, payload)
        prev = sha256(line).hexdigest().encode()
        lines.append(line)
    lines.append(b"")
    return b"\n".join(lines), Tip(sequence, prev.decode())


def bind_head(tip: Tip, head: SignedHead) -> tuple[bytes, Tip]:
    """The checkpoint line after `tip`, and the new tip."""
    line = _encode(Line(tip.sequence + 1, tip.hash, head=head))
    return line + b"\n", Tip(tip.sequence + 1, line_hash(line))


def line_hash(line: bytes) -> str:
    """Hex SHA-256 of a line without its line feed."""
    return sha256(line).hexdigest()


def read_line(line: bytes) -> Line:
    """Decodes one line without its line feed. Raises PeerError if it is not exactly what we would have written."""
    if len(line) > MAX_LINE:
        raise PeerError("audit-line", f"{len(line)} bytes are over the limit of {MAX_LINE}")
    try:
        read = _decode(line)
        again = _encode(read)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerError("audit-line", f"not a line of an audit log: {error}") from None
    if (read.record is None) == (read.head is None):
        raise PeerError("audit-line", "a line has either a record or a head")
    if again != line:
        raise PeerError("audit-line", "not in the canonical encoding")
    return read


def signed_bytes(head: Head) -> bytes:
    """What the vault's audit key signs for `head`. Raises ValueError if the hash is not 32 bytes."""
    if len(head.hash) != 32:
        raise ValueError("a head's hash has 32 bytes")
    return _HEAD_DOMAIN + _HEAD_LAYOUT.pack(head.sequence, head.hash, head.time)


def head_of(tip: Tip, now: float) -> Head:
    """The head to be signed for `tip` at `now`, seconds since the epoch."""
    return Head(tip.sequence, bytes.fromhex(tip.hash), now)
