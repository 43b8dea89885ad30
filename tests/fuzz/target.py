"""Targets: a path that is taken is normal; a query goes out as it came in."""

from __future__ import annotations

import random
from urllib.parse import unquote

from appliance.wire.target import join_query, parse_target, query_pieces
from tests.fuzz.runner import Harness, main


def check(data: bytes, chance: random.Random) -> None:
    target = parse_target(data)
    if target.with_query(target.query) != data:
        raise AssertionError("the target does not come out as it went in")
    if target.path != "*":
        if parse_target(target.path.encode()).path != target.path:
            raise AssertionError("a normal path is not a fixed point")
        segments = unquote(target.path, "latin-1").split("/")
        if any(s.partition(";")[0] in (".", "..") for s in segments) or "" in segments[1:-1] or "\\" in target.path:
            raise AssertionError("a path with two meanings is taken")
    if join_query(query_pieces(target.query)) != target.query:
        raise AssertionError("the query does not come out as it went in")


HARNESS = Harness(
    "target",
    [b"/a/b/c?d=e&f=g", b"/%41/..a/b;c?%20+=&&x", b"*", b"/repos/o/r/issues?state=open", b"/@scope%2fname"],
    [b"/", b"//", b"..", b"%2e", b"%2F", b"%5c", b"%00", b"%", b"?", b"&", b"=", b";", b"\\", b"+", b"%c3%a9", b"#"],
    check,
)

if __name__ == "__main__":
    main(HARNESS)
