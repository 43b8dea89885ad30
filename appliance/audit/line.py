"""One line of the log. Apart from `chain`, which is compiled: Structs are not."""

from __future__ import annotations

from msgspec import Struct

from appliance.ipc.messages import SignedHead
from appliance.model.record import AnyRecord


class Line(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line, decoded. Exactly one of `record` and `head` is there."""

    seq: int
    prev: str
    record: AnyRecord | None = None
    head: SignedHead | None = None
