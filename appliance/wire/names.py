"""Host names and address literals in one canonical form, so that SNI, Host, DNS and configuration can be compared
with `==`.

Rules, applied alike wherever a name comes from (RFC 952, RFC 1123 2.1, RFC 5890, RFC 3986 3.2.2):
  * ASCII letters, digits, hyphens in labels of 1-63 that neither start nor end with a hyphen; 253 in all.
    So NUL, spaces, controls, `%`, `@` (userinfo), `*`, `_` (no host name has one) and non-ASCII are refused: an
    internationalised name is taken as A-labels (`xn--…`) only.
  * Lower case; one trailing dot is dropped, two are refused.
  * A name whose last label is a number (decimal or 0x…) must be an IPv4 address in four plain decimal parts: what
    inet_aton would also take (127.1, 0x7f.1, 0177.0.0.1, 2130706433) is refused.
  * An IPv6 address stands in brackets and is compressed (RFC 5952); no zone. `::ffff:a.b.c.d` becomes a.b.c.d,
    which is where it leads.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from appliance.model.errors import PeerError

MAX_NAME: Final = 253  # characters without the trailing dot (RFC 1035 2.3.4: 255 octets on the wire)
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_QUAD: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
_PORT: Final = re.compile(rb"[1-9][0-9]{0,4}")


def canonical_host(text: str | bytes) -> str:
    """The canonical form of a host: "api.example.com", "192.0.2.1" or "[2001:db8::1]". Raises PeerError."""
    if len(text) > MAX_NAME + 1:
        raise PeerError("bad-host", "a host name is longer than 253 characters")
    if isinstance(text, bytes):
        try:
            text = text.decode("ascii")
        except UnicodeDecodeError:
            raise PeerError("bad-host", "a host name has a character that is not ASCII") from None
    return _canonical(text)


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    if text.startswith("["):
        return _bracketed(text)
    name = text.lower() if text.isascii() else text
    name = name[:-1] if name.endswith(".") else name
    if not name:
        raise PeerError("bad-host", "a host name is empty")
    if len(name) > MAX_NAME or _NAME.fullmatch(name) is None:
        raise PeerError("bad-host", "a host name is not made of letters, digits and hyphens in labels of 1 to 63")
    if _ENDS_IN_NUMBER.fullmatch(name) is not None and (_QUAD.fullmatch(name) is None or text.endswith(".")):
        raise PeerError("bad-host", "an IPv4 address is not written as four plain decimal numbers")
    return name


def _bracketed(text: str) -> str:
    if not text.endswith("]") or re.fullmatch(r"[0-9A-Fa-f:.]{2,45}", text[1:-1]) is None:
        raise PeerError("bad-host", "an IPv6 address in brackets is malformed")
    try:
        address = IPv6Address(text[1:-1])
    except AddressValueError:
        raise PeerError("bad-host", "an IPv6 address in brackets is malformed") from None
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else f"[{address.compressed}]"


def literal_of(host: str) -> str | None:
    """The bare address if the canonical host is an address literal ("192.0.2.1", "2001:db8::1"), else None."""
    if host.startswith("["):
        return host[1:-1]
    return host if _QUAD.fullmatch(host) is not None else None


def host_of_address(address: IPv4Address | IPv6Address) -> str:
    """The canonical host that stands for an address."""
    return canonical_host(str(address) if address.version == 4 else f"[{address}]")


def split_host_port(authority: bytes, default: int) -> tuple[str, int]:
    """A Host field's value, or the authority of a URL or of CONNECT: `host`, `host:port`, `[v6]`, `[v6]:port`
    (RFC 9110 7.2, RFC 3986 3.2). `default`: the port if none is written. Raises PeerError."""
    host, port = authority, b""
    if authority[:1] == b"[":
        end = authority.find(b"]") + 1
        host, rest = authority[:end], authority[end:]
        if rest:
            if rest[:1] != b":" or rest == b":":
                raise PeerError("bad-host", "an authority is malformed after its IPv6 address")
            port = rest[1:]
    elif b":" in authority:
        host, _, port = authority.partition(b":")
        if not port:
            raise PeerError("bad-host", "an authority has a colon and no port")
    if not port:
        return canonical_host(host), default
    if _PORT.fullmatch(port) is None or int(port) > 65535:
        raise PeerError("bad-host", "a port is not a plain number from 1 to 65535")
    return canonical_host(host), int(port)
