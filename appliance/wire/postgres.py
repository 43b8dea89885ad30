"""PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2 (PostgreSQL documentation, chapter 55), under one name.

postgres_start     the packets that begin a connection, read and written
postgres_frames    Frames: bytes in; messages, runs of rows, pieces of long messages out
messages           types, codes, and what is read out of a message
read               bodies -> what they say:   read.query(frame.body)
write              whole messages:            write.query(b"select 1")
"""

from appliance.wire import postgres_messages as messages
from appliance.wire import postgres_read as read
from appliance.wire import postgres_write as write
from appliance.wire.postgres_frames import Frame, Frames, Message, Piece, Run
from appliance.wire.postgres_start import (
    MAX_START,
    MIN_START,
    CancelRequest,
    GssEncRequest,
    SslRequest,
    Start,
    StartupMessage,
    cancel_request,
    gss_enc_request,
    looks_like_start,
    parse_start,
    ssl_request,
    startup,
)

__all__ = [
    "MAX_START",
    "MIN_START",
    "CancelRequest",
    "Frame",
    "Frames",
    "GssEncRequest",
    "Message",
    "Piece",
    "Run",
    "SslRequest",
    "Start",
    "StartupMessage",
    "cancel_request",
    "gss_enc_request",
    "looks_like_start",
    "messages",
    "parse_start",
    "read",
    "ssl_request",
    "startup",
    "write",
]
