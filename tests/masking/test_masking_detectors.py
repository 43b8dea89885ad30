"""What detectors find, and what they do not take for it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.masking.detectors import DETECTORS, chosen
from appliance.masking.hiding import Hide, Hits

JWT = b".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1"}', b"\xff" * 32)
)
PEM = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"

HITS = [
    *(
        ("email", one)
        for one in (b"a@b.co", b"jane.doe+x@mail.example.com", "jörg@bücher.example".encode(), b"o'neil@a-b.museum")
    ),
    *(
        ("credit-card", one)
        for one in (b"4111111111111111", b"4111 1111 1111 1111", b"4111-1111-1111-1111", b"5555555555554444")
    ),
    *(
        ("credit-card", one)
        for one in (b"378282246310005", b"3782 822463 10005", b"6011111111111117", b"3530111333300000")
    ),
    *(("credit-card", one) for one in (b"30569309025904", b"2223003122003222", b"6240008631401148")),
    *(("iban", one) for one in (b"DE89370400440532013000", b"DE89 3704 0044 0532 0130 00", b"GB29NWBK60161331926819")),
    *(("iban", one) for one in (b"NO9386011117947", b"MT84MALT011000012345MTLCAST001S", b"de89370400440532013000")),
    *(("ssn-us", one) for one in (b"123-45-6789", b"899-99-9999")),
    *(("ipv4", one) for one in (b"10.0.0.1", b"255.255.255.255")),
    *(
        ("ipv6", one)
        for one in (
            b"2001:db8::1",
            b"::1",
            b"fe80::",
            b"1:2:3:4:5:6:7:8",
            b"::ffff:192.0.2.1",
            b"2001:DB8:0:0:8:800:200C:417A",
        )
    ),
    ("jwt", JWT),
    *(
        ("private-key", one)
        for one in (PEM, PEM.replace(b"RSA ", b""), PEM.replace(b"RSA PRIVATE KEY", b"PGP PRIVATE KEY BLOCK"))
    ),
    *(("aws-key", one) for one in (b"AKIAIOSFODNN7EXAMPLE", b"ASIAIOSFODNN7EXAMPLE")),
    ("aws-key", b"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"[4:]),
    *(
        ("api-token", one)
        for one in (b"ghp_" + b"a1" * 18, b"glpat-" + b"x" * 20, b"sk-ant-" + b"y" * 40, b"AIza" + b"z" * 35)
    ),
    *(("api-token", one) for one in (b"xoxb-1234567890-abc", b"sk_live_" + b"q" * 24, b"npm_" + b"A" * 36)),
]

MISSES = [
    *(
        ("email", one)
        for one in (b"a@b", b"@b.example", b"a@.example", b"a@b.c", b"a b.example", b"a@b.1", b"@types/node.js", b"@")
    ),
    *(
        ("credit-card", one)
        for one in (
            b"4111111111111112",
            b"4111111111111116",
            b"41111111111111111",
            b"14111111111111111",
            b"0.4111111111111111",
        )
    ),
    *(
        ("credit-card", one)
        for one in (b"4111 1111-1111 1111", b"1111111111111117", b"378282246310006", b"4111111111111")
    ),
    *(
        ("iban", one)
        for one in (
            b"DE89370400440532013001",
            b"DE8937040044053201300",
            b"XX89370400440532013000",
            b"ADE89370400440532013000",
        )
    ),
    *(
        ("ssn-us", one)
        for one in (b"000-12-3456", b"666-12-3456", b"900-12-3456", b"123-00-4567", b"123-45-0000", b"1123-45-6789")
    ),
    *(("ssn-us", one) for one in (b"123-45-67890", b"123456789", b"1-123-45-6789")),
    *(("ipv4", one) for one in (b"256.1.1.1", b"1.2.3", b"1.2.3.4.5", b"01.2.3.4", b"1.2.3.1000")),
    *(
        ("ipv6", one)
        for one in (
            b"::",
            b"12:30:45",
            b"2024-01-01 12:30:45+00",
            b"std::abs",
            b"a:b",
            b"1:2:3:4:5:6:7:8:9",
            b"g::1",
            b"00:1b:44:11:3a:b7",
        )
    ),
    *(
        ("jwt", one)
        for one in (b"eyJhbGciOiJIUzI1NiJ9", b"eyJmb28iOiJiYXIifQ.e30.c2ln", b"xeyJhbGciOiJIUzI1NiJ9.e30.c2ln")
    ),
    *(("private-key", one) for one in (b"-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----", b"PRIVATE KEY")),
    *(
        ("aws-key", one)
        for one in (b"AKIAIOSFODNN7EXAMPL", b"AKIAIOSFODNN7EXAMPLES", b"XAKIAIOSFODNN7EXAMPLE", b"akiaiosfodnn7example")
    ),
    *(("api-token", one) for one in (b"ghp_short", b"task-" + b"a" * 40, b"npm_config_registry", b"xghp_" + b"a" * 36)),
]


def hidden(name: str, value: bytes) -> bytes | None:
    return Hits(chosen((name,)), Hide()).text(value)


@pytest.mark.parametrize(("name", "value"), HITS)
def test_hits(name: str, value: bytes) -> None:
    assert hidden(name, value) == b"***"
    for before, after in ((b"", b" "), (b"is: ", b"."), (b'"', b'",'), (b"(", b")"), (b"\n", b"\r\n"), (b"=", b";")):
        assert hidden(name, before + value + after) == before + b"***" + after
    assert hidden(name, value + b" and " + value) == b"*** and ***"


@pytest.mark.parametrize(("name", "value"), MISSES)
def test_misses(name: str, value: bytes) -> None:
    assert hidden(name, value) is value


def test_a_hit_that_begins_within_a_candidate() -> None:
    assert hidden("credit-card", b"4000 4111 1111 1111 1111") == b"4000 ***"
    assert hidden("iban", b"GB29 DE89 3704 0044 0532 0130 00") == b"GB29 ***"
    assert hidden("email", b"@@a@b.example") == b"@@***"
    assert hidden("email", b"x" * 100 + b"@b.example") == b"x" * 36 + b"***"
    assert hidden("private-key", b"a " + PEM[:60]) == b"a ***"


@given(st.sampled_from(HITS), st.text(max_size=20), st.text(max_size=20))
def test_spaces_set_a_hit_apart(hit: tuple[str, bytes], before: str, after: str) -> None:
    name, value = hit
    out = hidden(name, before.encode() + b" ; " + value + b" ; " + after.encode())
    assert out is not None
    assert value not in out


ALPHABETS = {
    "email": (b"a@", b"@a.", b"a.", b"@" + b"a-" * 40, b"aaaaaaaa@a.aaaaaaaa"),
    "credit-card": (b"4", b"4111 ", b"4111-1111-"),
    "iban": (b"DE89", b"DE89 3704 ", b"D"),
    "ssn-us": (b"123-45-", b"1"),
    "ipv4": (b"1.", b"255.255.", b"1"),
    "ipv6": (b":", b"a:", b"::a:", b"f"),
    "jwt": (b"eyJ", b"eyJhbGciOi.", b"eyJaaaaaaaaa..", b"a."),
    "private-key": (PEM[:31], b"-----BEGIN ", b"-----BEGIN A"),
    "aws-key": (b"AKIA", b"secret_access_key = ", b"secretaccesskey=a"),
    "api-token": (b"ghp_", b"sk-", b"gh", b"ghp_aaaa-", b"npm_ "),
}


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_search_never_runs_away(name: str) -> None:
    """One whose steps grow with the square of the length would need days for these, and run into the time limit."""
    for piece in ALPHABETS[name]:
        value = piece * (500_000 // len(piece))
        hidden(name, value)


def test_names() -> None:
    assert [one.name for one in chosen(tuple(sorted(DETECTORS, reverse=True)))] == list(DETECTORS)
    with pytest.raises(ValueError):
        chosen(("emial",))
