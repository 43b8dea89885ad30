"""Where PostgreSQL's messages begin and end, after start-up (PostgreSQL documentation 55.1.1, 55.7).

Bytes in, frames out, in one direction: a Message; a Run of whole bulk messages (DataRow, CopyData) that follow each
other; a Piece of a message that is longer than `cut`. No frame copies what it stands for: it points into the bytes
that were fed, and keeps them alive as long as it lives. In order and joined, the frames' `raw` are the input.

What is cut and what is whole depends on a message's length alone, never on how the input was chunked. Held back is at
most one unfinished message: one that may be cut never more than `cut` bytes, another never more than its limit.

LIMITS. A message that the direction, or the phase, does not know is refused; so is a length that the type does not
have. Types that carry values of any size (Bind, FunctionCall, CopyData; DataRow, FunctionCallResponse) are bounded by
what the server can make or take (1 GiB); Query and Parse by `text`, the rest by `other`.

mypyc compiles this module: plain classes, ints, bytes.
"""

from __future__ import annotations

from typing import Final, final

from appliance.model.errors import InternalError, PeerError
from appliance.wire import postgres_messages as m

HEADER: Final = 5  # bytes: type, length
MAX_LENGTH: Final = 0x3FFFFFFF + 3  # of a length field: a StringInfo of the server is below 1 GiB, then come 4 bytes
MAX_TEXT: Final = 16 << 20  # length of a Query or a Parse
MAX_OTHER: Final = 1 << 20  # length of a message that must be whole, if nothing else is said
CUT: Final = 256 << 10  # bytes of a message; a longer one comes in pieces
FIRST_PIECE: Final = HEADER + (64 << 10)  # bytes that the first piece has at least

_EMPTY: Final = 4  # the length of a message that has no body
_SMALL: Final = 10_000  # as the server takes them at most (PQ_SMALL_MESSAGE_LIMIT)
_AUTH: Final = 65535 + 8  # a GSS or SASL token at its most (PG_MAX_AUTH_TOKEN_LENGTH), and what stands before it
_EARLY: Final = 30_000  # an error before the login is over, as libpq takes it at most (MAX_ERRLEN)
_NEGOTIATE: Final = 2000  # as libpq takes it at most
_KEY: Final = 8 + m.MAX_KEY


def _part(data: bytes, start: int, end: int) -> bytes:
    """The very data if that is all of them; compiled, a slice would be a copy."""
    return data if end - start == len(data) else data[start:end]


@final
class Message:
    """A whole message: `data[start:end]`, of type `kind`."""

    __slots__ = ("data", "end", "kind", "start")

    def __init__(self, kind: int, data: bytes, start: int, end: int) -> None:
        self.kind = kind
        self.data = data
        self.start = start
        self.end = end

    @property
    def raw(self) -> bytes:
        return _part(self.data, self.start, self.end)

    @property
    def body(self) -> bytes:
        """Without type and length."""
        return self.data[self.start + HEADER : self.end]


@final
class Run:
    """`count` (1 or more) whole messages of type `kind` (DATA_ROW or COPY_DATA), one after the other:
    `data[start:end]`."""

    __slots__ = ("count", "data", "end", "kind", "start")

    def __init__(self, kind: int, data: bytes, start: int, end: int, count: int) -> None:
        self.kind = kind
        self.data = data
        self.start = start
        self.end = end
        self.count = count

    @property
    def raw(self) -> bytes:
        return _part(self.data, self.start, self.end)

    def bodies(self) -> list[bytes]:
        """Each message's body: for those who look into every row, and for tests."""
        found: list[bytes] = []
        position = self.start
        while position < self.end:
            end = position + 1 + int.from_bytes(self.data[position + 1 : position + HEADER], "big")
            found.append(self.data[position + HEADER : end])
            position = end
        return found


@final
class Piece:
    """A part of a message of `total` bytes (type and length counted): `data[start:end]`. The first piece begins with
    type and length and has at least FIRST_PIECE bytes (or `cut`, if that is less)."""

    __slots__ = ("data", "end", "first", "kind", "last", "start", "total")

    def __init__(self, kind: int, data: bytes, start: int, end: int, total: int, first: bool, last: bool) -> None:
        self.kind = kind
        self.data = data
        self.start = start
        self.end = end
        self.total = total
        self.first = first
        self.last = last

    @property
    def raw(self) -> bytes:
        return _part(self.data, self.start, self.end)

    @property
    def body(self) -> bytes:
        """What it has of the message's body."""
        return self.data[self.start + HEADER if self.first else self.start : self.end]


Frame = Message | Run | Piece


def _table(lengths: dict[int, int]) -> list[int]:
    """By type: the largest length; 0 for a type that may not come."""
    return [lengths.get(kind, 0) for kind in range(256)]


_NOTHING: Final = _table({})
_LOGIN_CLIENT: Final = _table({m.PASSWORD: _AUTH})
_LOGIN_SERVER: Final = _table(
    {
        m.AUTHENTICATION: _AUTH,
        m.BACKEND_KEY_DATA: _KEY,
        m.ERROR: _EARLY,
        m.NEGOTIATE_PROTOCOL_VERSION: _NEGOTIATE,
        m.NOTICE: _EARLY,
        m.PARAMETER_STATUS: _EARLY,
        m.READY: _EMPTY + 1,
    }
)


def _open_client(text: int) -> list[int]:
    return _table(
        {
            m.BIND: MAX_LENGTH,
            m.CLOSE: _SMALL,
            m.COPY_DATA: MAX_LENGTH,
            m.COPY_DONE: _EMPTY,
            m.COPY_FAIL: _SMALL,
            m.DESCRIBE: _SMALL,
            m.EXECUTE: _SMALL,
            m.FLUSH: _EMPTY,
            m.FUNCTION_CALL: MAX_LENGTH,
            m.PARSE: text,
            m.QUERY: text,
            m.SYNC: _EMPTY,
            m.TERMINATE: _EMPTY,
        }
    )


def _open_server(other: int) -> list[int]:
    return _table(
        {
            m.BIND_COMPLETE: _EMPTY,
            m.CLOSE_COMPLETE: _EMPTY,
            m.COMMAND_COMPLETE: other,
            m.COPY_BOTH: other,
            m.COPY_DATA: MAX_LENGTH,
            m.COPY_DONE: _EMPTY,
            m.COPY_IN: other,
            m.COPY_OUT: other,
            m.DATA_ROW: MAX_LENGTH,
            m.EMPTY_QUERY: _EMPTY,
            m.ERROR: other,
            m.FUNCTION_RESULT: MAX_LENGTH,
            m.NOTICE: other,
            m.NOTIFICATION: other,
            m.NO_DATA: _EMPTY,
            m.PARAMETER_DESCRIPTION: other,
            m.PARAMETER_STATUS: other,
            m.PARSE_COMPLETE: _EMPTY,
            m.PORTAL_SUSPENDED: _EMPTY,
            m.READY: _EMPTY + 1,
            m.ROW_DESCRIPTION: other,
        }
    )


_OPEN_CLIENT: Final = _open_client(MAX_TEXT)
_OPEN_SERVER: Final = _open_server(MAX_OTHER)


@final
class Frames:
    """Reads one direction of one connection, from the first message after the start-up packet on.

    It begins in the phase of logging in, where only that phase's messages may come. The server's ReadyForQuery ends it
    there; for the agent's direction `login_over` is called, when AuthenticationOk goes to it.
    """

    __slots__ = (
        "_cut",
        "_first",
        "_held",
        "_kind",
        "_left",
        "_limits",
        "_login",
        "_missing",
        "_open",
        "_row",
        "_total",
    )

    def __init__(
        self, from_server: bool, *, text: int = MAX_TEXT, other: int = MAX_OTHER, cut: int = CUT, login: bool = True
    ) -> None:
        """`text`: bytes of a Query or Parse; `other`: of every other message of the server that must be whole; `cut`:
        longer messages that may be cut come in pieces. `login` False: the login is over already."""
        if cut < HEADER:
            raise InternalError("a piece must have room for a message's type and length")
        if max(text, other) >= MAX_LENGTH:
            raise InternalError("what must be whole must have a limit")
        if from_server:
            self._open = _OPEN_SERVER if other == MAX_OTHER else _open_server(other)
            self._limits = _LOGIN_SERVER if login else self._open
            self._row = m.DATA_ROW
        else:
            self._open = _OPEN_CLIENT if text == MAX_TEXT else _open_client(text)
            self._limits = _LOGIN_CLIENT if login else self._open
            self._row = m.COPY_DATA
        self._login = login
        self._cut = cut
        self._first = min(cut, FIRST_PIECE)
        self._held = bytearray()  # the beginning of a message
        self._missing = 0  # bytes before `_held` can be looked at again; 0: nothing is held
        self._left = 0  # bytes of the message that comes in pieces
        self._kind = 0  # its type
        self._total = 0  # its bytes

    @property
    def held(self) -> int:
        """Bytes that were fed and are in no frame yet."""
        return len(self._held)

    @property
    def between(self) -> bool:
        """Whether all that was fed is whole messages: here a connection may end, or be handed over."""
        return not self._missing and not self._left

    def login_over(self) -> None:
        """From the next message on, those of a session may come, and those of the login no more."""
        if self._login:
            self._login = False
            self._limits = self._open

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete, in order. Raises PeerError (postgres-type, postgres-length,
        postgres-too-large); what is fed after that is refused too."""
        frames: list[Frame] = []
        if not self._missing and not self._left:
            self._scan(data, 0, frames)
            return frames
        size = len(data)
        position = 0
        while self._missing and position < size:
            take = min(self._missing, size - position)
            self._held += data[position : position + take]
            self._missing -= take
            position += take
            if self._missing:
                return frames
            held = bytes(self._held)
            self._held = bytearray()
            self._scan(held, 0, frames)
        if self._left and position < size:
            end = min(position + self._left, size)
            self._left -= end - position
            frames.append(Piece(self._kind, data, position, end, self._total, False, self._left == 0))
            position = end
        if position < size:
            self._scan(data, position, frames)
        return frames

    def _scan(self, data: bytes, position: int, frames: list[Frame]) -> None:
        """Read messages from `position` on; no message is under way. What is not whole is held."""
        size = len(data)
        limits = self._limits
        cut = self._cut
        row = self._row
        wanted = HEADER  # bytes from `position` on before it makes sense to look again
        while size - position >= HEADER:
            kind = data[position]
            length = data[position + 1] << 24 | data[position + 2] << 16 | data[position + 3] << 8 | data[position + 4]
            if length < _EMPTY or length > limits[kind]:
                raise self._refusal(kind, length)
            end = position + 1 + length
            if length >= cut and limits[kind] == MAX_LENGTH:
                if end > size and size - position < self._first:
                    wanted = self._first
                    break
                frames.append(self._begin(kind, data, position, length + 1))
                position = min(end, size)
                continue
            if end > size:
                wanted = length + 1
                break
            if kind == row or kind == m.COPY_DATA:
                start = position
                position = end
                count = 1
                while size - position >= HEADER and data[position] == kind:
                    length = (
                        data[position + 1] << 24
                        | data[position + 2] << 16
                        | data[position + 3] << 8
                        | data[position + 4]
                    )
                    end = position + 1 + length
                    if end > size or length < _EMPTY or length >= cut:
                        break
                    position = end
                    count += 1
                frames.append(Run(kind, data, start, position, count))
                continue
            frames.append(Message(kind, data, position, end))
            position = end
            if self._login and kind == m.READY and row == m.DATA_ROW:
                self.login_over()
                limits = self._limits
        if position < size:
            self._held += data[position:]
            self._missing = wanted - (size - position)

    def _begin(self, kind: int, data: bytes, start: int, total: int) -> Piece:
        """The first piece of a long message, as long as the data are."""
        end = min(start + total, len(data))
        self._kind = kind
        self._total = total
        self._left = total - (end - start)
        return Piece(kind, data, start, end, total, True, self._left == 0)

    def _refusal(self, kind: int, length: int) -> PeerError:
        limit = self._limits[kind]
        self._limits = _NOTHING
        self._open = _NOTHING
        if not limit:
            when = " before the login is over" if self._login else ""
            return PeerError("postgres-type", f"a PostgreSQL message has the type {bytes((kind,))!r}{when}")
        if length < _EMPTY:
            return PeerError("postgres-length", f"a PostgreSQL message says that it is {length} bytes long")
        return PeerError("postgres-too-large", f"a message {bytes((kind,))!r} is {length} bytes long, {limit} at most")
