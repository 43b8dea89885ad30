"""What a check says."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "missing", "optional", "not checked"]


class Finding(NamedTuple):
    """`state`: `missing` is needed; `optional` is not there, and `detail` says what that means. `mend`: what to do."""

    name: str
    state: State
    detail: str
    mend: str = ""


NEEDS_ROOT = "run it as root"


def unknown(name: str, why: str, mend: str = "") -> Finding:
    return Finding(name, "not checked", why, mend)
