"""Logins that never carry the password itself: the agent proves its placeholder to us, we prove the real one upstream.

    ScramServer   SCRAM-SHA-256 towards the agent, whose password is one of its job's placeholders
    ScramClient   SCRAM-SHA-256 and SCRAM-SHA-256-PLUS towards the real server; `choose` picks one of them
    Salted        what both derive of a password, kept so that it is derived once
    end_point     what binds SCRAM-SHA-256-PLUS to the TLS channel: the hash of the server's certificate
    md5_response, check_md5, check_cleartext   the older ways

Sources: RFC 5802 (SCRAM), RFC 7677 (SHA-256), RFC 5929 (tls-server-end-point), RFC 4013 (SASLprep), PostgreSQL
documentation 55.3. Chance is handed in: nonces and salts come from the caller.

Always: a placeholder is accepted by comparing with *all* candidates in constant time; a server that does not prove that
it knows the password is not logged in to; no repr and no error tells a password, a key or a proof.

LIMITS. No authorization identity and no extension is known, as in PostgreSQL; mandatory ones are refused, others are
passed over. The user name within SCRAM is not looked at: the start-up packet has it (PostgreSQL documentation 55.3.1).
Towards the agent there is no channel binding: the channel ends here, with a certificate that is not the server's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from appliance.model.errors import Denied, EnvironmentFailed, InternalError, PeerError
from appliance.model.secret import Secret
from appliance.placeholders.saslprep import prepare

Mechanism = Literal["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]

SCRAM: Final = "SCRAM-SHA-256"
SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"
ITERATIONS: Final = 4096  # rounds of PBKDF2 that we ask of an agent: RFC 7677 4, and PostgreSQL's default
# Rounds that we do for a server, at most. A server could ask for 2^31 and have us compute for a quarter of an hour for
# each connection. This many take a quarter of a second; it is what OWASP asks for where people choose the passwords.
MOST_ITERATIONS: Final = 600_000
_QUICK_ITERATIONS: Final = 4 * ITERATIONS
LEAST_NONCE: Final = 18  # random bytes, as libpq and PostgreSQL take (SCRAM_RAW_NONCE_LEN)

_MOST_FROM_AGENT = 1024  # bytes of one message: PG_MAX_SASL_MESSAGE_LENGTH
_MOST_FROM_SERVER = 4096  # the same towards us: longer salts and nonces have no use
_KEY = 32  # bytes of a SHA-256
_MOST_KEPT = 64  # passwords × salts of one `Salted`: a server that sends another salt each time fills no memory

# RFC 5802 7. An extension's name is none of the attributes of 5.1: a second proof or nonce is no extension.
_NONCE = rb"([\x21-\x2b\x2d-\x7e]+)"
_BASE64 = rb"([A-Za-z0-9+/]+={0,2})"
_EXTENSIONS = rb"(?:,(?![acemnprsiv]=)[A-Za-z]=[^,\0]+)*"
_GS2_HEADER = re.compile(rb"(n|y|p=[A-Za-z0-9.-]+),(a=[^,\0]*)?,")
_CLIENT_FIRST_BARE = re.compile(rb"n=[^,\0]*,r=" + _NONCE + _EXTENSIONS)
_CLIENT_FINAL = re.compile(rb"(c=" + _BASE64 + rb",r=" + _NONCE + _EXTENSIONS + rb"),p=" + _BASE64)
_SERVER_FIRST = re.compile(rb"r=" + _NONCE + rb",s=" + _BASE64 + rb",i=([1-9][0-9]{0,9})")
_SERVER_FINAL = re.compile(rb"v=" + _BASE64)
_NONCE_ALONE = re.compile(_NONCE)


def nonce_of(chance: bytes) -> bytes:
    """A nonce for either side, of random bytes (LEAST_NONCE or more)."""
    if len(chance) < LEAST_NONCE:
        raise InternalError("too little chance for a nonce")
    return base64.b64encode(chance)


class Keys:
    """ClientKey, StoredKey and ServerKey of RFC 5802 3. The first is as good as the password where salt and rounds are
    the same."""

    __slots__ = ("client", "server", "stored")

    def __init__(self, salted_password: bytes) -> None:
        self.client: Final = hmac.digest(salted_password, b"Client Key", "sha256")
        self.stored: Final = hashlib.sha256(self.client).digest()
        self.server: Final = hmac.digest(salted_password, b"Server Key", "sha256")


class Salted:
    """The keys of passwords, each derived once for a salt and a number of rounds: 4,096 rounds take 1 ms or two, more
    than all the rest of a login.

    It belongs into the lease whose passwords it has seen, and ends with it. `salt` is what agents are sent: it must be
    said before one has proved anything, so it is the same for all passwords; and it may be the same for as long as this
    object lives, since what it protects (tables made in advance) needs no more.
    """

    __slots__ = ("_keys", "salt")

    def __init__(self, salt: bytes) -> None:
        """`salt`: random, 16 bytes in PostgreSQL (SCRAM_DEFAULT_SALT_LEN)."""
        if not salt:
            raise InternalError("a salt is not empty")
        self.salt: Final = salt
        self._keys: dict[tuple[bytes, bytes, int], Keys] = {}

    def keys(self, password: bytes, salt: bytes, iterations: int) -> Keys:
        """`password`: prepared. It is known again by its digest: the password itself is kept nowhere."""
        name = (hashlib.sha256(password).digest(), salt, iterations)
        known = self._keys.get(name)
        if known is None:
            known = Keys(hashlib.pbkdf2_hmac("sha256", password, salt, iterations))
            while len(self._keys) >= _MOST_KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[name] = known
        return known


# ---- towards the agent ----


class ScramServer:
    """`first`, then `final`, once each. Any other order raises InternalError."""

    __slots__ = ("_candidates", "_header", "_iterations", "_messages", "_nonce", "_proof", "_salted")

    def __init__(self, candidates: Sequence[bytes], salted: Salted, nonce: bytes, iterations: int = ITERATIONS) -> None:
        """`candidates`: the job's live placeholders for this destination, ASCII, so that SASLprep leaves them as they
        are. `nonce`: `nonce_of` chance of this login."""
        if _NONCE_ALONE.fullmatch(nonce) is None:
            raise InternalError("a nonce is printable and has no comma")
        self._candidates = candidates
        self._salted = salted
        self._nonce = nonce
        self._iterations = iterations
        self._header = b""
        self._messages = b""  # what the proof is over (RFC 5802 3: AuthMessage), as far as it is there
        self._proof = b""

    def first(self, client_first: bytes) -> bytes:
        """Takes client-first-message, gives server-first-message. Raises PeerError."""
        if self._header:
            raise InternalError("a second client-first-message")
        gs2 = _GS2_HEADER.match(client_first)
        if gs2 is None or len(client_first) > _MOST_FROM_AGENT:
            raise PeerError("bad-scram", "malformed SCRAM client-first-message")
        if gs2[1].startswith(b"p="):
            raise PeerError(
                "channel-binding",
                "channel binding is not offered: TLS ends at the appliance, which does it with the server instead; "
                "use channel_binding=prefer",
            )
        if gs2[2] is not None:
            raise PeerError("bad-scram", "a SCRAM authorization identity is not supported")
        bare = client_first[gs2.end() :]
        if bare.startswith(b"m="):
            raise PeerError("bad-scram", "the client requires a SCRAM extension that is not supported")
        found = _CLIENT_FIRST_BARE.fullmatch(bare)
        if found is None:
            raise PeerError("bad-scram", "malformed SCRAM client-first-message")
        self._header = gs2[0]
        self._nonce = found[1] + self._nonce
        salt = base64.b64encode(self._salted.salt)
        answer = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._iterations)
        self._messages = b"%b,%b," % (bare, answer)
        return answer

    def final(self, client_final: bytes) -> tuple[int, bytes]:
        """Takes client-final-message; which candidate it proves, and server-final-message.

        Raises PeerError for what the protocol forbids, Denied("password-not-placeholder") if it proves none.
        """
        if not self._header or self._proof:
            raise InternalError("client-final-message out of order")
        found = _CLIENT_FINAL.fullmatch(client_final) if len(client_final) <= _MOST_FROM_AGENT else None
        proof = _unbase64(found[4]) if found is not None else None
        if found is None or proof is None or len(proof) != _KEY:
            raise PeerError("bad-scram", "malformed SCRAM client-final-message")
        if found[2] != base64.b64encode(self._header):  # RFC 5802 5.1 "c": what client-first began with
            raise PeerError("bad-scram", "the SCRAM channel binding is not that of client-first-message")
        if found[3] != self._nonce:
            raise PeerError("bad-scram", "the SCRAM nonce is not the one that was sent")
        self._messages += found[1]
        self._proof = proof
        return self.again(self._candidates)

    def again(self, candidates: Sequence[bytes]) -> tuple[int, bytes]:
        """After `final`: the same proof against other candidates, such as placeholders minted since the lease was
        asked for. As `final`. Raises Denied."""
        if not self._proof:
            raise InternalError("there is no proof yet")
        matches = -1
        answer = b""
        for index, candidate in enumerate(candidates):
            keys = self._salted.keys(candidate, self._salted.salt, self._iterations)
            client_key = _xor(self._proof, hmac.digest(keys.stored, self._messages, "sha256"))
            same = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored)
            if same and matches < 0:
                matches = index
                answer = b"v=" + base64.b64encode(hmac.digest(keys.server, self._messages, "sha256"))
        if matches < 0:
            raise _not_a_placeholder()
        return matches, answer


def check_cleartext(candidates: Sequence[bytes], password: bytes) -> int:
    """Which candidate the agent's password is. All are compared, in constant time. Raises Denied."""
    matches = -1
    for index, candidate in enumerate(candidates):
        if hmac.compare_digest(candidate, password) and matches < 0:
            matches = index
    if matches < 0:
        raise _not_a_placeholder()
    return matches


def check_md5(candidates: Sequence[bytes], user: bytes, salt: bytes, response: bytes) -> int:
    """Which candidate the agent's MD5 response proves; `salt`: the 4 bytes that it was sent. Raises Denied."""
    return check_cleartext([md5_response(user, candidate, salt) for candidate in candidates], response)


def md5_response(user: bytes, password: bytes, salt: bytes) -> bytes:
    """ "md5" and md5(hex(md5(password, user)), salt) in hexadecimal (PostgreSQL documentation 55.2.1), without the zero
    byte of its message. No security is claimed for it, which is also why hosts that forbid MD5 let it through here."""
    inner = hashlib.md5(password + user, usedforsecurity=False).hexdigest().encode()
    return b"md5" + hashlib.md5(inner + salt, usedforsecurity=False).hexdigest().encode()


def _not_a_placeholder() -> Denied:
    return Denied(
        "password-not-placeholder",
        "the password is none of this job's live placeholders for this destination",
        "log in with the placeholder that stands in the job's environment",
    )


# ---- towards the server ----


class Choice(NamedTuple):
    """How a server is logged in to. `header`: GS2 header of RFC 5802 7; `binding`: data of the channel, if bound."""

    mechanism: Mechanism
    header: bytes
    binding: bytes


def choose(offered: Sequence[str], accepted: Sequence[str], binding: bytes) -> Choice:
    """The strongest of the mechanisms that a server offers and the plan accepts.

    `offered`: names as in AuthenticationSASL. `accepted`: "scram-sha-256-plus", "scram-sha-256". `binding`: `end_point`
    of the server's certificate, empty without TLS or where it has none. Raises EnvironmentFailed if none is left.
    """
    plus_accepted = "scram-sha-256-plus" in accepted and bool(binding)
    if plus_accepted and SCRAM_PLUS in offered:
        return Choice(SCRAM_PLUS, b"p=tls-server-end-point,,", binding)
    if "scram-sha-256" in accepted and SCRAM in offered:
        # RFC 5802 6: "y" says that we could have bound the channel, and heard no offer. A server that made one knows
        # then that somebody in between took it away. Where we do not want to, it is "n".
        return Choice(SCRAM, b"y,," if plus_accepted else b"n,,", b"")
    raise EnvironmentFailed(
        "upstream-login", "the server offers no SASL mechanism that this destination's upstream_login names"
    )


class ScramClient:
    """`first`, `reply`, `check`, once each. Any other order raises InternalError. A login that did not come through
    `check` is none: whoever has no proof of the password is not the server."""

    __slots__ = ("_bare", "_choice", "_nonce", "_password", "_salted", "_signature", "_step")

    def __init__(self, choice: Choice, password: Secret, salted: Salted, nonce: bytes) -> None:
        """`salted`: that of the lease which `password` comes from. `nonce`: `nonce_of` chance of this login."""
        if _NONCE_ALONE.fullmatch(nonce) is None:
            raise InternalError("a nonce is printable and has no comma")
        self._choice = choice
        self._password = password
        self._salted = salted
        self._nonce = nonce
        self._bare = b"n=,r=" + nonce  # no user, as libpq
        self._signature = b""  # what the server has to send
        self._step = 0

    def first(self) -> bytes:
        """client-first-message."""
        self._advance(0)
        return self._choice.header + self._bare

    def takes_long(self, server_first: bytes) -> bool:
        """Whether `reply` may compute for more than a few milliseconds: then in a thread."""
        found = _SERVER_FIRST.fullmatch(server_first)
        return found is not None and int(found[3]) > _QUICK_ITERATIONS

    def reply(self, server_first: bytes) -> bytes:
        """Takes server-first-message, gives client-final-message. Computes for 1.6 ms at 4,096 rounds, 0.25 s at
        MOST_ITERATIONS, unless `salted` knows the keys already.

        Raises PeerError; EnvironmentFailed for more rounds than MOST_ITERATIONS.
        """
        self._advance(1)
        if server_first.startswith(b"m="):
            raise PeerError("bad-scram", "the server requires a SCRAM extension that is not supported")
        found = _SERVER_FIRST.fullmatch(server_first) if len(server_first) <= _MOST_FROM_SERVER else None
        salt = _unbase64(found[2]) if found is not None else None
        if found is None or salt is None:
            raise PeerError("bad-scram", "malformed SCRAM server-first-message")
        nonce = found[1]
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise PeerError("bad-scram", "the server's SCRAM nonce does not begin with ours, or adds nothing to it")
        iterations = int(found[3])
        if iterations > MOST_ITERATIONS:
            raise EnvironmentFailed(
                "upstream-login",
                f"the server asks for {iterations} SCRAM iterations; at most {MOST_ITERATIONS} are done",
            )
        keys = self._salted.keys(prepare(self._password.reveal()), salt, iterations)
        without_proof = b"c=%b,r=%b" % (base64.b64encode(self._choice.header + self._choice.binding), nonce)
        messages = b"%b,%b,%b" % (self._bare, server_first, without_proof)
        proof = _xor(keys.client, hmac.digest(keys.stored, messages, "sha256"))
        self._signature = hmac.digest(keys.server, messages, "sha256")
        return b"%b,p=%b" % (without_proof, base64.b64encode(proof))

    def check(self, server_final: bytes) -> None:
        """Takes server-final-message. Raises PeerError if it is malformed or is no proof of the password,
        EnvironmentFailed if the server says that ours is none."""
        self._advance(2)
        if server_final.startswith(b"e="):
            raise EnvironmentFailed("upstream-login", "the server does not accept the real password")
        found = _SERVER_FINAL.fullmatch(server_final) if len(server_final) <= _MOST_FROM_SERVER else None
        signature = _unbase64(found[1]) if found is not None else None
        if signature is None:
            raise PeerError("bad-scram", "malformed SCRAM server-final-message")
        if not hmac.compare_digest(signature, self._signature):
            raise PeerError("bad-scram", "the server's proof is wrong: it does not know the password")
        self._step = 4

    @property
    def proved(self) -> bool:
        """Whether the server has proved that it knows the password. AuthenticationOk before that is a lie."""
        return self._step == 4

    def _advance(self, step: int) -> None:
        if self._step != step:
            raise InternalError("a SCRAM login out of order")
        self._step = step + 1


@lru_cache(maxsize=64)  # servers' certificates, of which each is met at every login
def end_point(certificate: bytes) -> bytes:
    """tls-server-end-point of a server's certificate in DER (RFC 5929 4.1): its hash by the hash function of its own
    signature, SHA-256 instead of MD5 and SHA-1. Empty where that is not defined (Ed25519 has no hash function of its
    own): no channel can be bound then. (libpq breaks the login off in that case; OpenSSL knows no digest for it.)

    Raises PeerError for what is no certificate.
    """
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except UnsupportedAlgorithm:
        return b""
    except ValueError:
        raise PeerError("bad-certificate", "the server's certificate cannot be read") from None
    if algorithm is None:
        return b""
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate)
    return digest.finalize()


def _unbase64(text: bytes) -> bytes | None:
    """None if it is not exactly what an encoder writes (RFC 4648 3.5: bits beyond the end are zero)."""
    try:
        value = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return None
    return value if binascii.b2a_base64(value, newline=False) == text else None


def _xor(one: bytes, other: bytes) -> bytes:
    """Of two byte strings of _KEY bytes."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(_KEY, "big")
