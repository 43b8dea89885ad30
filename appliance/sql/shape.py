"""A text without its constants, for the record: "SELECT a FROM t WHERE b = ?"."""

from __future__ import annotations

from typing import Final

from postgast.pg_query_pb2 import Token

from appliance.sql.grammar import Unparsed, tokens

_CONSTANTS: Final = frozenset(
    (Token.ICONST, Token.FCONST, Token.SCONST, Token.BCONST, Token.XCONST, Token.USCONST),
)
_COMMENTS: Final = frozenset((Token.SQL_COMMENT, Token.C_COMMENT))


def shape(text: bytes) -> str:
    """The text with each constant as "?", without comments, and with one blank for each gap; "" for what has no tokens.

    It works by the server's own lexer, so strings of every kind are constants, wherever they stand: dollar quotes,
    passwords, options, the body of a function. Names, quoted ones too, and parameters ($1) stay.
    """
    try:
        found = tokens(text)
    except Unparsed:
        return ""
    pieces: list[str] = []
    end = 0
    for token in found:
        kind = token.token
        if kind in _COMMENTS:
            continue
        if token.start > end and pieces:
            pieces.append(" ")
        end = token.end
        pieces.append("?" if kind in _CONSTANTS else text[token.start : end].decode())
    return "".join(pieces)
