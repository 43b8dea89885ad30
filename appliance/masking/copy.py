"""COPY … TO STDOUT, with some of its columns hidden (PostgreSQL documentation, COPY, "File Formats").

CopyData payloads come in, cut in any way; payloads of whole rows go out. Held back is at most one unfinished row. A
server sends a row in each CopyData (PostgreSQL documentation, chapter 55.2.6: a client must not count on it), and then
a row comes out for each that goes in, so that clients that read row by row see no difference.

What the server would never write raises PeerError: a row that is read in another way than the client reads it could
show a masked column. The column's values are in text form in text and CSV.

LIMITS. A session whose client_encoding embeds ASCII (as appliance.masking.values says), or a COPY with such an
ENCODING, is for the caller to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.masking.copy_base import MAX_ROW, CopyFormat, CopyMasker, broken
from appliance.masking.copy_binary import BinaryCopy
from appliance.masking.copy_csv import CsvCopy
from appliance.masking.copy_text import TextCopy, null_may_be_value
from appliance.masking.masker import Masker

__all__ = ["BINARY", "CSV", "MAX_ROW", "CopyFormat", "CopyMasker", "copy_masker", "null_may_be_value"]

CSV: Final = CopyFormat("csv", b",", b"")  # the defaults of FORMAT csv
BINARY: Final = CopyFormat("binary")


def copy_masker(options: CopyFormat, columns: Sequence[Masker | None], max_row: int = MAX_ROW) -> CopyMasker:
    """What hides columns of a COPY with these options. `columns`: for each column that is copied what hides it, or None
    (text and CSV: maskers for text form; binary: for binary form). `max_row`: bytes of one row, before it is hidden.

    Raises PeerError for a format that there is not, and for options that the server would not take.
    """
    if options.format == "binary":
        return BinaryCopy(columns, max_row)
    single = len(options.delimiter) == 1 and options.delimiter not in b"\r\n"
    if not single or b"\n" in options.null or b"\r" in options.null or options.delimiter in options.null:
        raise broken("has a delimiter or a NULL that the server would not take")
    if options.format == "text":
        if options.delimiter in b"\\.abcdefghijklmnopqrstuvwxyz0123456789":
            raise broken("has a delimiter that the server would not take")
        if (len(options.null) - len(options.null.rstrip(b"\\"))) % 2:
            raise broken("has a NULL that ends in a backslash: it cannot be told from an escaped delimiter")
        return TextCopy(options, columns, max_row)
    if options.format == "csv":
        quotes = (options.quote, options.escape)
        if any(len(one) != 1 or one in b"\r\n" for one in quotes) or options.quote == options.delimiter:
            raise broken("has a quote or an escape that the server would not take")
        if options.quote in options.null:
            raise broken("has a quote in its NULL")
        return CsvCopy(options, columns, max_row)
    raise broken(f"is in a format that is not known: {options.format}")
