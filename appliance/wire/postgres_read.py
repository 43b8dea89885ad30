"""Bodies of PostgreSQL's messages, read (PostgreSQL documentation 55.7, 55.8).

Each function takes the body of one message (without type and length) and returns what it says. All raise PeerError
(postgres-message) for a body that is too short, has bytes left over, lacks a NUL, or says something that its field
cannot say. Counts are unsigned, as both sides of PostgreSQL read them: a Bind may have 65535 parameters.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from appliance.model.errors import PeerError
from appliance.wire import postgres_messages as m

_COUNT: Final = Struct(">H")
_NUMBER: Final = Struct(">I")
_LENGTH: Final = Struct(">i")
_COLUMN: Final = Struct(">IhIhiH")  # what follows the name in a RowDescription
_NULL: Final = -1  # the length of a value that is NULL


def query(body: bytes) -> m.Query:
    return m.Query(_only_text(body))


def query_text(body: bytes) -> bytes:
    """`query`'s only part: a statement, once per statement."""
    return _only_text(body)


def parse(body: bytes) -> m.Parse:
    name = _end_of_text(body, 0)
    text = _end_of_text(body, name + 1)
    oids, end = _numbers(body, text + 1)
    _finish(body, end)
    return m.Parse(body[:name], body[name + 1 : text], oids)


def bind_names(body: bytes) -> tuple[bytes, bytes]:
    """The portal's and the statement's, of a Bind's whole body, or of the first piece of a long one: what comes after
    the names is not looked at."""
    portal = _end_of_text(body, 0)
    statement = _end_of_text(body, portal + 1)
    return body[:portal], body[portal + 1 : statement]


def bind(body: bytes) -> m.Bind:
    portal = _end_of_text(body, 0)
    statement = _end_of_text(body, portal + 1)
    formats, at = _formats(body, statement + 1)
    parameters, at = _values(body, at)
    if len(formats) > 1 and len(formats) != len(parameters):
        raise _bad("a Bind has another number of formats than of parameters")
    result_formats, at = _formats(body, at)
    _finish(body, at)
    return m.Bind(body[:portal], body[portal + 1 : statement], formats, parameters, result_formats)


def describe(body: bytes) -> m.Describe:
    return m.Describe(_statement_or_portal(body), _only_text(body[1:]))


def close(body: bytes) -> m.Close:
    return m.Close(_statement_or_portal(body), _only_text(body[1:]))


def execute(body: bytes) -> m.Execute:
    portal = execute_portal(body)
    return m.Execute(portal, _LENGTH.unpack_from(body, len(portal) + 1)[0])


def execute_portal(body: bytes) -> bytes:
    """The name in an Execute."""
    portal = _end_of_text(body, 0)
    if len(body) != portal + 5:
        raise _bad("an Execute is too short or too long")
    return body[:portal]


def function_call(body: bytes) -> m.FunctionCall:
    oid = _number(body, 0)
    formats, at = _formats(body, 4)
    arguments, at = _values(body, at)
    if len(formats) > 1 and len(formats) != len(arguments):
        raise _bad("a FunctionCall has another number of formats than of arguments")
    result = _format(_count(body, at))
    _finish(body, at + 2)
    return m.FunctionCall(oid, formats, arguments, result)


def copy_fail(body: bytes) -> m.CopyFail:
    return m.CopyFail(_only_text(body))


def password(body: bytes) -> m.Password:
    return m.Password(_only_text(body))


def sasl_initial(body: bytes) -> m.SaslInitialResponse:
    """The first answer to AUTH_SASL; the body of a later SASLResponse (and of a GSSResponse) is its data."""
    end = _end_of_text(body, 0)
    size, at = _length(body, end + 1)
    if size == _NULL:
        _finish(body, at)
        return m.SaslInitialResponse(_mechanism(body[:end]), None)
    _finish(body, at + size)
    return m.SaslInitialResponse(_mechanism(body[:end]), body[at:])


def authentication(body: bytes) -> m.Authentication:
    kind = _number(body, 0)
    data = body[4:]
    if kind in (m.AUTH_GSS_CONTINUE, m.AUTH_SASL_CONTINUE, m.AUTH_SASL_FINAL):
        return m.Authentication(kind, data)
    if kind == m.AUTH_SASL:
        return m.Authentication(kind, b"", _mechanisms(data))
    if kind not in (m.AUTH_OK, m.AUTH_KERBEROS, m.AUTH_CLEARTEXT, m.AUTH_MD5, m.AUTH_GSS, m.AUTH_SSPI):
        raise _bad(f"an authentication of the unknown kind {kind} is asked for")
    if len(data) != (4 if kind == m.AUTH_MD5 else 0):
        raise _bad("a request for authentication is too short or too long")
    return m.Authentication(kind, data)


def negotiate_protocol_version(body: bytes) -> m.NegotiateProtocolVersion:
    """The version is sent with its major (as PostgreSQL does), or the minor alone (as its documentation said)."""
    version, number = _number(body, 0), _number(body, 4)
    if version >> 16 not in (0, 3):
        raise _bad("the server wants another major version of the protocol")
    at = 8
    options: list[str] = []
    for _ in range(number):
        end = _end_of_text(body, at)
        options.append(body[at:end].decode("utf-8", "replace"))
        at = end + 1
    _finish(body, at)
    return m.NegotiateProtocolVersion(version & 0xFFFF, tuple(options))


def backend_key_data(body: bytes) -> m.BackendKeyData:
    if not m.MIN_KEY <= len(body) - 4 <= m.MAX_KEY:
        raise _bad("a cancel key is too short or too long")
    return m.BackendKeyData(_number(body, 0), body[4:])


def parameter_status(body: bytes) -> m.ParameterStatus:
    name = _end_of_text(body, 0)
    return m.ParameterStatus(body[:name], _only_text(body[name + 1 :]))


def ready(body: bytes) -> int:
    """The state of the transaction: IDLE, IN_TRANSACTION or FAILED."""
    if len(body) != 1 or body[0] not in (m.IDLE, m.IN_TRANSACTION, m.FAILED):
        raise _bad("a ReadyForQuery has an unknown state")
    return body[0]


def row_description(body: bytes) -> m.RowDescription:
    number = _count(body, 0)
    at = 2
    fields: list[m.Field] = []
    for _ in range(number):
        end = _end_of_text(body, at)
        if len(body) < end + 1 + _COLUMN.size:
            raise _short()
        table, attribute, kind, size, modifier, form = _COLUMN.unpack_from(body, end + 1)
        fields.append(m.Field(body[at:end], table, attribute, kind, size, modifier, _format(form)))
        at = end + 1 + _COLUMN.size
    _finish(body, at)
    return m.RowDescription(tuple(fields))


def data_row(body: bytes) -> m.DataRow:
    values, at = _values(body, 0)
    _finish(body, at)
    return m.DataRow(values)


def command_complete(body: bytes) -> m.CommandComplete:
    return m.CommandComplete(_only_text(body))


def report(body: bytes) -> m.Report:
    """An ErrorResponse or a NoticeResponse."""
    fields: list[tuple[int, bytes]] = []
    at = 0
    while at < len(body) and body[at]:
        end = _end_of_text(body, at + 1)
        fields.append((body[at], body[at + 1 : end]))
        at = end + 1
    _finish(body, at + 1)
    return m.Report(tuple(fields))


def notification(body: bytes) -> m.Notification:
    pid = _number(body, 0)
    channel = _end_of_text(body, 4)
    return m.Notification(pid, body[4:channel], _only_text(body[channel + 1 :]))


def copy_response(body: bytes) -> m.CopyResponse:
    """CopyInResponse, CopyOutResponse or CopyBothResponse."""
    if not body:
        raise _short()
    columns, at = _formats(body, 1)
    _finish(body, at)
    return m.CopyResponse(_format(body[0]), columns)


def parameter_description(body: bytes) -> m.ParameterDescription:
    oids, at = _numbers(body, 0)
    _finish(body, at)
    return m.ParameterDescription(oids)


def function_result(body: bytes) -> m.FunctionResult:
    size, at = _length(body, 0)
    if size == _NULL:
        _finish(body, at)
        return m.FunctionResult(None)
    _finish(body, at + size)
    return m.FunctionResult(body[at:])


def _bad(words: str) -> PeerError:
    return PeerError("postgres-message", words)


def _short() -> PeerError:
    return _bad("a PostgreSQL message ends too early")


def _finish(body: bytes, at: int) -> None:
    if at > len(body):
        raise _short()
    if at < len(body):
        raise _bad("a PostgreSQL message goes on after its end")


def _end_of_text(body: bytes, at: int) -> int:
    """Where the NUL is that ends the text that begins at `at`."""
    end = body.find(0, at)
    if end < 0:
        raise _bad("a text in a PostgreSQL message does not end")
    return end


def _only_text(body: bytes) -> bytes:
    """A text with nothing behind it."""
    end = _end_of_text(body, 0)
    if end != len(body) - 1:
        raise _bad("a PostgreSQL message goes on after its end")
    return body[:end]


def _statement_or_portal(body: bytes) -> int:
    if not body or body[0] not in (m.STATEMENT, m.PORTAL):
        raise _bad("neither a statement nor a portal is named")
    return body[0]


def _count(body: bytes, at: int) -> int:
    if len(body) < at + 2:
        raise _short()
    return body[at] << 8 | body[at + 1]


def _number(body: bytes, at: int) -> int:
    if len(body) < at + 4:
        raise _short()
    number: int = _NUMBER.unpack_from(body, at)[0]
    return number


def _length(body: bytes, at: int) -> tuple[int, int]:
    """The length of the value at `at`, -1 for NULL; where its bytes begin."""
    if len(body) < at + 4:
        raise _short()
    size: int = _LENGTH.unpack_from(body, at)[0]
    if size < _NULL:
        raise _bad(f"a value says that it is {size} bytes long")
    return size, at + 4


def _numbers(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """A count, so many numbers of four bytes, and where they end."""
    number = _count(body, at)
    at += 2
    if len(body) < at + 4 * number:
        raise _short()
    return (Struct(f">{number}I").unpack_from(body, at) if number else ()), at + 4 * number


def _format(code: int) -> int:
    if code > m.BINARY:
        raise _bad(f"a value has the unknown format {code}")
    return code


def _formats(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """A count, so many formats, and where they end."""
    number = _count(body, at)
    at += 2
    end = at + 2 * number
    if len(body) < end:
        raise _short()
    formats: list[int] = []
    while at < end:
        formats.append(_format(body[at] << 8 | body[at + 1]))
        at += 2
    return tuple(formats), end


def _values(body: bytes, at: int) -> tuple[tuple[m.Value, ...], int]:
    """A count, so many values, and where they end."""
    number = _count(body, at)
    at += 2
    values: list[m.Value] = []
    for _ in range(number):
        size, at = _length(body, at)
        if size == _NULL:
            values.append(None)
            continue
        if len(body) < at + size:
            raise _short()
        values.append(body[at : at + size])
        at += size
    return tuple(values), at


def _mechanism(name: bytes) -> str:
    """A SASL mechanism's name (RFC 4422 3.1: capitals, digits, - and _, 20 at most)."""
    if not 1 <= len(name) <= 20 or not all(c in _MECHANISM for c in name):
        raise _bad("a SASL mechanism has a name that none can have")
    return name.decode("ascii")


_MECHANISM: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


def _mechanisms(data: bytes) -> tuple[str, ...]:
    """Names, each with a NUL; then a NUL. There is at least one."""
    if not data.endswith(b"\0\0"):
        raise _bad("a list of SASL mechanisms does not end")
    return tuple([_mechanism(name) for name in data[:-2].split(b"\0")])
