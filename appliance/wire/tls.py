"""The ClientHello, read before TLS begins: who the client wants to speak to (RFC 8446 4.1.2, RFC 6066 3).

What comes in: the first bytes of a connection. What goes out: a ClientHello, or how many bytes are needed. The
message may be spread over several records (RFC 8446 5.1); what follows it is not looked at.

LIMITS. 64 KiB of handshake message, 128 records; a renegotiation, an SSLv2 hello and early data are not
ClientHellos. Extensions that we do not know are skipped, as the RFC asks; a repeated one is refused.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from appliance.model.errors import PeerError
from appliance.wire.names import canonical_host, literal_of

MAX_HELLO: Final = 65536  # bytes of the handshake message with its header
MAX_RECORD: Final = 16384  # bytes of a record's fragment (RFC 8446 5.1)
MAX_RECORDS: Final = 128

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43
_ECH: Final = 0xFE0D  # encrypted_client_hello (RFC 9849)


class ClientHello(Struct, frozen=True):
    """`server_name`: canonical, "" if the client sent none. `versions`: of supported_versions, in order, GREASE and
    all; empty if not sent (then `legacy_version` counts). `has_ech`: an outer ECH extension; real or GREASE, one
    cannot tell."""

    server_name: str
    alpn: tuple[str, ...]
    versions: tuple[int, ...]
    has_ech: bool
    legacy_version: int


def _bad(code: str, message: str) -> PeerError:
    return PeerError(code, message)


def parse_hello(data: bytes) -> ClientHello | int:
    """The ClientHello at the start of `data`; or the number of bytes, larger than len(data), before which it makes
    no sense to call again. Raises PeerError as soon as what is there cannot be a well-formed ClientHello."""
    size = len(data)
    position = 0
    records = 0
    message = b""
    while True:
        header = data[position : position + 5]
        _check_record_header(header)
        if len(header) < 5:
            return position + 5
        length = int.from_bytes(header[3:5], "big")
        if not 0 < length <= MAX_RECORD:
            raise _bad("bad-record", "a TLS record is empty or longer than 16384 bytes")
        records += 1
        if records > MAX_RECORDS:
            raise _bad("hello-too-large", f"a ClientHello is spread over more than {MAX_RECORDS} records")
        end = position + 5 + length
        fragment = data[position + 5 : end]
        message = message + fragment if message else fragment
        wanted = _wanted(message)
        if len(message) >= wanted >= 4:
            return _read(message[4:wanted])
        if end > size:
            # the rest of this record, but not more than the message needs (an over-long record ends elsewhere)
            return min(end, size + wanted - len(message)) if wanted >= 4 else min(end, size + 4 - len(message))
        position = end


def _check_record_header(header: bytes) -> None:
    """Judge as much of a record header as is there."""
    if header and header[0] != _HANDSHAKE:
        raise _bad("not-tls", "the first bytes are not a TLS handshake record")
    if len(header) > 1 and header[1] != 3:
        raise _bad("not-tls", "a TLS record has an unknown version")
    if len(header) > 2 and header[2] > 4:
        raise _bad("not-tls", "a TLS record has an unknown version")


def _wanted(message: bytes) -> int:
    """Bytes of the whole handshake message; 0 if its header is not all there."""
    if message[:1] != b"\x01" and message:
        raise _bad("not-hello", "the first TLS message is not a ClientHello")
    if len(message) < 4:
        return 0
    wanted = 4 + int.from_bytes(message[1:4], "big")
    if wanted > MAX_HELLO:
        raise _bad("hello-too-large", f"a ClientHello is larger than {MAX_HELLO} bytes")
    return wanted


def _read(body: bytes) -> ClientHello:
    """struct { ProtocolVersion legacy_version; Random random; opaque session_id<0..32>;
    CipherSuite cipher_suites<2..2^16-2>; opaque compression_methods<1..2^8-1>; Extension extensions<8..2^16-1>; }"""
    size = len(body)
    if size < 35 or body[0] != 3 or body[34] > 32:
        raise _bad("bad-hello", "a ClientHello is too short, or its version or session id is wrong")
    position = 35 + body[34]
    suites = int.from_bytes(body[position : position + 2], "big")
    position += 2 + suites
    if suites < 2 or suites & 1 or position >= size:
        raise _bad("bad-hello", "a ClientHello's list of cipher suites is malformed")
    methods = body[position]
    position += 1 + methods
    if methods < 1 or position > size or 0 not in body[position - methods : position]:
        raise _bad("bad-hello", "a ClientHello's list of compression methods is malformed")
    legacy = int.from_bytes(body[:2], "big")
    if position == size:
        return ClientHello("", (), (), False, legacy)  # TLS 1.2 without extensions (RFC 5246 7.4.1.2)
    if position + 2 + int.from_bytes(body[position : position + 2], "big") != size:
        raise _bad("bad-hello", "a ClientHello's extensions do not end where it ends")
    extensions = _extensions(body, position + 2)
    name = extensions.get(_SERVER_NAME)
    alpn = extensions.get(_ALPN)
    versions = extensions.get(_SUPPORTED_VERSIONS)
    return ClientHello(
        "" if name is None else _server_name(name),
        () if alpn is None else _alpn(alpn),
        () if versions is None else _versions(versions),
        _ECH in extensions,
        legacy,
    )


def _extensions(body: bytes, position: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    size = len(body)
    count = 0
    while position < size:
        start = position + 4
        end = start + (body[position + 2] << 8 | body[position + 3]) if start <= size else size + 1
        if end > size:
            raise _bad("bad-hello", "an extension is longer than the ClientHello")
        found[body[position] << 8 | body[position + 1]] = body[start:end]
        count += 1
        position = end
    if len(found) != count:
        raise _bad("bad-hello", "a ClientHello has the same extension twice")
    return found


def _server_name(data: bytes) -> str:
    """struct { NameType name_type; HostName host_name<1..2^16-1>; } server_name_list<1..2^16-1>, one host_name."""
    if len(data) < 5 or int.from_bytes(data[:2], "big") != len(data) - 2:
        raise _bad("bad-sni", "the server_name extension is malformed")
    if data[2] != 0 or int.from_bytes(data[3:5], "big") != len(data) - 5:
        raise _bad("bad-sni", "the server_name extension does not hold exactly one host name")
    try:
        name = canonical_host(data[5:])
    except PeerError as error:
        raise _bad("bad-sni", f"the server name is refused: {error}") from None
    if literal_of(name) is not None:
        raise _bad("bad-sni", "the server name is an address (RFC 6066 3 permits names only)")
    return name


def _alpn(data: bytes) -> tuple[str, ...]:
    """ProtocolName protocol_name_list<2..2^16-1>, each opaque<1..2^8-1> (RFC 7301 3.1). Names that are not ASCII
    (GREASE) come out as latin-1."""
    size = len(data)
    if size < 4 or int.from_bytes(data[:2], "big") != size - 2:
        raise _bad("bad-alpn", "the ALPN extension is malformed")
    names: list[str] = []
    position = 2
    while position < size:
        end = position + 1 + data[position]
        if end > size or end == position + 1:
            raise _bad("bad-alpn", "a name in the ALPN extension is empty or too long")
        names.append(data[position + 1 : end].decode("latin-1"))
        position = end
    return tuple(names)


def _versions(data: bytes) -> tuple[int, ...]:
    """ProtocolVersion versions<2..254> (RFC 8446 4.2.1)."""
    if len(data) < 3 or data[0] != len(data) - 1 or data[0] & 1:
        raise _bad("bad-hello", "the supported_versions extension is malformed")
    return tuple(int.from_bytes(data[i : i + 2], "big") for i in range(1, len(data), 2))
