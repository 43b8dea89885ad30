"""Every look of a secret in a response, made by others' encoders where there are some; what an agent would decode."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, unquote_to_bytes

Look = Callable[[bytes], bytes]


def percent(which: Callable[[int], bool], form: str = "%%%02X") -> Look:
    return lambda value: b"".join(
        (form % code).encode() if which(at) else bytes((code,)) for at, code in enumerate(value)
    )


def every(at: int) -> bool:
    return True


def odd(at: int) -> bool:
    return at % 2 == 1


def in_base64(offset: int, urlsafe: bool = False, lines: bytes = b"") -> Look:
    def look(value: bytes) -> bytes:
        text = base64.b64encode(b"xyz"[:offset] + value + b"tail")
        text = text.translate(bytes.maketrans(b"+/", b"-_")) if urlsafe else text
        return lines.join(text[at : at + 20] for at in range(0, len(text), 20)) if lines else text

    return look


LOOKS: dict[str, Look] = {
    "plain": lambda value: value,
    "hex": lambda value: value.hex().encode(),
    "HEX": lambda value: value.hex().upper().encode(),
    "quoted": lambda value: quote(value, safe="").encode(),
    "percent": percent(every),
    "percent lower": percent(every, "%%%02x"),
    "percent partial": percent(odd),
    "percent first": percent(lambda at: at == 0),
    "percent last": percent(lambda at: at == 41),
    "percent twice": percent(every, "%%25%02X"),
    "json": lambda value: json.dumps(value.decode()).encode(),
    "json slash": lambda value: json.dumps(value.decode()).replace("/", "\\/").encode(),
    "json all": percent(every, "\\u%04x"),
    "json upper": percent(odd, "\\u%04X"),
    "javascript": percent(every, "\\x%02x"),
    "html": lambda value: html.escape(value.decode()).encode(),
    "html decimal": percent(every, "&#%d;"),
    "html hex": percent(odd, "&#x%x;"),
    "html HEX": percent(every, "&#X%04X;"),
    "html padded": percent(every, "&#%06d;"),
    **{f"base64 {n}": in_base64(n) for n in range(3)},
    **{f"base64url {n}": in_base64(n, urlsafe=True) for n in range(3)},
    **{f"base64 lines {n}": in_base64(n, lines=line) for n, line in enumerate((b"\n", b"\r\n", b"\\n"))},
}

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}")


def decoded(data: bytes) -> list[bytes]:
    """What an agent finds that undoes each encoding, once and twice."""
    texts = [data, unquote_to_bytes(data), unquote_to_bytes(unquote_to_bytes(data))]
    texts.append(html.unescape(data.decode("latin-1")).encode("latin-1", "replace"))
    escaped = re.sub(rb"\\u00([0-9a-fA-F]{2})|\\x([0-9a-fA-F]{2})", _code, data)
    texts += [escaped, re.sub(rb"\\(.)", rb"\1", escaped)]
    joined = re.sub(rb"\r?\n|\\r\\n|\\n", b"", data)
    for found in _BASE64.findall(joined):
        for start in range(4):
            run = found[start:].translate(bytes.maketrans(b"-_", b"+/"))
            texts.append(base64.b64decode(run[: len(run) // 4 * 4]))
    for found in re.findall(rb"(?:[0-9a-fA-F]{2})+", data):
        texts.append(bytes.fromhex(found.decode()))
    return texts


def _code(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1] or found[2], 16),))


def is_in(secret: bytes, data: bytes) -> bool:
    return any(secret in text for text in decoded(data))
