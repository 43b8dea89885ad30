"""The gate of the log: bytes from a process that may be hostile in, canonical bytes out.

Every record is decoded with its type (unknown fields and types refused) and written as JSON by us, so that nothing
that a worker wrote reaches the file as it was written. A worker may write only the kinds of record that it is in a
position to know: one that was taken over cannot say that a job ended.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from appliance.model.errors import PeerError
from appliance.model.record import (
    FlowClosed,
    FlowOpened,
    NameAsked,
    OperationDecided,
    OperationEnded,
    Record,
    Refused,
    SessionStarted,
    StatementDecided,
    StatementEnded,
)

MAX_RECORD = 416 << 10  # bytes of one record's JSON; a path of the longest head with the worst escapes fits
MAX_BATCH = 20_000  # records in one append

_Kinds = (
    FlowOpened
    | FlowClosed
    | OperationDecided
    | OperationEnded
    | SessionStarted
    | StatementDecided
    | StatementEnded
    | NameAsked
    | Refused
)
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines  # JSON holds no raw line break


_decode = msgspec.msgpack.Decoder(Annotated[list[_Kinds], msgspec.Meta(max_length=MAX_BATCH)]).decode


def read(batch: msgspec.Raw | bytes) -> tuple[list[Record], list[bytes]]:
    """The records of a worker's batch (MessagePack, a list of them) and their canonical payloads, in order.

    Raises PeerError if any of them is too large or not a record that a worker may write, or there are too many. Then
    nothing of the batch may be written.
    """
    try:
        records: list[Record] = list(_decode(batch))
        payloads = _encode_lines(records).splitlines()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerError("audit-record", f"not a record that a worker may write: {error}") from None
    if records and max(map(len, payloads)) > MAX_RECORD:
        raise PeerError("audit-record", f"a record is over the limit of {MAX_RECORD} bytes")
    return records, payloads


def payload_of(record: Record) -> bytes:
    """The canonical payload of a record of our own."""
    return _encode(record)
