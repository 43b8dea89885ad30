"""Lines after a sequence number, found by bisection over the file: a line tells its own number."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from appliance.audit.chain import MAX_LINE
from appliance.audit.log import segments_of
from appliance.model.errors import EnvironmentFailed

_SEQUENCE = re.compile(rb'\{"seq":(\d{1,20}),')
_CLOSE = 1 << 16  # bytes; from here on, reading on is cheaper than bisecting


def lines_after(path: Path, after: int, limit: int, most_bytes: int = 4 << 20) -> list[bytes]:
    """At most `limit` whole lines (without line feeds, together at most about `most_bytes`) with sequences over
    `after`, in order, across the segments. Nothing is verified. Raises EnvironmentFailed if a file cannot be read.
    """
    segments = segments_of(path)
    later = [s for i, s in enumerate(segments) if i + 1 == len(segments) or segments[i + 1].first > after + 1]
    files = [s.path for s in later] + ([path] if path.exists() else [])
    found: list[bytes] = []
    size = 0
    for name in files:
        try:
            with open(name, "rb") as file:
                _seek(file, after)
                for line in file:
                    if len(found) >= limit or size >= most_bytes:
                        return found
                    if line.endswith(b"\n") and _number(line) > after:
                        found.append(line[:-1])
                        size += len(line)
        except OSError as error:
            raise EnvironmentFailed("audit", f"{name} cannot be read: {error.strerror}") from None
    return found


def _number(line: bytes) -> int:
    match = _SEQUENCE.match(line)
    return int(match[1]) if match else 0


def _seek(file: BinaryIO, after: int) -> None:
    """Positions `file` at the start of a line that is at or before the first one over `after`, and near it."""
    low, high = 0, os.fstat(file.fileno()).st_size  # `low` is always the start of a line that is not over `after`
    while high - low > _CLOSE:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline(MAX_LINE + 1)  # the rest of a line
        start = file.tell()
        line = file.readline(MAX_LINE + 1)
        if start >= high or not line or _number(line) > after:
            high = middle
        else:
            low = start
    file.seek(low)
