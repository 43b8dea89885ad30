"""A key under which texts that differ in constants alone fall together, so that one analysis serves all of them.

Whenever `normal(a) == normal(b)`, and both are not None, either neither text parses or both hold the same statements
(one, or none) in all that `statements` says but `start` and `end`, and the same `shape`; or one of them is refused for
its size ("sql-size", "sql-depth"). It is no lexer: where anything stands in a text that could make its reading of
quotes or numbers differ from the server's, there is no key.

Why it is sound. The regular expressions and the server's lexer agree on where '…' and "…" begin and end until the first
comment, backslash, dollar quote or U&; whatever would part them stands in the key itself, before they part, and makes
it None. So a text is its key with each mark filled by a constant of the same token: '…' without a backslash, or digits
that are an int4 (nine at most) with nothing of a name or number beside them. What then depends on the value of a
constant has no key, by its words: set_config, float(n) (the one check of a number in the grammar), every statement that
is not a query (SET, EXPLAIN (ANALYZE 0), …), and strings that may name a part of a JSON value (with ->, #>, [ or a
function that has "json" in its name): so what follows columns into expressions may depend on those, but on no other
constant.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.sql.grammar import MAX_BYTES

# Each begins with one character or a set of them: so the regular expression engine skips to it.
_STRINGS: Final = re.compile(rb"'[^']*'").sub
_NUMBERS: Final = re.compile(
    rb"""[0-9](?<=[^\w$.'"\x80-\xff][0-9])[0-9]{0,8}(?![\w$.'"\x80-\xff])""",
).sub
_SPLIT: Final = re.compile(rb"""("[^"]*"|'[^']*')""").split
_NOT_A_PARAMETER: Final = re.compile(rb"\$(?![0-9])").search
_MATTERS: Final = (b"set_config", b"float", b"json", b"operator")
_STRING: Final = b"'\1'"
_NUMBER: Final = b"\2"
# `b"x" in text` tries b"x" as a number first, and makes an exception of that: a number takes an eighth of the time
_BACKSLASH: Final = 0x5C
_QUOTE: Final = 0x27
_NAME_QUOTE: Final = 0x22
_MINUS: Final = 0x2D
_SLASH: Final = 0x2F
_BRACKET: Final = 0x5B
_DOLLAR: Final = 0x24
_PARENTHESIS: Final = 0x28
_COMMON: Final = frozenset((b"select", b"SELECT", b"insert", b"INSERT", b"update", b"UPDATE", b"delete", b"DELETE"))
_QUERIES: Final = (b"select", b"insert", b"update", b"delete", b"with", b"values", b"execute", b"merge", b"table")


def normal(text: bytes) -> bytes | None:
    """The key of a text, or None where it has none: then its analysis is its own."""
    if len(text) > MAX_BYTES:  # what is too long by itself is not read because a shorter one was
        return None
    if text[:6] not in _COMMON and not text.lstrip()[:7].lower().startswith(_QUERIES):
        return None
    if _BACKSLASH in text or 0 in text or 1 in text or 2 in text:
        return None
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return None
    if _NAME_QUOTE in text:
        key = _with_names(text)
    elif _QUOTE in text:
        key = _NUMBERS(_NUMBER, _STRINGS(_STRING, text))
    else:
        key = _NUMBERS(_NUMBER, text)
    if (_MINUS in key and b"--" in key) or (_SLASH in key and b"/*" in key):
        return None
    if _QUOTE in key and (_BRACKET in key or b"->" in key or b"#>" in key or b"&'" in key):
        return None
    if _DOLLAR in key and _NOT_A_PARAMETER(key) is not None:
        return None
    if _PARENTHESIS in key:
        words = key.lower()
        for word in _MATTERS:
            if word in words:
                return None
    end = key.find(b";")
    if end >= 0 and key[end + 1 :].strip():
        return None
    return key


def _with_names(text: bytes) -> bytes:
    """The key of a text with quoted names, which stay."""
    if b'&"' in text:
        return b"--"  # none: U&"…" may be a name in quotes of another kind
    pieces = _SPLIT(text)
    for at in range(0, len(pieces), 2):  # what is between quoted names and strings
        pieces[at] = _NUMBERS(_NUMBER, pieces[at])
    for at in range(1, len(pieces), 2):
        if pieces[at].startswith(b"'"):
            pieces[at] = _STRING
    return b"".join(pieces)
