"""The events of the HTTP/1.1 readers."""

from __future__ import annotations

from typing import Final, Literal, final

from msgspec import Struct

Header = tuple[bytes, bytes]
Framing = Literal["none", "length", "chunked", "close"]


class _Head(Struct, frozen=True):
    """What both heads have. `headers`: names as sent, values stripped. `fields`: lower-case name to value, repeats
    joined by ", ". `length`: bytes of the body if `framing` is "length", else the Content-Length that was sent (for
    a body that does not follow: HEAD, 304), else -1. `version`: the minor one, 0 or 1. `raw`: of a request the field
    lines as they were sent, with the empty line; of a response the whole head, or nothing if its lines are not written
    as nearly all senders write them."""

    headers: list[Header]
    fields: dict[bytes, bytes]
    version: int
    framing: Framing
    length: int
    keep_alive: bool
    upgrade: str
    raw: bytes

    def get(self, name: bytes) -> bytes | None:
        """The value of the field with this lower-case name, repeats joined by ", "; None if there is none."""
        return self.fields.get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of every field with this lower-case name, in order."""
        if len(self.fields) == len(self.headers):
            value = self.fields.get(name)
            return [] if value is None else [value]
        return [value for key, value in self.headers if key.lower() == name]


@final
class RequestHead(_Head, frozen=True):
    """A request's first line and fields. `target` is raw, its `form` one of "origin", "absolute", "authority"
    (CONNECT), "asterisk" (OPTIONS). `upgrade`: the one protocol asked for, lower case, or ""."""

    method: str
    target: bytes
    form: str
    expect_continue: bool
    te_trailers: bool


@final
class ResponseHead(_Head, frozen=True):
    """A response's first line and fields. `informational`: a 1xx other than 101; a head follows, no END."""

    status: int
    reason: bytes
    informational: bool


@final
class Trailers(Struct, frozen=True):
    """The fields after a chunked body; given only if there are any."""

    headers: list[Header]


@final
class End(Struct, frozen=True):
    """A message is complete. There is one: END."""


END: Final = End()


Event = RequestHead | ResponseHead | bytes | Trailers | End
