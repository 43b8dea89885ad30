"""The DNS codec against scapy, and what it refuses."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRROPT

from appliance.model.errors import PeerError
from appliance.wire import dns
from appliance.wire.dns import Query, Record

NAME = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?){0,4}\Z")
EDNS = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"


def ask(name: bytes = b"\x07eXample\x03CoM\x00", kind: int = 1, klass: int = 1, counts: bytes = bytes(6)) -> bytes:
    header = b"\x12\x34\x01\x00\x00\x01" + counts
    return header + name + kind.to_bytes(2, "big") + klass.to_bytes(2, "big")


def query(packet: bytes) -> Query:
    return dns.parse_query(packet)


@settings(max_examples=50)
@given(NAME, st.sampled_from([1, 28, 65, 16, 255]), st.integers(0, 65535), st.booleans())
def test_scapy_questions(name: str, kind: int, number: int, edns: bool) -> None:
    packet = DNS(id=number, rd=1, qd=DNSQR(qname=name, qtype=kind))
    if edns:
        packet.ar = [DNSRROPT(rclass=4096)]
    found = query(bytes(packet))
    assert (found.id, found.name, found.kind, found.edns, found.recursion) == (number, name, kind, edns, True)
    assert found.payload == (1232 if edns else 512)


@settings(max_examples=50)
@given(NAME, NAME, st.lists(st.ip_addresses(v=4), max_size=5), st.integers(0, 2**31 - 1))
def test_scapy_reads_our_answers(name: str, alias: str, addresses: list[object], ttl: int) -> None:
    asked = query(dns.build_query(7, name, dns.A))
    records = [Record(name, dns.CNAME, ttl, alias)] + [Record(alias, dns.A, ttl, str(a)) for a in addresses]
    theirs = DNS(dns.build_answer(asked, records=records))
    assert theirs.id == 7
    assert theirs.qr == 1
    assert theirs.rcode == 0
    assert theirs.qd[0].qname.decode() == name + "."
    assert theirs.an[0].rdata.decode() == alias + "."
    assert [str(r.rdata) for r in theirs.an[1:]] == [str(a) for a in addresses]
    assert {r.ttl for r in theirs.an} == {ttl}


@settings(max_examples=50)
@given(NAME, st.lists(st.ip_addresses(), min_size=1, max_size=5))
def test_we_read_scapys_answers(name: str, addresses: list[IPv4Address | IPv6Address]) -> None:
    answers = [DNSRR(rrname=name, type="A" if a.version == 4 else "AAAA", rdata=str(a), ttl=60) for a in addresses]
    packet = bytes(DNS(id=5, qr=1, ra=1, qd=DNSQR(qname=name, qtype=1), an=answers))
    found = dns.parse_response(packet)
    assert (found.id, found.name, found.kind, found.rcode) == (5, name, 1, 0)
    assert [ip_address(r.data) for r in found.answers] == addresses


@given(NAME, st.lists(st.ip_addresses(), max_size=5), NAME)
def test_our_answers_are_read_by_ourselves(name: str, addresses: list[IPv4Address | IPv6Address], alias: str) -> None:
    asked = query(dns.build_query(7, name, dns.A))
    records = [Record(name, dns.CNAME, 5, alias)]
    records += [Record(alias, dns.A if a.version == 4 else dns.AAAA, 9, str(a)) for a in addresses]
    found = dns.parse_response(dns.build_answer(asked, records=records))
    assert found.answers == tuple(records)


def test_the_question_is_echoed_with_its_letter_case() -> None:
    packet = ask()
    found = query(packet)
    assert found.name == "example.com"
    answer = dns.build_answer(found, records=[Record("example.com", dns.A, 60, "192.0.2.1")])
    assert b"\x07eXample\x03CoM\x00" in answer
    assert answer[:2] == packet[:2]


def test_refused_with_an_extended_error() -> None:
    found = query(ask(counts=b"\x00\x00\x00\x00\x00\x01") + EDNS)
    answer = dns.build_answer(found, dns.REFUSED, extended_error=dns.EDE_PROHIBITED, text="no rule allows it")
    theirs = DNS(answer)
    assert theirs.rcode == 5
    option = theirs.ar[0].rdata[0]
    assert (option.optcode, option.info_code, option.extra_text) == (15, 18, b"no rule allows it")
    without = dns.build_answer(query(ask()), dns.REFUSED, extended_error=18, text="x")
    assert DNS(without).arcount == 0


def test_what_does_not_fit_is_left_out_and_said_to_be() -> None:
    found = query(ask())
    records = [Record("example.com", dns.A, 60, f"192.0.2.{i}") for i in range(100)]
    answer = dns.build_answer(found, records=records)
    assert len(answer) <= 512
    assert dns.parse_response(answer).truncated
    assert len(dns.parse_response(dns.build_answer(found, records=records, limit=65535)).answers) == 100


def response(body: bytes, counts: bytes, flags: bytes = b"\x81\x80") -> bytes:
    return b"\x12\x34" + flags + b"\x00\x01" + counts + b"\x01a\x00\x00\x01\x00\x01" + body


def test_chains_of_names() -> None:
    def answers(*pairs: tuple[str, str]) -> dns.Response:
        records = [Record(a, dns.CNAME if b.isalpha() else dns.A, 1, b) for a, b in pairs]
        return dns.Response(1, 0, False, "a", 1, tuple(records))

    found, last = dns.chain_of(answers(("x", "9.9.9.9"), ("b", "1.2.3.4"), ("a", "b")), "a", dns.A)
    assert [r.data for r in found] == ["b", "1.2.3.4"]
    assert last == "b"
    assert dns.chain_of(answers(("a", "b"), ("c", "1.2.3.4")), "a", dns.A)[0] == [Record("a", dns.CNAME, 1, "b")]
    for loop in ((("a", "a"),), (("a", "b"), ("b", "a")), (("a", "b"), ("b", "c"), ("c", "b"))):
        with pytest.raises(PeerError):
            dns.chain_of(answers(*loop), "a", dns.A)


@pytest.mark.parametrize(
    ("code", "packet"),
    [
        ("dns-not-query", b""),
        ("dns-not-query", ask()[:11]),
        ("dns-not-query", b"\x12\x34\x81\x80" + ask()[4:]),
        ("dns-opcode", b"\x12\x34\x28\x00" + ask()[4:]),
        ("bad-dns", ask()[:12]),
        ("bad-dns", ask()[:-1]),
        ("bad-dns", ask() + b"x"),
        ("bad-dns", ask(klass=3)),
        ("bad-dns", ask()[:4] + b"\x00\x02" + ask()[6:]),
        ("bad-dns", ask()[:4] + b"\x00\x00" + bytes(6)),
        ("bad-dns", ask(b"\xc0\x0c")),
        ("bad-dns", ask(b"\x01a\xc0\x0c")),
        ("bad-dns", ask(b"\x40" + b"a" * 64 + b"\x00")),
        ("bad-dns", ask(b"\x80a\x00")),
        ("bad-dns", ask(b"\x03a.b\x00")),
        ("bad-dns", ask(b"\x03a\x00b\x00")),
        ("bad-dns", ask(b"\x03a b\x00")),
        ("bad-dns", ask(b"\x02\xc3\xa9\x00")),
        ("bad-dns", ask((b"\x3f" + b"a" * 63) * 4 + b"\x00")),
        ("bad-dns", ask(counts=b"\x00\x01\x00\x00\x00\x00")),
        ("bad-dns", ask(counts=b"\x00\x00\x00\x00\x00\x02") + EDNS + EDNS),
        ("bad-dns", ask(counts=b"\x00\x00\x00\x00\xff\xff")),
    ],
)
def test_questions_that_are_refused(code: str, packet: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        dns.parse_query(packet)
    assert caught.value.code == code
    answer = dns.build_refusal(packet, caught.value)
    if code == "dns-not-query":
        assert answer is None
    else:
        assert answer is not None
        assert answer[:2] == packet[:2]
        assert answer[3] & 15 == (4 if code == "dns-opcode" else 1)


A_RECORD = b"\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x01\x02\x03\x04"


@pytest.mark.parametrize(
    "packet",
    [
        response(b"\xc0\x13" + A_RECORD, b"\x00\x01\x00\x00\x00\x00"),  # a pointer to itself
        response(b"\x01a\xc0\x13" + A_RECORD, b"\x00\x01\x00\x00\x00\x00"),  # to its own start
        response(b"\xc0\xff" + A_RECORD, b"\x00\x01\x00\x00\x00\x00"),  # forwards
        response(b"\xc0\x00" + A_RECORD, b"\x00\x01\x00\x00\x00\x00"),  # into the header
        response(b"\xc0\x0c" + A_RECORD[:-1], b"\x00\x01\x00\x00\x00\x00"),
        response(b"\xc0\x0c" + A_RECORD, b"\x00\x02\x00\x00\x00\x00"),
        response(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x03\x01\x02\x03", b"\x00\x01\x00\x00\x00\x00"),
        response(b"\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x04\x01\x02\x03\x04", b"\x00\x01\x00\x00\x00\x00"),
        response(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01a\x00x", b"\x00\x01\x00\x00\x00\x00"),
        response((b"\xc0\x0c" + A_RECORD) * 300, b"\x01\x2c\x00\x00\x00\x00"),
        response(b"", bytes(6), flags=b"\x01\x00"),
        b"",
    ],
)
def test_responses_that_are_refused(packet: bytes) -> None:
    with pytest.raises(PeerError):
        dns.parse_response(packet)


def test_the_rcode_of_edns_counts() -> None:
    packet = response(b"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\x01")
    assert dns.parse_response(packet).rcode == 16
    badvers = dns.build_answer(query(ask(counts=b"\x00\x00\x00\x00\x00\x01") + EDNS), dns.BADVERS)
    assert dns.parse_response(badvers).rcode == 16


@given(st.binary(max_size=120))
def test_garbage_raises_nothing_but_peer_errors(data: bytes) -> None:
    for packet in (data, ask()[:12] + data, response(data, b"\x00\x02\x00\x01\x00\x01")):
        for parse in (dns.parse_query, dns.parse_response):
            try:
                parse(packet)
            except PeerError as error:
                dns.build_refusal(packet, error)


@given(st.integers(0, 2**32))
def test_mutants_raise_nothing_but_peer_errors(seed: int) -> None:
    chance = random.Random(seed)
    asked = query(dns.build_query(7, "a.example", dns.A))
    records = [Record("a.example", dns.CNAME, 5, "b.example"), Record("b.example", dns.A, 9, "192.0.2.1")]
    packet = bytearray(dns.build_answer(asked, records=records))
    for _ in range(chance.randint(1, 4)):
        packet[chance.randrange(len(packet))] = chance.randrange(256)
    try:
        found = dns.parse_response(bytes(packet))
        dns.chain_of(found, found.name, dns.A)
    except PeerError:
        pass


def test_names_that_cannot_be_asked_for() -> None:
    for name in ("a..b", "a." * 130, "x" * 64, ".a"):
        with pytest.raises(PeerError):
            dns.build_query(1, name, dns.A)
