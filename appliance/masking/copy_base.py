"""What COPY streams of every format share: their options, what is held back, and how they are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from appliance.masking.masker import Masker
from appliance.model.errors import PeerError

MAX_ROW: Final = 16 << 20  # bytes of one row

_COPY_DATA: Final = 0x64  # 'd'


class CopyFormat(NamedTuple):
    """The options of a COPY statement, as the server takes them: single bytes, and the NULL string in the client's
    encoding. `force_quote`: indexes of the columns that FORCE_QUOTE names (all of them for `*`)."""

    format: str = "text"  # text, csv, binary
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    header: bool = False
    quote: bytes = b'"'
    escape: bytes = b'"'
    force_quote: frozenset[int] = frozenset()


CSV: Final = CopyFormat("csv", b",", b"")  # the defaults of FORMAT csv
BINARY: Final = CopyFormat("binary")


class CopyMasker:
    """Hides columns of one COPY. `rows`, `received`, `sent`: rows so far (a header is none), bytes before and after."""

    __slots__ = ("_count", "_held", "_held_size", "_maskers", "_max_row", "received", "rows", "sent")

    def __init__(self, columns: Sequence[Masker | None], max_row: int = MAX_ROW) -> None:
        self.rows = 0
        self.received = 0
        self.sent = 0
        self._maskers = list(columns)
        self._count = len(columns)
        self._max_row = max_row
        self._held: list[bytes] = []  # the unfinished row
        self._held_size = 0

    def feed(self, payload: bytes) -> bytes:
        """What the client gets for a CopyData's payload: whole rows; b"" if none is finished (then send nothing).

        Raises PeerError; nothing more may be sent then.
        """
        self.received += len(payload)
        out = self._feed(payload)
        self.sent += len(out)
        return out

    def mask(self, run: bytes) -> bytes:
        """The same for a run of whole CopyData messages (`d`, int32 length, payload), one after the other; each message
        that finishes rows comes out as one. Raises PeerError."""
        out: list[bytes] = []
        at = 0
        while at < len(run):
            stop = at + 1 + int.from_bytes(run[at + 1 : at + 5], "big")
            if run[at] != _COPY_DATA or stop < at + 5 or stop > len(run):
                raise broken("has something else than CopyData in it")
            payload = self.feed(run[at + 5 : stop])
            if payload:
                out.append(b"d")
                out.append((len(payload) + 4).to_bytes(4, "big"))
                out.append(payload)
            at = stop
        return b"".join(out)

    def end(self) -> None:
        """At CopyDone. Raises PeerError if a row, or a binary stream's trailer, is unfinished."""
        if self._held:
            raise broken("ends within a row")

    def _feed(self, payload: bytes) -> bytes:
        raise NotImplementedError

    def _hold(self, rest: bytes) -> None:
        if rest:
            self._held.append(rest)
            self._held_size += len(rest)
            if self._held_size > self._max_row:
                raise PeerError("masking-copy", f"a row of COPY is longer than {self._max_row} bytes")

    def _take(self, rest: bytes) -> bytes:
        """What is held, and this after it."""
        if not self._held:
            return rest
        self._held.append(rest)
        whole = b"".join(self._held)
        self._held = []
        self._held_size = 0
        return whole


def broken(what: str) -> PeerError:
    return PeerError("masking-copy", f"a COPY stream {what}")
