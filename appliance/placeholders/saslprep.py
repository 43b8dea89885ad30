"""SASLprep (RFC 4013): the one form of a password that both sides of SCRAM compute with. Pure.

In: the password's bytes. Out: the bytes to compute with. As PostgreSQL does it on both of its sides: what is ASCII, or
is no UTF-8, or holds what RFC 4013 prohibits, is taken as it is.

LIMITS. RFC 4013 2.3 and 2.4 are about the normalised text; PostgreSQL looks at the text before it is normalised, and so
do we: the server has computed its keys in that way. A test asks libpq.
"""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (  # RFC 4013 2.3 and 2.5
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(password: bytes) -> bytes:
    """The bytes that go into SCRAM for this password."""
    if password.isascii():
        return password
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    mapped = "".join(_mapped(char) for char in text)
    if not mapped or not _permitted(mapped):
        return password
    return unicodedata.normalize("NFKC", mapped).encode()  # 2.2


def _mapped(char: str) -> str:
    """RFC 4013 2.1. U+200B is in both tables: a space, as PostgreSQL has it."""
    if stringprep.in_table_c12(char):
        return " "
    return "" if stringprep.in_table_b1(char) else char


def _permitted(text: str) -> bool:
    if any(table(char) for char in text for table in _PROHIBITED):
        return False
    if not any(stringprep.in_table_d1(char) for char in text):
        return True
    # RFC 3454 6: text from right to left begins and ends so, and has none from left to right in it.
    return (
        stringprep.in_table_d1(text[0])
        and stringprep.in_table_d1(text[-1])
        and not any(stringprep.in_table_d2(char) for char in text)
    )
