"""What PostgreSQL's messages are called and what is read out of them (PostgreSQL documentation 55.7, 55.8).

Names, texts and tags stay bytes: they are in the client's encoding, which the codec does not know. Only what is ASCII
by definition (SASL mechanisms, fields of the start-up packet as UTF-8) is str.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# Types of the agent's messages (F)
BIND: Final = 0x42  # B
CLOSE: Final = 0x43  # C
DESCRIBE: Final = 0x44  # D
EXECUTE: Final = 0x45  # E
FUNCTION_CALL: Final = 0x46  # F
FLUSH: Final = 0x48  # H
PARSE: Final = 0x50  # P
QUERY: Final = 0x51  # Q
SYNC: Final = 0x53  # S
TERMINATE: Final = 0x58  # X
COPY_FAIL: Final = 0x66  # f
PASSWORD: Final = 0x70  # p: PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse

# Of both
COPY_DONE: Final = 0x63  # c
COPY_DATA: Final = 0x64  # d

# Of the server's (B)
PARSE_COMPLETE: Final = 0x31  # 1
BIND_COMPLETE: Final = 0x32  # 2
CLOSE_COMPLETE: Final = 0x33  # 3
NOTIFICATION: Final = 0x41  # A
COMMAND_COMPLETE: Final = 0x43  # C
DATA_ROW: Final = 0x44  # D
ERROR: Final = 0x45  # E
COPY_IN: Final = 0x47  # G
COPY_OUT: Final = 0x48  # H
EMPTY_QUERY: Final = 0x49  # I
BACKEND_KEY_DATA: Final = 0x4B  # K
NOTICE: Final = 0x4E  # N
AUTHENTICATION: Final = 0x52  # R
PARAMETER_STATUS: Final = 0x53  # S
ROW_DESCRIPTION: Final = 0x54  # T
FUNCTION_RESULT: Final = 0x56  # V
COPY_BOTH: Final = 0x57  # W
READY: Final = 0x5A  # Z
NO_DATA: Final = 0x6E  # n
PORTAL_SUSPENDED: Final = 0x73  # s
PARAMETER_DESCRIPTION: Final = 0x74  # t
NEGOTIATE_PROTOCOL_VERSION: Final = 0x76  # v

# Of what Describe and Close speak
STATEMENT: Final = 0x53  # S
PORTAL: Final = 0x50  # P

# State of the transaction, in ReadyForQuery
IDLE: Final = 0x49  # I
IN_TRANSACTION: Final = 0x54  # T
FAILED: Final = 0x45  # E

# Kinds of Authentication
AUTH_OK: Final = 0
AUTH_KERBEROS: Final = 2
AUTH_CLEARTEXT: Final = 3
AUTH_MD5: Final = 5
AUTH_GSS: Final = 7
AUTH_GSS_CONTINUE: Final = 8
AUTH_SSPI: Final = 9
AUTH_SASL: Final = 10
AUTH_SASL_CONTINUE: Final = 11
AUTH_SASL_FINAL: Final = 12

MIN_KEY: Final = 4  # bytes of a cancel key (55.7 BackendKeyData; always 4 in protocol 3.0)
MAX_KEY: Final = 256

TEXT: Final = 0  # formats of values
BINARY: Final = 1

Value = bytes | None  # of a parameter or a column; None is NULL


class Query(NamedTuple):
    text: bytes


class Parse(NamedTuple):
    name: bytes  # of the statement; b"" is the unnamed one
    text: bytes
    oids: tuple[int, ...]  # types of the first parameters; 0: the server is to find out


class Bind(NamedTuple):
    """`formats`, `result_formats`: none (all text), one (for all), or one each."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    parameters: tuple[Value, ...]
    result_formats: tuple[int, ...]


class Describe(NamedTuple):
    kind: int  # STATEMENT or PORTAL
    name: bytes


class Close(NamedTuple):
    kind: int  # STATEMENT or PORTAL
    name: bytes


class Execute(NamedTuple):
    portal: bytes
    limit: int  # rows; 0 and less: all


class FunctionCall(NamedTuple):
    oid: int
    formats: tuple[int, ...]
    arguments: tuple[Value, ...]
    result_format: int


class CopyFail(NamedTuple):
    reason: bytes


class Password(NamedTuple):
    """Cleartext, or "md5" and 32 hex digits: what AuthenticationCleartextPassword or -MD5Password asked for."""

    text: bytes

    def __repr__(self) -> str:
        return "Password(…)"


class SaslInitialResponse(NamedTuple):
    mechanism: str
    data: bytes | None  # None: the mechanism lets the server begin


class Authentication(NamedTuple):
    """`data`: the salt (MD5, 4 bytes), what SASL or GSS say. `mechanisms`: of AUTH_SASL, in the server's order."""

    kind: int
    data: bytes = b""
    mechanisms: tuple[str, ...] = ()


class NegotiateProtocolVersion(NamedTuple):
    minor: int  # the newest that the server speaks, of major 3
    unrecognised: tuple[str, ...]  # protocol options (_pq_.*) that it does not know


class BackendKeyData(NamedTuple):
    pid: int
    key: bytes  # 4 to 256 bytes

    def __repr__(self) -> str:
        return f"BackendKeyData(pid={self.pid}, key=…)"


class ParameterStatus(NamedTuple):
    name: bytes
    value: bytes


class Field(NamedTuple):
    """A column of a RowDescription. `table_oid` and `attribute` are 0 if it is not a table's column; `attribute` is
    below 0 for a system column."""

    name: bytes
    table_oid: int
    attribute: int
    type_oid: int
    size: int  # bytes; below 0: of any length
    modifier: int
    format: int  # TEXT or BINARY


class RowDescription(NamedTuple):
    fields: tuple[Field, ...]


class DataRow(NamedTuple):
    values: tuple[Value, ...]


class CommandComplete(NamedTuple):
    tag: bytes


class Report(NamedTuple):
    """ErrorResponse or NoticeResponse: its fields in order, each with its code (55.8)."""

    fields: tuple[tuple[int, bytes], ...]

    def text_of(self, code: int) -> bytes:
        """The first field with this code, b"" if there is none."""
        for key, text in self.fields:
            if key == code:
                return text
        return b""

    @property
    def severity(self) -> bytes:
        """Not translated (V, since 9.6), else the translated one (S)."""
        return self.text_of(0x56) or self.text_of(0x53)

    @property
    def sqlstate(self) -> bytes:
        return self.text_of(0x43)

    @property
    def message(self) -> bytes:
        return self.text_of(0x4D)


class Notification(NamedTuple):
    pid: int
    channel: bytes
    payload: bytes


class CopyResponse(NamedTuple):
    """CopyInResponse, CopyOutResponse, CopyBothResponse."""

    format: int  # of the whole: TEXT or BINARY
    column_formats: tuple[int, ...]


class ParameterDescription(NamedTuple):
    oids: tuple[int, ...]


class FunctionResult(NamedTuple):
    value: Value
