"""DNS: what a question was read as is what its answer repeats; responses are read or refused."""

from __future__ import annotations

import random

from appliance.wire import dns
from tests.fuzz.runner import Harness, main

QUERY = dns.build_query(4660, "api.example.com", dns.A)
ANSWERED = dns.build_answer(
    dns.parse_query(QUERY),
    records=[
        dns.Record("api.example.com", dns.CNAME, 60, "lb.example.net"),
        dns.Record("lb.example.net", dns.A, 60, "192.0.2.1"),
        dns.Record("lb.example.net", dns.AAAA, 60, "2001:db8::1"),
    ],
)


def check(data: bytes, chance: random.Random) -> None:
    if chance.random() < 0.5:
        query = dns.parse_query(data)
        answer = dns.parse_response(
            dns.build_answer(query, dns.REFUSED, extended_error=dns.EDE_PROHIBITED, text="é" * 300)
        )
        if (answer.id, answer.name, answer.kind, answer.rcode) != (query.id, query.name, query.kind, dns.REFUSED):
            raise AssertionError("the answer is not to the question")
    else:
        response = dns.parse_response(data)
        records, _ = dns.chain_of(response, response.name, dns.A)
        query = dns.parse_query(dns.build_query(1, "a", dns.A))
        again = dns.parse_response(dns.build_answer(query, records=records, limit=dns.MAX_MESSAGE))
        if list(again.answers) != records:
            raise AssertionError("what is written is not what was read")


HARNESS = Harness(
    "dns",
    [QUERY, ANSWERED],
    [b"\xc0\x0c", b"\xc0\x00", b"\xc0\xff", b"\x00", b"\xff\xff", b"\x3f", b"\x40", b"\x00\x29", b"\x00\x05\x00\x01"],
    check,
)

if __name__ == "__main__":
    main(HARNESS)
