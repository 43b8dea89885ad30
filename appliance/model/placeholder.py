"""Secrets as they are known without their value: bindings, slots, leases."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.model.ids import JobId, SecretName
from appliance.model.secret import Secret

SlotKind = Literal["header", "basic", "query", "postgres", "upstream-certificate"]


class Slot(Struct, frozen=True):
    """A named place where a placeholder may stand.

    `header`: the value of header `name` (lower case), alone or after an authentication scheme word.
    `basic`: user name or password (`name` is "user" or "password") of HTTP Basic (RFC 7617).
    `query`: the value of query parameter `name`.
    `postgres`: the password of PostgreSQL user `name` ("": of any).
    `upstream-certificate`: no place for a placeholder: the value is a certificate chain and its key (PEM) that TLS to
    the destination is opened with. A lease carries it without placeholders.
    """

    kind: SlotKind
    name: str


class Narrowing(Struct, frozen=True):
    """What a minted placeholder is narrowed to; empty means: as the secret allows."""

    host: str = ""
    method: str = ""
    path: str = ""  # glob: `*` within a segment, `**` across


class LeasedPlaceholder(Struct, frozen=True):
    text: str  # ASCII
    narrowing: Narrowing
    expires: float  # seconds since the epoch
    counted: bool  # True: every use is asked of the vault (`use`), which counts exactly


class LeasedSecret:
    """One secret, as the proxy may use it for one job at one destination for a few seconds."""

    __slots__ = ("name", "placeholders", "slots", "value")

    def __init__(
        self, name: SecretName, value: Secret, slots: tuple[Slot, ...], placeholders: tuple[LeasedPlaceholder, ...]
    ) -> None:
        self.name = name
        self.value = value
        self.slots = slots
        self.placeholders = placeholders  # the job's first, then minted ones


class Binding(Struct, frozen=True):
    """What the vault stores of one placeholder; `digest` is SHA-256 of its text."""

    digest: bytes
    job: JobId
    secret: SecretName
    narrowing: Narrowing
    expires: float
    uses_left: int | None
