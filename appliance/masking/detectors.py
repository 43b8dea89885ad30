"""Which parts of a text look like something that must be hidden, whatever column they stand in.

    email        an address with a dotted domain; letters beyond ASCII are taken for letters
    credit-card  a known issuer's prefix and length, plain or in its groups (space, hyphen), and the Luhn digit
    iban         a known country's length, plain or in groups of four, and the check digits (ISO 13616, mod 97)
    ssn-us       123-45-6789, not 000, 666, 9xx, 00, 0000
    ipv4         four numbers up to 255
    ipv6         what RFC 4291 2.2 allows, but not `::` alone
    jwt          a JWS or JWE in compact form whose header has an `alg` (RFC 7515, 7516)
    private-key  PEM, up to its end line or, if there is none, to the end of the value (RFC 7468)
    aws-key      an access key id; a secret access key that is named so
    api-token    GitHub, GitLab, Slack, Stripe, Google, npm, PyPI, OpenAI, Anthropic: by their prefixes

Only the hit is replaced, not the whole value. A hit is found in time that is linear in the value's length: each search
has a bounded number of steps from each place, or goes over a run of characters that cannot be entered in its middle.

LIMITS. What is encoded (base64, percent, reversed) is not found. There is no detector for telephone numbers nor for
"any random text": they would hit order numbers, hashes and UUIDs as well. A MAC of eight bytes looks like IPv6.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from ipaddress import AddressValueError, IPv6Address
from typing import Final

_MOST_HEADER: Final = 8192  # characters of a JWT's header that are looked at

# What stands before the @ in practice: RFC 5322's atext, but not what sets an address apart (= / | & # and others).
_LOCAL: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'~-")
_MOST_LOCAL: Final = 64  # octets before the @ (RFC 5321 4.5.3.1.1)
_DOMAIN: Final = re.compile(
    rb"@(?:[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,61}[A-Za-z0-9\x80-\xff])?\.){1,20}"
    rb"[A-Za-z\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,61}[A-Za-z0-9\x80-\xff])"
)
_CARD: Final = re.compile(
    rb"[2-6](?<![0-9].)(?<![0-9]\..)(?:"
    # Visa, MasterCard, Discover, JCB, UnionPay: 16 digits in four groups
    rb"(?:(?<=4)[0-9]{3}|(?<=5)[1-5][0-9]{2}|(?<=2)[2-7][0-9]{2}"
    rb"|(?<=6)(?:011|5[0-9]{2}|4[4-9][0-9]|2[0-9]{2})|(?<=3)5[2-8][0-9])"
    rb"([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    rb"|(?<=3)[47][0-9]{2}([ -]?)[0-9]{6}\2[0-9]{5}"  # American Express: 15 digits
    rb"|(?<=3)(?:0[0-5]|[689][0-9])[0-9]([ -]?)[0-9]{6}\3[0-9]{4}"  # Diners Club: 14 digits
    rb")(?![0-9])"
)
_IBAN: Final = re.compile(rb"[A-Za-z](?<![A-Za-z0-9].)[A-Za-z][0-9]{2} ?[A-Za-z0-9]")
# fmt: off
_IBAN_LENGTHS: Final[dict[str, int]] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}
# fmt: on
_SSN: Final = re.compile(rb"[0-8](?<![0-9-].)[0-9]{2}-[0-9]{2}-[0-9]{4}(?![0-9-])")
_OCTET: Final = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = re.compile(rb"(?=[0-9])(?<![0-9])(?<![0-9]\.)(?:" + _OCTET + rb"\.){3}" + _OCTET + rb"(?![0-9]|\.[0-9])")
_IPV6: Final = re.compile(rb"(?=[0-9A-Fa-f:])(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,44}(?![0-9A-Za-z:])")
_JWT: Final = re.compile(
    rb"eyJ(?<![A-Za-z0-9_-]...)[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+\.[A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]*+\.[A-Za-z0-9_-]*+)?"
)
_PEM_BEGIN: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_AWS: Final = re.compile(
    rb"A(?:KIA|SIA|BIA|CCA)(?<![A-Za-z0-9]....)[A-Z2-7]{16}(?![A-Za-z0-9])"
    rb"|(?:[Ss]ecret_?[Aa]ccess_?[Kk]ey|SECRET_ACCESS_KEY)[\"']?\s{0,5}[=:]\s{0,5}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
)
_API_TOKEN: Final = re.compile(
    rb"(?=[ghxrsAnp])(?<![A-Za-z0-9_-])(?:"
    rb"gh[pousr]_[A-Za-z0-9]{36,}+|github_pat_[A-Za-z0-9_]{22,}+|glpat-[A-Za-z0-9_-]{20,}+"
    rb"|xox[abeprs]-[A-Za-z0-9-]{10,}+|[rs]k_live_[A-Za-z0-9]{16,}+|AIza[A-Za-z0-9_-]{35}"
    rb"|npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{50,}+|sk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}+"
    rb")"
)


class Detector:
    """Finds one kind of thing. `literals`: one of them is in every value with a hit (none: nothing is known);
    `shortest`: bytes of the shortest hit."""

    __slots__ = ("literals", "name", "shortest")

    def __init__(self, name: str, shortest: int, literals: tuple[bytes, ...] = ()) -> None:
        self.name = name
        self.shortest = shortest
        self.literals = literals

    def next(self, value: bytes, start: int) -> tuple[int, int] | None:
        """Where the first hit at or after `start` begins and ends."""
        raise NotImplementedError

    def possible(self, value: bytes) -> bool:
        """Whether it is worth while to look closer."""
        if len(value) < self.shortest:
            return False
        return not self.literals or any(literal in value for literal in self.literals)


class _Pattern(Detector):
    """A regular expression, and a check of what it has found. A candidate that fails is entered in its middle."""

    __slots__ = ("_pattern",)

    def __init__(self, name: str, pattern: re.Pattern[bytes], shortest: int, literals: tuple[bytes, ...] = ()) -> None:
        super().__init__(name, shortest, literals)
        self._pattern = pattern

    def accept(self, value: bytes, start: int, end: int) -> int:
        """Where the hit ends; -1 for none."""
        return end

    def next(self, value: bytes, start: int) -> tuple[int, int] | None:
        while True:
            found = self._pattern.search(value, start)
            if found is None:
                return None
            begin, end = found.span()
            accepted = self.accept(value, begin, end)
            if accepted >= 0:
                return begin, accepted
            start = begin + 1


class _Email(Detector):
    __slots__ = ()

    def next(self, value: bytes, start: int) -> tuple[int, int] | None:
        position = start
        while True:
            found = _DOMAIN.search(value, position)
            if found is None:
                return None
            at, end = found.span()
            begin = at
            lowest = max(start, at - _MOST_LOCAL)
            while begin > lowest and (value[begin - 1] in _LOCAL or value[begin - 1] >= 0x80):
                begin -= 1
            if begin < at:
                return begin, end
            position = at + 1


class _Card(_Pattern):
    __slots__ = ()

    def accept(self, value: bytes, start: int, end: int) -> int:
        total = 0
        double = False
        for at in range(end - 1, start - 1, -1):
            digit = value[at] - 0x30
            if digit < 0:
                continue
            if double:
                digit = digit * 2 - 9 if digit > 4 else digit * 2
            total += digit
            double = not double
        return end if total % 10 == 0 else -1


class _Iban(_Pattern):
    __slots__ = ()

    def accept(self, value: bytes, start: int, end: int) -> int:
        length = _IBAN_LENGTHS.get(value[start : start + 2].decode("ascii").upper(), 0)
        text = b""
        at = start
        while len(text) < length:
            if at < len(value) and value[at] == 0x20 and len(text) % 4 == 0:
                at += 1
            here = value[at : at + 1]
            if not here.isalnum():
                return -1
            text += here
            at += 1
        if not text or value[at : at + 1].isalnum():
            return -1
        turned = text[4:] + text[:4]
        return at if int("".join([str(int(chr(byte), 36)) for byte in turned])) % 97 == 1 else -1


class _Ssn(_Pattern):
    __slots__ = ()

    def accept(self, value: bytes, start: int, end: int) -> int:
        area = value[start : start + 3]
        if area in (b"000", b"666") or value[start + 4 : start + 6] == b"00" or value[start + 7 : end] == b"0000":
            return -1
        return end


class _Ipv6(_Pattern):
    __slots__ = ()

    def accept(self, value: bytes, start: int, end: int) -> int:
        while end > start and (value[end - 1] == 0x2E or (value[end - 1] == 0x3A and value[end - 2] != 0x3A)):
            end -= 1  # the full stop or the colon after it
        text = value[start:end]
        if text.count(b":") < 2 or text == b"::":
            return -1
        try:
            IPv6Address(text.decode("ascii"))
        except AddressValueError:
            return -1
        return end


class _Jwt(_Pattern):
    __slots__ = ()

    def accept(self, value: bytes, start: int, end: int) -> int:
        header = value[start : min(end, start + _MOST_HEADER)].partition(b".")[0]
        header = header[: len(header) - (len(header) % 4 == 1)]
        return end if b'"alg"' in urlsafe_b64decode(header + b"=" * (-len(header) % 4)) else -1


class _PrivateKey(_Pattern):
    __slots__ = ()

    def accept(self, value: bytes, start: int, end: int) -> int:
        last = _PEM_END.search(value, end)
        return len(value) if last is None else last.end()


_AWS_PREFIXES: Final = (b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"ccess", b"CCESS")
_PREFIXES: Final = (b"gh", b"glpat-", b"xox", b"k_live_", b"AIza", b"npm_", b"pypi-AgE", b"sk-")
_ALL: Final[tuple[Detector, ...]] = (  # in this order: the longer things first
    _PrivateKey("private-key", _PEM_BEGIN, 26, (b"PRIVATE KEY",)),
    _Jwt("jwt", _JWT, 13, (b"eyJ",)),
    _Pattern("api-token", _API_TOKEN, 15, _PREFIXES),
    _Pattern("aws-key", _AWS, 20, _AWS_PREFIXES),
    _Email("email", 6, (b"@",)),
    _Iban("iban", _IBAN, 15),
    _Card("credit-card", _CARD, 14),
    _Ssn("ssn-us", _SSN, 11, (b"-",)),
    _Ipv6("ipv6", _IPV6, 3, (b":",)),
    _Pattern("ipv4", _IPV4, 7, (b".",)),
)
DETECTORS: Final[dict[str, Detector]] = {one.name: one for one in _ALL}


def chosen(names: tuple[str, ...]) -> tuple[Detector, ...]:
    """The detectors of these names, in the order in which they look. Raises ValueError for a name that there is not."""
    for name in names:
        if name not in DETECTORS:
            raise ValueError(f"there is no detector {name!r}; there are {', '.join(sorted(DETECTORS))}")
    return tuple([one for one in _ALL if one.name in names])
