"""The gate of the log: bytes from a process that may be hostile in, canonical bytes out.

Every record is decoded with its type (unknown fields and types refused) and written as JSON by us, so that nothing
that a peer wrote reaches the file as it was written. Each peer may write only the kinds of record
that it is in a position to know: a proxy that was taken over cannot say that a job ended.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import msgspec

from appliance.model.errors import Denied, PeerError
from appliance.model.record import (
    FlowClosed,
    FlowOpened,
    NameAsked,
    OperationDecided,
    OperationEnded,
    PlaceholderMinted,
    Record,
    Refused,
    ServiceEvent,
    SessionStarted,
    StatementDecided,
    StatementEnded,
)

MAX_RECORD = 512 << 10  # bytes of one record's JSON; a path of the longest head with the worst escapes fits
MAX_BATCH = 20_000  # records in one append

Process = Literal["kernel", "vault", "proxy"]

# What each process may write. JobStarted, JobEnded and PolicyChanged are control's own.
_KINDS: dict[Process, tuple[type[Record], ...]] = {
    "proxy": (
        FlowOpened,
        FlowClosed,
        OperationDecided,
        OperationEnded,
        SessionStarted,
        StatementDecided,
        StatementEnded,
        NameAsked,
        Refused,
        ServiceEvent,
    ),
    "vault": (PlaceholderMinted, ServiceEvent),
    "kernel": (Refused, ServiceEvent),
}
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines  # JSON holds no raw line break


class Intake:
    """What one process may write, ready to decode it."""

    __slots__ = ("_decode", "_process")

    def __init__(self, process: Process) -> None:
        self._process = process
        kinds: Any = reduce(or_, _KINDS[process])
        self._decode = msgspec.msgpack.Decoder(Annotated[list[kinds], msgspec.Meta(max_length=MAX_BATCH)]).decode

    def read(self, batch: msgspec.Raw | bytes) -> tuple[list[Record], list[bytes]]:
        """The records of a batch (MessagePack, a list of them) and their canonical payloads, in order.

        Raises PeerError if any of them is too large or not a record that this process may write, or there are too
        many; Denied if it speaks for another process. Then nothing of the batch may be written.
        """
        try:
            records: list[Record] = self._decode(batch)
            payloads = _encode_lines(records).splitlines()
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise PeerError("audit-record", f"not a record that {self._process} may write: {error}") from None
        if records and max(map(len, payloads)) > MAX_RECORD:
            raise PeerError("audit-record", f"a record is over the limit of {MAX_RECORD} bytes")
        for record in records:
            if type(record) is ServiceEvent and record.process != self._process:
                raise Denied("audit-process", f"{self._process} may not write a record of {record.process}")
        return records, payloads


def payload_of(record: Record) -> bytes:
    """The canonical payload of a record of our own."""
    return _encode(record)
