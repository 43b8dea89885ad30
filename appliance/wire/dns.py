"""DNS messages as a forwarder needs them (RFC 1035, RFC 6891, RFC 8914): questions in, answers out.

Nothing of an upstream's packet is relayed as bytes: `parse_response` reads it into records, and `build_answer` writes
a fresh message with the client's own question, in the client's own letter case (so 0x20 checks hold).

LIMITS. One question, class IN, opcode QUERY. Names are letters, digits, hyphens and underscores. Compression
pointers are followed backwards only; a question may not use them. TSIG, SIG(0) and EDNS options are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from msgspec import Struct

from appliance.model.errors import PeerError

A, CNAME, OPT, AAAA, SVCB, HTTPS = 1, 5, 41, 28, 64, 65
IN: Final = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
EDE_PROHIBITED: Final = 18  # RFC 8914 4.19
EDE_NETWORK: Final = 23  # RFC 8914 4.24, Network Error

PAYLOAD: Final = 1232  # bytes of UDP that we take and send at most (no fragments on any IPv6 path)
MIN_PAYLOAD: Final = 512  # RFC 1035 4.2.1
MAX_MESSAGE: Final = 65535
MAX_RECORDS: Final = 256  # in one response
MAX_CHAIN: Final = 12  # CNAMEs in a row
_MAX_NAME: Final = 255  # octets on the wire (RFC 1035 2.3.4)

_QR, _TC, _RD, _RA, _CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0010
_LABELS: Final = re.compile(rb"[a-z0-9_\-.]*")
KINDS: Final = {A: "A", CNAME: "CNAME", AAAA: "AAAA", SVCB: "SVCB", HTTPS: "HTTPS", 2: "NS", 6: "SOA", 12: "PTR"}
KINDS.update({15: "MX", 16: "TXT", 33: "SRV", 43: "DS", 48: "DNSKEY", 255: "ANY", 257: "CAA"})


class Query(Struct, frozen=True):
    """A question. `name`: lower case, no trailing dot, "" for the root. `raw_question`: as sent, echoed in answers.
    `payload`: bytes that fit into a UDP answer."""

    id: int
    name: str
    kind: int
    recursion: bool
    checking_disabled: bool
    edns: bool
    edns_version: int
    payload: int
    raw_question: bytes

    @property
    def kind_name(self) -> str:
        return KINDS.get(self.kind, f"TYPE{self.kind}")


class Record(Struct, frozen=True):
    """`kind` A or AAAA: `data` is the address in text; CNAME: the name. `ttl` in seconds."""

    name: str
    kind: int
    ttl: int
    data: str


class Response(Struct, frozen=True):
    """`rcode` with the extension bits of EDNS. `answers`: A, AAAA and CNAME of class IN only."""

    id: int
    rcode: int
    truncated: bool
    name: str
    kind: int
    answers: tuple[Record, ...]


def _bad(message: str) -> PeerError:
    return PeerError("bad-dns", message)


def _u16(packet: bytes, position: int) -> int:
    if position + 2 > len(packet):
        raise _bad("a DNS message is cut short")
    return packet[position] << 8 | packet[position + 1]


def _read_name(packet: bytes, position: int, pointers: bool) -> tuple[str, int]:
    """The name at `position`, lower case without trailing dot, and where it ends. A pointer must lead before the
    place where the name, or the part that was pointed to, starts: so there is no loop (RFC 1035 4.1.4)."""
    labels: list[bytes] = []
    total = 1
    end = -1
    floor = position
    while True:
        if position >= len(packet):
            raise _bad("a DNS name is cut short")
        length = packet[position]
        if length == 0:
            break
        if length >= 0xC0:
            target = _u16(packet, position) & 0x3FFF
            if not pointers or target >= floor or target < 12:
                raise _bad("a DNS name has a compression pointer that may not be there")
            end = position + 2 if end < 0 else end
            position = floor = target
            continue
        label = packet[position + 1 : position + 1 + length]
        total += 1 + length
        if length > 63 or len(label) != length or total > _MAX_NAME or b"." in label:
            raise _bad("a DNS name is malformed or too long")
        labels.append(label)
        position += 1 + length
    name = b".".join(labels).lower()
    if _LABELS.fullmatch(name) is None:
        raise _bad("a DNS name has a character other than letters, digits, hyphens and underscores")
    return name.decode("ascii"), position + 1 if end < 0 else end


def _encode_name(name: str) -> bytes:
    if not name:
        return b"\0"
    parts = [label.encode("ascii") for label in name.split(".")]
    wire = b"".join([bytes((len(part),)) + part for part in parts if 0 < len(part) < 64]) + b"\0"
    if len(wire) > _MAX_NAME or len(wire) != len(name) + 2:
        raise _bad("a name does not fit into a DNS message")
    return wire


class _Raw(Struct, frozen=True):
    name: str
    kind: int
    klass: int
    ttl: int
    start: int
    end: int  # of the data


def _read_record(packet: bytes, position: int) -> _Raw:
    name, position = _read_name(packet, position, pointers=True)
    kind, klass = _u16(packet, position), _u16(packet, position + 2)
    ttl = _u16(packet, position + 4) << 16 | _u16(packet, position + 6)
    start = position + 10
    end = start + _u16(packet, position + 8)
    if end > len(packet):
        raise _bad("a DNS record is longer than its message")
    return _Raw(name, kind, klass, ttl if ttl < 2**31 else 0, start, end)  # RFC 2181 8


def parse_query(packet: bytes) -> Query:
    """A question from a client. Raises PeerError: code "dns-not-query" (drop it), "dns-opcode" (NOTIMP), else
    FORMERR; `build_refusal` makes the answer."""
    if len(packet) < 12:
        raise PeerError("dns-not-query", "a DNS message is shorter than its header")
    flags = _u16(packet, 2)
    if flags & _QR:
        raise PeerError("dns-not-query", "a DNS message is a response")
    if flags >> 11 & 15:
        raise PeerError("dns-opcode", "the DNS opcode is not QUERY")
    if flags & _TC or flags & 15 or _u16(packet, 4) != 1 or _u16(packet, 6) or _u16(packet, 8):
        raise _bad("a DNS question has flags or sections that are not a question's")
    name, end = _read_name(packet, 12, pointers=False)
    kind, klass = _u16(packet, end), _u16(packet, end + 2)
    if klass != IN:
        raise _bad("the DNS class is not IN")
    raw = packet[12 : end + 4]
    position = end + 4
    edns, version, payload = False, 0, MIN_PAYLOAD
    count = _u16(packet, 10)
    if count > 4:
        raise _bad("a DNS question has too many additional records")
    for _ in range(count):
        record = _read_record(packet, position)
        position = record.end
        if record.kind == OPT:
            if edns or record.name:
                raise _bad("a DNS question has two OPT records, or a named one")
            edns, version = True, record.ttl >> 16 & 0xFF
            payload = min(max(record.klass, MIN_PAYLOAD), PAYLOAD)
    if position != len(packet):
        raise _bad("bytes follow a DNS question")
    return Query(_u16(packet, 0), name, kind, bool(flags & _RD), bool(flags & _CD), edns, version, payload, raw)


def parse_response(packet: bytes) -> Response:
    """An upstream's answer. Raises PeerError."""
    if len(packet) < 12 or len(packet) > MAX_MESSAGE:
        raise _bad("a DNS response has no header")
    flags = _u16(packet, 2)
    if not flags & _QR or flags >> 11 & 15 or _u16(packet, 4) != 1:
        raise _bad("a DNS response is not the response to one question")
    name, position = _read_name(packet, 12, pointers=False)
    kind, klass = _u16(packet, position), _u16(packet, position + 2)
    if klass != IN:
        raise _bad("the DNS class is not IN")
    position += 4
    rcode = flags & 15
    if flags & _TC:  # what is there is not to be used (RFC 2181 9), and may be cut anywhere
        return Response(_u16(packet, 0), rcode, True, name, kind, ())
    counts = (_u16(packet, 6), _u16(packet, 8), _u16(packet, 10))
    if sum(counts) > MAX_RECORDS:
        raise _bad(f"a DNS response has more than {MAX_RECORDS} records")
    answers: list[Record] = []
    for section, count in enumerate(counts):
        for _ in range(count):
            raw = _read_record(packet, position)
            position = raw.end
            if section == 0 and raw.klass == IN:
                _keep(packet, raw, answers)
            elif section == 2 and raw.kind == OPT:
                rcode |= raw.ttl >> 24 << 4
    return Response(_u16(packet, 0), rcode, False, name, kind, tuple(answers))


def _keep(packet: bytes, raw: _Raw, answers: list[Record]) -> None:
    data = packet[raw.start : raw.end]
    if raw.kind == A:
        if len(data) != 4:
            raise _bad("an A record is not 4 bytes long")
        answers.append(Record(raw.name, A, raw.ttl, str(IPv4Address(data))))
    elif raw.kind == AAAA:
        if len(data) != 16:
            raise _bad("an AAAA record is not 16 bytes long")
        answers.append(Record(raw.name, AAAA, raw.ttl, str(IPv6Address(data))))
    elif raw.kind == CNAME:
        name, end = _read_name(packet, raw.start, pointers=True)
        if end != raw.end:
            raise _bad("a CNAME record is malformed")
        answers.append(Record(raw.name, CNAME, raw.ttl, name))


def chain_of(response: Response, name: str, kind: int) -> tuple[list[Record], str]:
    """What of a response answers `name`: its CNAMEs in order, then the addresses of `kind` that the last one has;
    and that last name. Records of other names are left out. Raises PeerError for a loop or a long chain."""
    chain: list[Record] = []
    current = name
    while True:
        alias = next((r for r in response.answers if r.kind == CNAME and r.name == current), None)
        if alias is None:
            break
        chain.append(alias)
        current = alias.data
        if len(chain) > MAX_CHAIN or current == name:
            raise _bad(f"a chain of CNAMEs is a loop or longer than {MAX_CHAIN}")
    return chain + [r for r in response.answers if r.kind == kind and r.name == current], current


def build_query(id: int, name: str, kind: int) -> bytes:
    """A question for an upstream, with recursion and EDNS. Raises PeerError if the name cannot be asked for."""
    header = b"%b\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01" % id.to_bytes(2, "big")
    question = _encode_name(name) + kind.to_bytes(2, "big") + b"\x00\x01"
    return header + question + b"\x00\x00\x29" + PAYLOAD.to_bytes(2, "big") + bytes(6)


def build_answer(
    query: Query,
    rcode: int = NOERROR,
    records: Sequence[Record] = (),
    *,
    limit: int | None = None,
    extended_error: int | None = None,
    text: str = "",
) -> bytes:
    """The answer to a question. `limit`: bytes at most (default: the query's UDP payload); what does not fit is left
    out whole and TC is set. `extended_error`, `text`: RFC 8914, sent if the client speaks EDNS."""
    body = b"".join([_encode_record(query, record) for record in records])
    opt = _opt(query, rcode, extended_error, text)
    count = len(records)
    flags = _QR | _RA | (rcode & 15) | (_RD if query.recursion else 0) | (_CD if query.checking_disabled else 0)
    if 12 + len(query.raw_question) + len(body) + len(opt) > (query.payload if limit is None else limit):
        body, count, flags = b"", 0, flags | _TC
    header = b"".join(
        [n.to_bytes(2, "big") for n in (query.id, flags, 1, count, 0, 1 if opt else 0)],
    )
    return header + query.raw_question + body + opt


def _opt(query: Query, rcode: int, extended_error: int | None, text: str) -> bytes:
    if not query.edns:
        return b""
    option = b""
    if extended_error is not None:
        message = text.encode("utf-8")[:200].decode("utf-8", "ignore").encode("utf-8")
        info = extended_error.to_bytes(2, "big") + message
        option = b"\x00\x0f" + len(info).to_bytes(2, "big") + info
    ttl = bytes((rcode >> 4, 0, 0, 0))
    return b"\x00\x00\x29" + PAYLOAD.to_bytes(2, "big") + ttl + len(option).to_bytes(2, "big") + option


def _encode_record(query: Query, record: Record) -> bytes:
    owner = b"\xc0\x0c" if record.name == query.name else _encode_name(record.name)
    data = _encode_name(record.data) if record.kind == CNAME else ip_address(record.data).packed
    parts = (record.kind.to_bytes(2, "big"), b"\x00\x01", record.ttl.to_bytes(4, "big"), len(data).to_bytes(2, "big"))
    return owner + b"".join(parts) + data


def build_refusal(packet: bytes, error: PeerError) -> bytes | None:
    """The answer to a packet that `parse_query` refused: a bare header (RFC 1035 4.1.1); None: say nothing."""
    if error.code == "dns-not-query" or len(packet) < 12:
        return None
    rcode = NOTIMP if error.code == "dns-opcode" else FORMERR
    flags = _QR | (_u16(packet, 2) & (0x7800 | _RD)) | rcode
    return packet[:2] + flags.to_bytes(2, "big") + bytes(8)
