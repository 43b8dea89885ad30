"""PostgreSQL's messages, written, of both sides (PostgreSQL documentation 55.7, 55.8).

Each function returns one whole message. What cannot be written as it is (a NUL within a text, a number that its field
has no room for) raises InternalError: nothing that a writer was given can become a second message. Only what people
read (errors, notices) is mended instead.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from struct import Struct
from typing import Final

from appliance.model.errors import InternalError
from appliance.wire import postgres_messages as m

_HEAD: Final = Struct(">BI")
_NULL: Final = b"\xff\xff\xff\xff"


def message(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body) + 4) + body


# What the server says


def error(
    severity: str, sqlstate: str, text: str, detail: str = "", hint: str = "", *, constraint: str = "", where: str = ""
) -> bytes:
    """An ErrorResponse (55.8). `severity`: ERROR, FATAL or PANIC; `sqlstate`: five characters; the rest for people."""
    return message(m.ERROR, _report(severity, sqlstate, text, detail, hint, constraint, where))


def notice(
    severity: str, sqlstate: str, text: str, detail: str = "", hint: str = "", *, constraint: str = "", where: str = ""
) -> bytes:
    """A NoticeResponse. `severity`: WARNING, NOTICE, DEBUG, INFO or LOG."""
    return message(m.NOTICE, _report(severity, sqlstate, text, detail, hint, constraint, where))


def _report(severity: str, sqlstate: str, text: str, detail: str, hint: str, constraint: str, where: str) -> bytes:
    if len(sqlstate) != 5 or not sqlstate.isascii() or not sqlstate.isalnum():
        raise InternalError("a SQLSTATE has five letters and digits")
    fields = (
        (b"S", severity),
        (b"V", severity),
        (b"C", sqlstate),
        (b"M", text or severity),
        (b"D", detail),
        (b"H", hint),
        (b"W", where),
        (b"n", constraint),
    )
    return b"".join([code + _prose(value) for code, value in fields if value]) + b"\0"


def _prose(text: str) -> bytes:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace") + b"\0"


def report(kind: int, fields: Sequence[tuple[int, bytes]]) -> bytes:
    """An ERROR or a NOTICE with these fields, for one that was read and is passed on changed."""
    parts: list[bytes] = []
    for code, text in fields:
        if not 0 < code < 256:
            raise InternalError("a field's code is a byte, and not NUL")
        parts.append(bytes((code,)) + _text(text))
    return message(kind, b"".join(parts) + b"\0")


def authentication_ok() -> bytes:
    return _authentication(m.AUTH_OK, b"")


def authentication_cleartext() -> bytes:
    return _authentication(m.AUTH_CLEARTEXT, b"")


def authentication_md5(salt: bytes) -> bytes:
    if len(salt) != 4:
        raise InternalError("the salt of MD5 has four bytes")
    return _authentication(m.AUTH_MD5, salt)


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    names = [name.encode("ascii") for name in mechanisms]
    if not names or not all(names):
        raise InternalError("a SASL mechanism without a name, or none")
    return _authentication(m.AUTH_SASL, b"".join([_text(name) for name in names]) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    return _authentication(m.AUTH_SASL_CONTINUE, data)


def authentication_sasl_final(data: bytes) -> bytes:
    return _authentication(m.AUTH_SASL_FINAL, data)


def _authentication(kind: int, data: bytes) -> bytes:
    return message(m.AUTHENTICATION, _number(kind) + data)


def negotiate_protocol_version(minor: int, unrecognised: Sequence[str]) -> bytes:
    """With the major version before `minor`, as PostgreSQL sends it and libpq reads it."""
    version = _count(3) + _count(minor)
    options = b"".join([_text(name.encode()) for name in unrecognised])
    return message(m.NEGOTIATE_PROTOCOL_VERSION, version + _number(len(unrecognised)) + options)


def backend_key_data(pid: int, key: bytes) -> bytes:
    if not m.MIN_KEY <= len(key) <= m.MAX_KEY:
        raise InternalError("a cancel key is too short or too long")
    return message(m.BACKEND_KEY_DATA, _number(pid) + key)


def parameter_status(name: bytes, value: bytes) -> bytes:
    return message(m.PARAMETER_STATUS, _text(name) + _text(value))


def ready(status: int) -> bytes:
    """`status`: IDLE, IN_TRANSACTION or FAILED."""
    if status not in (m.IDLE, m.IN_TRANSACTION, m.FAILED):
        raise InternalError("a transaction has no such state")
    return message(m.READY, bytes((status,)))


def row_description(fields: Sequence[m.Field]) -> bytes:
    parts = [_count(len(fields))]
    for field in fields:
        parts.append(_text(field.name))
        parts.append(
            _pack(
                ">IhIhiH",
                field.table_oid,
                field.attribute,
                field.type_oid,
                field.size,
                field.modifier,
                field.format,
            )
        )
    return message(m.ROW_DESCRIPTION, b"".join(parts))


def data_row(values: Sequence[m.Value]) -> bytes:
    return message(m.DATA_ROW, _values(values))


def command_complete(tag: bytes) -> bytes:
    return message(m.COMMAND_COMPLETE, _text(tag))


def empty_query() -> bytes:
    return message(m.EMPTY_QUERY, b"")


def parse_complete() -> bytes:
    return message(m.PARSE_COMPLETE, b"")


def bind_complete() -> bytes:
    return message(m.BIND_COMPLETE, b"")


def close_complete() -> bytes:
    return message(m.CLOSE_COMPLETE, b"")


def no_data() -> bytes:
    return message(m.NO_DATA, b"")


def portal_suspended() -> bytes:
    return message(m.PORTAL_SUSPENDED, b"")


def parameter_description(oids: Sequence[int]) -> bytes:
    return message(m.PARAMETER_DESCRIPTION, _numbers(oids))


def notification(pid: int, channel: bytes, payload: bytes) -> bytes:
    return message(m.NOTIFICATION, _number(pid) + _text(channel) + _text(payload))


def copy_response(kind: int, overall: int, column_formats: Sequence[int]) -> bytes:
    """`kind`: COPY_IN, COPY_OUT or COPY_BOTH; `overall`: TEXT or BINARY."""
    return message(kind, bytes((overall,)) + _formats(column_formats))


def function_result(value: m.Value) -> bytes:
    return message(m.FUNCTION_RESULT, _value(value))


# What the client says


def query(text: bytes) -> bytes:
    return message(m.QUERY, _text(text))


def parse(name: bytes, text: bytes, oids: Sequence[int] = ()) -> bytes:
    return message(m.PARSE, _text(name) + _text(text) + _numbers(oids))


def bind(
    portal: bytes,
    statement: bytes,
    formats: Sequence[int] = (),
    parameters: Sequence[m.Value] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    names = _text(portal) + _text(statement)
    return message(m.BIND, names + _formats(formats) + _values(parameters) + _formats(result_formats))


def describe(kind: int, name: bytes) -> bytes:
    """`kind`: STATEMENT or PORTAL."""
    return message(m.DESCRIBE, bytes((kind,)) + _text(name))


def execute(portal: bytes, limit: int = 0) -> bytes:
    """`limit`: rows; 0: all."""
    return message(m.EXECUTE, _text(portal) + _pack(">i", limit))


def close(kind: int, name: bytes) -> bytes:
    """`kind`: STATEMENT or PORTAL."""
    return message(m.CLOSE, bytes((kind,)) + _text(name))


def function_call(oid: int, formats: Sequence[int], arguments: Sequence[m.Value], result_format: int = 0) -> bytes:
    return message(m.FUNCTION_CALL, _number(oid) + _formats(formats) + _values(arguments) + _count(result_format))


def sync() -> bytes:
    return message(m.SYNC, b"")


def flush() -> bytes:
    return message(m.FLUSH, b"")


def terminate() -> bytes:
    return message(m.TERMINATE, b"")


def password(text: bytes) -> bytes:
    """A PasswordMessage: cleartext, or "md5" and 32 hex digits."""
    return message(m.PASSWORD, _text(text))


def sasl_initial(mechanism: str, data: bytes | None) -> bytes:
    return message(m.PASSWORD, _text(mechanism.encode("ascii")) + _value(data))


def sasl_response(data: bytes) -> bytes:
    return message(m.PASSWORD, data)


# What both say


def copy_data(data: bytes) -> bytes:
    return message(m.COPY_DATA, data)


def copy_done() -> bytes:
    return message(m.COPY_DONE, b"")


def copy_fail(reason: str) -> bytes:
    return message(m.COPY_FAIL, _prose(reason))


def _text(text: bytes) -> bytes:
    if 0 in text:
        raise InternalError("a text with a NUL cannot be written")
    return text + b"\0"


def _pack(layout: str, *numbers: int) -> bytes:
    try:
        return struct.pack(layout, *numbers)
    except struct.error as error:
        raise InternalError(f"a number has no room in its field: {error}") from None


def _number(number: int) -> bytes:
    return _pack(">I", number)


def _count(number: int) -> bytes:
    return _pack(">H", number)


def _numbers(numbers: Sequence[int]) -> bytes:
    return _count(len(numbers)) + _pack(f">{len(numbers)}I", *numbers)


def _formats(formats: Sequence[int]) -> bytes:
    return _count(len(formats)) + _pack(f">{len(formats)}H", *formats)


def _value(value: m.Value) -> bytes:
    return _NULL if value is None else _number(len(value)) + value


def _values(values: Sequence[m.Value]) -> bytes:
    return _count(len(values)) + b"".join([_value(value) for value in values])
