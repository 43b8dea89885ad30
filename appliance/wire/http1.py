"""HTTP/1.1 (RFC 9112): the readers, the events and the writers under one name.

http1_grammar  what a head may be made of; framing rules; what is wrong with one that does not match
http1_body     bodies by length, chunked, until close
http1_read     RequestReader, ResponseReader: bytes in, events out
http1_write    heads, chunks; which fields travel on
"""

from appliance.wire.http1_events import END, End, Event, Framing, Header, RequestHead, ResponseHead, Trailers
from appliance.wire.http1_read import RequestReader, ResponseReader, Sections
from appliance.wire.http1_write import (
    as_it_came,
    chunk,
    end_to_end,
    last_chunk,
    write_fields,
    write_request_line,
    write_response,
)

__all__ = [
    "END",
    "End",
    "Event",
    "Framing",
    "Header",
    "RequestHead",
    "RequestReader",
    "ResponseHead",
    "ResponseReader",
    "Sections",
    "Trailers",
    "as_it_came",
    "chunk",
    "end_to_end",
    "last_chunk",
    "write_fields",
    "write_request_line",
    "write_response",
]
