"""SQL texts: nothing but `Unparsed` is raised; a text that has a key means what every text of its key means."""

from __future__ import annotations

import random

from appliance.sql.normal import normal
from appliance.sql.shape import shape
from appliance.sql.statements import Statement, Unparsed, statements
from tests.fuzz.runner import Harness, main
from tests.sql.texts import TEXTS


def bare(found: tuple[Statement, ...]) -> list[Statement]:
    return [s._replace(start=0, end=0, inner=tuple(bare(s.inner))) for s in found]


def meaning(text: bytes) -> list[Statement] | None:
    try:
        return bare(statements(text))
    except Unparsed:
        return None


def check(data: bytes, chance: random.Random) -> None:
    found = meaning(data)
    for statement in found or []:
        if "unknown" in statement.marks:
            raise AssertionError("the tree holds what is not known")
    key = normal(data)
    if key is None:
        return
    other = b"".join(
        b"%d" % chance.choice((0, 1, 5, 60, 999_999_999)) if byte == 2
        else bytes(chance.choices(b"a1 \"-*/;$%", k=chance.randrange(4))) if byte == 1
        else bytes((byte,))
        for byte in key
    )  # fmt: skip
    if normal(other) == key and (meaning(other) != found or shape(other) != shape(data)):
        raise AssertionError(f"of one key, and of two meanings: {other!r}")


HARNESS = Harness(
    "sql",
    [text.encode() for text in TEXTS],
    [
        *(b"'", b'"', b"''", b"--", b"/*", b"*/", b"$$", b"$a$", b"$1", b"\\", b"E'", b"U&'", b'U&"', b";", b"("),
        *(b"->", b"1", b"0", b"5.", b".5", b"1e3", b"0x1", b"float(", b"set_config(", b" union "),
        *(b"with a as (", b"\xc3\xa9", b" from t", b"json_value(", b")", b",", b"::", b"[", b"\0", b"\1", b"\2"),
    ],
    check,
)  # fmt: skip

if __name__ == "__main__":
    main(HARNESS)
