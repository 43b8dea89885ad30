"""Host names have one form, and what could be read in two ways is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import PeerError
from appliance.wire.names import canonical_host, literal_of, split_host_port

LABEL = st.from_regex(r"\A[A-Za-z0-9](?:[A-Za-z0-9-]{0,10}[A-Za-z0-9])?\Z")


@pytest.mark.parametrize(
    ("given_text", "canonical"),
    [
        ("API.Example.COM", "api.example.com"),
        ("example.com.", "example.com"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("r3---sn-abc.example", "r3---sn-abc.example"),
        ("1.2.3.4", "1.2.3.4"),
        ("10.0.0.255", "10.0.0.255"),
        ("1.example", "1.example"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("[::]", "[::]"),
        ("[::ffff:192.0.2.1]", "192.0.2.1"),
        ("[::FFFF:c000:201]", "192.0.2.1"),
        ("a" * 63 + "." + "b" * 63, "a" * 63 + "." + "b" * 63),
    ],
)
def test_canonical_forms(given_text: str, canonical: str) -> None:
    assert canonical_host(given_text) == canonical
    assert canonical_host(given_text.encode()) == canonical
    assert canonical_host(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a..b", ".a", "a..", "-a", "a-", "a-.b", "a_b", "_a.b", "a b", " a", "a ", "a\t"),
        *("a\n", "a\0"),
        *("attacker\0.example.com", "a@b", "u:p@a", "a%2eb", "a%00", "*", "*.a", "a/b", "a\\b", "a#b"),
        *("a?b", "a:b", "a,b"),
        *("bücher.example", "ｅxample.com", "\u212a.example", "ı", "a\u3002b", "a\u00adb"),
        *("127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.01", "256.1.1.1"),
        *("1.2.3.4.5", "1.2.3", "1"),
        *("1.2.3.4.", "a.1", "a.0x1", "0x", "a.0x", "1.2.3.0x4"),
        *("::1", "[::1", "::1]", "[]", "[1.2.3.4]", "[::1%eth0]", "[fe80::1%25eth0]", "[::1]a", "[:::]"),
        *("[v1.a]", "[::1].", "[[::1]]"),
        *("a" * 64, "a." * 127 + "a", ("a" * 63 + ".") * 4),
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        canonical_host(text)
    with pytest.raises(PeerError):
        canonical_host(text.encode())


@given(st.lists(LABEL, min_size=1, max_size=6), st.booleans())
def test_letter_case_and_a_trailing_dot_do_not_matter(labels: list[str], dot: bool) -> None:
    text = ".".join([*labels, "example"])
    assert canonical_host(text.upper() + "." * dot) == text.lower()


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80)))
def test_whatever_comes_is_canonical_or_a_peer_error(text: str | bytes) -> None:
    try:
        host = canonical_host(text)
    except PeerError:
        return
    assert canonical_host(host) == host
    assert host.isascii()


def test_literals() -> None:
    assert literal_of("1.2.3.4") == "1.2.3.4"
    assert literal_of("[::1]") == "::1"
    assert literal_of("a.example") is None


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (b"Example.com", ("example.com", 443)),
        (b"example.com:8443", ("example.com", 8443)),
        (b"1.2.3.4:80", ("1.2.3.4", 80)),
        (b"[::1]:80", ("[::1]", 80)),
        (b"[::1]", ("[::1]", 443)),
    ],
)
def test_authorities(text: bytes, result: tuple[str, int]) -> None:
    assert split_host_port(text, 443) == result


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b":80", b"a:", b"a:0", b"a:65536", b"a:080", b"a:+80", b"a: 80", b"a:80 ", b"a:8a"),
        *(b"a:80:80", b"a:99999999"),
        *(b"::1", b"[::1]x", b"[::1]:", b"[::1]80", b"[::1]:0", b"u@a:80", b"a,b", b"a b", b"a\xff"),
        "a:\u0661".encode(),
    ],
)  # fmt: skip
def test_authorities_that_are_refused(text: bytes) -> None:
    with pytest.raises(PeerError):
        split_host_port(text, 443)
