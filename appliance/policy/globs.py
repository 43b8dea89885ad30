"""Patterns of paths and hosts, turned into anchored regular expressions.

A path's `*` stays within a segment, `**` goes across. `%2F` parts segments too: a server may decode it.
A host is exact, or `*.` and a name: exactly one more label.
"""

from __future__ import annotations

import re

_PART = re.compile(r"\*\*|\*|[^*]+")
_HOST = re.compile(r"(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*|\[[0-9a-f:.]+\]")
_WITHIN = r"(?:[^/%]|%(?:[013-9A-F][0-9A-F]|2[0-9A-E]))*"


def path_pattern(glob: str) -> str:
    """The regular expression of a path glob. Raises ValueError if it does not start with a slash or `*`."""
    if not glob.startswith(("/", "**")) or not glob.isascii():
        raise ValueError(
            f"{glob!r} is not a path pattern: it starts with / and is ASCII, for example /repos/*/issues/**"
        )
    parts = (_WITHIN if part == "*" else ".*" if part == "**" else re.escape(part) for part in _PART.findall(glob))
    return "^" + "".join(parts) + "$"


def host_pattern(host: str) -> str:
    """The regular expression of a host pattern. Raises ValueError for anything but a name in lower case, an address
    (IPv6 in brackets), or `*.` and a name."""
    if len(host) > 253 or _HOST.fullmatch(host) is None:
        raise ValueError(
            f"{host!r} is not a host: write a name in lower case without a trailing dot, an address (IPv6 in brackets),"
            " or *. and a name for exactly one more label"
        )
    if host.startswith("*."):
        return r"^[a-z0-9-]+\." + re.escape(host[2:]) + "$"
    return "^" + re.escape(host) + "$"
