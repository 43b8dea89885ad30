"""The first packets of a PostgreSQL connection, which have no type (PostgreSQL documentation 55.2.1, 55.7).

What comes in: the first bytes of a connection, or those after the answer to an SSLRequest or GSSENCRequest. What goes
out: a Start, or how many bytes are needed. The same packets are written here.

LIMITS. As the server: 10000 bytes and the length. Beyond the server: SSLRequest and GSSENCRequest have nothing but
their code; a parameter has a name, comes once, and is UTF-8; a user is named; another major version than 3 is refused
here, a minor version that is too new is not (it is negotiated).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from appliance.model.errors import InternalError, PeerError
from appliance.wire.postgres_messages import MAX_KEY, MIN_KEY

MAX_START: Final = 10_004  # bytes: MAX_STARTUP_PACKET_LENGTH of the server, and the length itself
MIN_START: Final = 8  # bytes: the length, the code

MAJOR: Final = 3
OPTION: Final = "_pq_."  # what the names of protocol options begin with

_CANCEL: Final = 1234 << 16 | 5678
_SSL: Final = 1234 << 16 | 5679
_GSS: Final = 1234 << 16 | 5680
_CANCEL_HEAD: Final = 12  # bytes before the key


class SslRequest(NamedTuple):
    consumed: int = MIN_START


class GssEncRequest(NamedTuple):
    consumed: int = MIN_START


class CancelRequest(NamedTuple):
    """It proves itself by `key` alone, and is answered by nothing but the end of the connection (55.2.8)."""

    pid: int
    key: bytes
    consumed: int

    def __repr__(self) -> str:
        return f"CancelRequest(pid={self.pid}, key=…)"


class StartupMessage(NamedTuple):
    """`parameters`: in the order of the packet, protocol options among them."""

    minor: int
    parameters: dict[str, str]
    consumed: int

    @property
    def user(self) -> str:
        return self.parameters["user"]

    @property
    def database(self) -> str:
        """As the server takes it: the user's name if none is given."""
        return self.parameters.get("database") or self.user

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the protocol options, in order."""
        return tuple(name for name in self.parameters if name.startswith(OPTION))


Start = SslRequest | GssEncRequest | CancelRequest | StartupMessage


def looks_like_start(data: bytes) -> bool:
    """Whether these may be the first bytes of a PostgreSQL connection. Eight or more bytes are enough to be sure; of
    fewer, as much is judged as is there."""
    length, rest = data[:4], data[4:MIN_START]
    if len(length) < 4:
        return length <= MAX_START.to_bytes(4, "big")[: len(length)]
    if len(rest) == 4:
        return _fits(int.from_bytes(length, "big"), int.from_bytes(rest, "big"))
    for code, known in ((_SSL, 4), (_GSS, 4), (_CANCEL, 4), (MAJOR << 16, 2)):
        size = min(known, len(rest))
        if code.to_bytes(4, "big")[:size] == rest[:size] and _fits(int.from_bytes(length, "big"), code):
            return True
    return False


def _fits(length: int, code: int) -> bool:
    try:
        _check_head(length, code)
    except PeerError:
        return False
    return True


def parse_start(data: bytes) -> Start | int:
    """The packet at the start of `data`, or the number of bytes, larger than len(data), that are needed to go on. Its
    `consumed` bytes are the packet; what follows is not looked at. Raises PeerError (postgres-start,
    postgres-version) as soon as what is there cannot be such a packet."""
    if len(data) < MIN_START:
        if not looks_like_start(data):
            raise _bad("the first bytes are not a PostgreSQL packet")
        return MIN_START
    length = int.from_bytes(data[:4], "big")
    code = int.from_bytes(data[4:MIN_START], "big")
    _check_head(length, code)
    if len(data) < length:
        return length
    if code == _SSL:
        return SslRequest()
    if code == _GSS:
        return GssEncRequest()
    if code == _CANCEL:
        return CancelRequest(int.from_bytes(data[8:_CANCEL_HEAD], "big"), data[_CANCEL_HEAD:length], length)
    return StartupMessage(code & 0xFFFF, _parameters(data[MIN_START:length]), length)


def _check_head(length: int, code: int) -> None:
    """Raises PeerError for a length that the packet cannot have, and for a code that there is not."""
    if not MIN_START <= length <= MAX_START:
        raise _bad(f"a start-up packet says that it is {length} bytes long")
    if code in (_SSL, _GSS):
        if length != MIN_START:
            raise _bad("a request for encryption has bytes that do not belong there")
    elif code == _CANCEL:
        if not _CANCEL_HEAD + MIN_KEY <= length <= _CANCEL_HEAD + MAX_KEY:
            raise _bad("a cancel request's key is too short or too long")
    elif code >> 16 != MAJOR:
        raise PeerError("postgres-version", f"PostgreSQL's protocol {code >> 16}.{code & 0xFFFF} is not known: 3 is")


def _parameters(body: bytes) -> dict[str, str]:
    """Name, NUL, value, NUL, and so on; then a NUL (55.7 StartupMessage)."""
    if not body.endswith(b"\0"):
        raise _bad("a start-up packet does not end in NUL")
    parameters: dict[str, str] = {}
    if len(body) > 1:
        parts = body[:-1].split(b"\0")
        if parts.pop() or len(parts) % 2:
            raise _bad("a start-up packet's names and values are not in pairs")
        for at in range(0, len(parts), 2):
            try:
                name, value = parts[at].decode(), parts[at + 1].decode()
            except UnicodeDecodeError:
                raise _bad("a start-up packet is not UTF-8") from None
            if not name:
                raise _bad("a start-up packet has a parameter without a name, or goes on after its end")
            if name in parameters:
                raise _bad("a start-up packet has a parameter twice")
            parameters[name] = value
    if not parameters.get("user"):
        raise _bad("a start-up packet names no user")
    return parameters


def ssl_request() -> bytes:
    return _packet(_SSL, b"")


def gss_enc_request() -> bytes:
    return _packet(_GSS, b"")


def startup(minor: int, parameters: Mapping[str, str]) -> bytes:
    """A StartupMessage of protocol 3.`minor`. Raises InternalError for what would be read as something else."""
    if not 0 <= minor <= 0xFFFF:
        raise InternalError("a minor version has two bytes")
    parts: list[bytes] = []
    for name, value in parameters.items():
        if not name or "\0" in name or "\0" in value:
            raise InternalError("a start-up parameter without a name, or with a NUL")
        try:
            parts.append(name.encode() + b"\0" + value.encode() + b"\0")
        except UnicodeEncodeError:
            raise InternalError("a start-up parameter is not Unicode") from None
    packet = _packet(MAJOR << 16 | minor, b"".join(parts) + b"\0")
    if len(packet) > MAX_START:
        raise InternalError("the start-up packet is too long")
    return packet


def cancel_request(pid: int, key: bytes) -> bytes:
    """Raises InternalError for a key that is not 4 to 256 bytes."""
    if not MIN_KEY <= len(key) <= MAX_KEY or not 0 <= pid <= 0xFFFFFFFF:
        raise InternalError("a cancel key is too short or too long, or a pid is none")
    return _packet(_CANCEL, pid.to_bytes(4, "big") + key)


def _packet(code: int, rest: bytes) -> bytes:
    return (MIN_START + len(rest)).to_bytes(4, "big") + code.to_bytes(4, "big") + rest


def _bad(words: str) -> PeerError:
    return PeerError("postgres-start", words)
