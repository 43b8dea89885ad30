"""What an agent asks for when it opens a PostgreSQL session, held against the plan.

Settings may come as parameters of the startup packet or within `options`; both are read, and go on as parameters
(PostgreSQL documentation 55.2.1 and 34.1.2). What the plan has set (the search path, the role) is the session's default
too: RESET leads back to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from appliance.model.errors import Denied
from appliance.model.verdict import PostgresPlan
from appliance.wire.postgres import MAX_START, MIN_START

# Encodings of the client in which a byte below 128 always is that character: only these can be read as the server
# reads them. Names as the server folds them; Python's codec beside them.
CODECS: Final[Mapping[str, str]] = {
    "utf8": "utf-8",
    "unicode": "utf-8",
    "sqlascii": "utf-8",
    "latin1": "latin-1",
    "iso88591": "latin-1",
    "latin2": "iso8859-2",
    "latin5": "iso8859-9",
    "latin9": "iso8859-15",
    "iso88595": "iso8859-5",
    "koi8r": "koi8-r",
    "koi8u": "koi8-u",
    "win1250": "cp1250",
    "win1251": "cp1251",
    "win1252": "cp1252",
    "win1253": "cp1253",
    "win1254": "cp1254",
    "win1257": "cp1257",
    "eucjp": "euc_jp",
    "euckr": "euc_kr",
    "euccn": "gb2312",
}
_MOST: Final = MAX_START - MIN_START - 1  # bytes of the parameters: before them come length and version, then a NUL
_OFF: Final = frozenset(("off", "false", "no", "0", "f", "n", "fa", "fal", "fals", "of"))
# Parameters of the startup packet that are no settings, in small letters and no other
_APART: Final = frozenset(("user", "database", "options", "replication"))


class Startup(NamedTuple):
    """`parameters`: for the server's startup packet, all of it."""

    user: str
    database: str
    parameters: dict[str, str]
    codec: str  # of the agent's texts, as Python names it; "" as the database has it


def codec_of(encoding: str) -> str | None:
    """Python's name of a client_encoding; None if texts in it cannot be judged."""
    return CODECS.get("".join(c for c in encoding.lower() if c.isalnum()))


def check_startup(asked: Mapping[str, str], plan: PostgresPlan) -> Startup:
    """`asked`: the parameters of the startup packet. Raises Denied."""
    user = asked.get("user", "")
    if not user:
        raise Denied("startup", "the startup packet names no user")
    database = asked.get("database", "") or user
    if plan.users and user not in plan.users:
        raise Denied("user", f"user {user} may not be used here; allowed: {', '.join(plan.users)}")
    if plan.databases and database not in plan.databases:
        raise Denied("database", f"database {database} may not be used here; allowed: {', '.join(plan.databases)}")
    settings = _settings_of(asked.get("options", ""))  # the server takes these first: parameters win
    for name, value in asked.items():
        if name.startswith("_pq_."):
            continue  # NegotiateProtocolVersion has said that it is not understood
        if name == "replication":
            if value.strip().lower() not in _OFF:
                if not plan.replication or plan.masks:
                    why = "would show what is masked" if plan.replication else "are not allowed here"
                    raise Denied("replication", f"replication connections {why}")
                settings[name] = value
        elif name not in _APART:
            settings[_setting(name)] = value
    codec = _check_settings(settings, plan)
    parameters = {"user": user, "database": database, **settings}
    if plan.search_path:
        parameters["search_path"] = ", ".join('"' + name.replace('"', '""') + '"' for name in plan.search_path)
    if plan.role:
        parameters["role"] = plan.role
    if plan.judged:
        parameters["standard_conforming_strings"] = "on"  # whatever the role or the database has for a default
    if sum(len(name.encode()) + len(value.encode()) + 2 for name, value in parameters.items()) > _MOST:
        raise Denied("startup", "with what policy sets, the startup packet is longer than the server takes it")
    return Startup(user, database, parameters, codec)


def _check_settings(settings: Mapping[str, str], plan: PostgresPlan) -> str:
    if plan.search_path and "search_path" in settings:
        raise Denied("search-path", f"search_path is set by policy, to {', '.join(plan.search_path)}")
    if plan.role or plan.judged:
        for name in ("role", "session_authorization"):
            if name in settings:
                raise Denied("role", f"{name} is not the agent's to set here")
    if not plan.judged:
        return ""
    if settings.get("standard_conforming_strings", "on").strip().lower() in _OFF:
        raise Denied(
            "standard-conforming-strings", "standard_conforming_strings must stay on where statements are judged"
        )
    encoding = settings.get("client_encoding", "")
    if encoding.lower() in ("", "auto"):
        return ""
    codec = codec_of(encoding.strip("'\""))
    if codec is None:
        raise Denied("client-encoding", f"statements in {encoding} cannot be judged; use UTF8")
    return codec


def _settings_of(options: str) -> dict[str, str]:
    """The settings in `options`: `-c name=value`, `-cname=value`, `--name=value`. Raises Denied for other switches."""
    settings: dict[str, str] = {}
    words = _words_of(options)
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            pair = words.pop(0)
        elif word.startswith(("-c", "--")):
            pair = word[2:]
        else:
            raise Denied("options", f"the option {word!r} is not understood; write -c name=value")
        name, mark, value = pair.partition("=")
        if not mark or not name:
            raise Denied("options", f"the option {word!r} sets nothing; write -c name=value")
        settings[_setting(name.replace("-", "_"))] = value
    return settings


def _setting(name: str) -> str:
    """A setting's name as the server folds it. Raises Denied for what would be, as a parameter, no setting at all."""
    folded = name.lower()
    if folded in _APART or folded.startswith("_pq_."):
        raise Denied("startup", f"there is no setting {name}")
    return folded


def _words_of(options: str) -> list[str]:
    """As the server splits them (pg_split_opts): at white space, a backslash takes the next character as it is."""
    words: list[str] = []
    word: list[str] = []
    inside = escaped = False
    for c in options:
        if escaped:
            word.append(c)
            escaped = False
        elif c == "\\":
            escaped = inside = True
        elif c in " \t\n\r\v\f":
            if inside:
                words.append("".join(word))
            word, inside = [], False
        else:
            word.append(c)
            inside = True
    if inside:
        words.append("".join(word))
    return words
