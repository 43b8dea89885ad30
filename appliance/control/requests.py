"""What a request says, read within limits."""

from __future__ import annotations

import asyncio
import json
from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request

from appliance.model.errors import PeerError

MOST_BODY = 64 << 10  # bytes
BODY_TIMEOUT = 10.0  # seconds
_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"

Name = msgspec.Meta(pattern=_NAME)
S = TypeVar("S", bound=Struct)


async def body_of(request: Request, kind: type[S]) -> S:
    """The body, decoded strictly. Raises PeerError if it is too large, too slow or not of this kind."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for part in request.stream():
                size += len(part)
                if size > MOST_BODY:
                    raise PeerError("too-large", f"a request's body has at most {MOST_BODY} bytes")
                parts.append(part)
    except (TimeoutError, ClientDisconnect):
        raise PeerError("body", "the request's body did not arrive") from None
    try:
        return msgspec.json.decode(b"".join(parts) or b"{}", type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise PeerError("body", f"{kind.__name__}: {error}") from None


def number(request: Request, name: str, default: int, most: int) -> int:
    """A query parameter that is a whole number from 0 to `most`. Raises PeerError."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 20) or int(text) > most:
        raise PeerError("query", f"{name} is a whole number from 0 to {most}, not {json.dumps(text[:40])}")
    return int(text)


def flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "") in ("1", "true", "yes")
