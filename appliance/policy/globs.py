"""Patterns of paths and hosts, turned into anchored regular expressions.

A path's `*` stays within a segment, `**` goes across. `%2F` is a slash to some servers and a character to others, and
what follows a `;` in a segment is not looked at by some: a pattern that allows fits only what it fits in the strict
reading, one that refuses fits if it does in any.
A host is exact, or `*.` and a name: exactly one more label.
"""

from __future__ import annotations

import re

from appliance.model.errors import PeerError
from appliance.wire.target import parse_target

_PART = re.compile(r"\*\*|\*|(?:[^*/%]|%(?!2F))+|/|%2F")
_HOST = re.compile(r"(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*|\[[0-9a-f:.]+\]")
_PARAMETERS = r"(?:(?:;|%3B)[^/]*)?"
_ALLOWING = {
    "*": r"(?:[^/%]|%(?:[013-9A-F][0-9A-F]|2[0-9A-E]))*",
    "**": r"(?:[^%]|%[0-9A-F]{2})*",
}
_REFUSING = {
    "*": r"(?:[^/%]|%[0-9A-F]{2})*",
    "**": _ALLOWING["**"],
    "/": _PARAMETERS + "(?:/|%2F)",
    "%2F": _PARAMETERS + "(?:/|%2F)",
}


def path_pattern(glob: str, refuses: bool = False) -> str:
    """The regular expression of a path glob; `refuses`: of a rule that denies or holds.

    Raises ValueError if it does not start with a slash or `**`, or no path looks like it (see `appliance.wire.target`).
    """
    if not glob.startswith(("/", "**")) or not glob.isascii():
        raise ValueError(
            f"{glob!r} is not a path pattern: it starts with / and is ASCII, for example /repos/*/issues/**"
        )
    whole = glob if glob[0] == "/" else "/" + glob
    try:
        path = parse_target(whole.encode()).path
    except PeerError as error:
        raise ValueError(f"{glob!r} fits no path: {error}") from None
    if path != whole:
        raise ValueError(f"{glob!r} fits no path: write it as {path if glob[0] == '/' else path[1:]}")
    meaning = _REFUSING if refuses else _ALLOWING
    parts = "".join(meaning.get(part) or re.escape(part) for part in _PART.findall(glob))
    return "^" + parts + (_PARAMETERS if refuses else "") + "$"


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
