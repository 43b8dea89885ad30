"""What a frame between the processes holds. Apart from `frame`, which is compiled: Structs are not."""

from __future__ import annotations

from msgspec import Raw, Struct


class Call(Struct, frozen=True, array_like=True):
    number: int
    method: str
    params: Raw


class Answer(Struct, frozen=True, array_like=True):
    """`family` "" is success, otherwise the class name of the error family."""

    number: int
    family: str
    code: str
    message: str
    result: Raw
