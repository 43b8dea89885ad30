"""Whoever knows one of the placeholders is logged in, with that one; nobody else is; and no server without the password
is logged in to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import ssl
import subprocess
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncpg
import psycopg
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, InternalError, PeerError
from appliance.model.secret import Secret
from appliance.placeholders import handshakes
from appliance.placeholders.handshakes import (
    MOST_ITERATIONS,
    SCRAM,
    SCRAM_PLUS,
    Choice,
    Salted,
    ScramClient,
    ScramServer,
    check_cleartext,
    check_md5,
    choose,
    end_point,
    md5_response,
    nonce_of,
)
from appliance.placeholders.saslprep import prepare
from tests.placeholders.login_server import SALT4, serving

PLAIN = Choice(SCRAM, b"n,,", b"")
COULD_BIND = Choice(SCRAM, b"y,,", b"")
OURS, THEIRS = b"client/Nonce+18bytes", b"server/Nonce+18bytes"
PLACEHOLDERS = [b"pg_" + bytes([letter]) * 24 for letter in b"ABC"]
ASCII = st.binary(min_size=1, max_size=40).map(lambda raw: base64.b85encode(raw))


def login(
    password: bytes, candidates: Sequence[bytes], choice: Choice = PLAIN, iterations: int = 2
) -> tuple[int, ScramClient]:
    server = ScramServer(candidates, Salted(b"salt" * 4), THEIRS, iterations)
    client = ScramClient(choice, Secret(password), Salted(b"-"), OURS)
    index, answer = server.final(client.reply(server.first(client.first())))
    assert not client.proved
    client.check(answer)
    return index, client


# ---- the protocol's own words ----

# RFC 7677 3. Its client names a user; ours does not.
VECTOR_NONCE, VECTOR_MORE = b"rOprNGfwEbeRWgbNEkqO", b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
VECTOR_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
VECTOR = [
    b"n,,n=user,r=" + VECTOR_NONCE,
    b"r=" + VECTOR_NONCE + VECTOR_MORE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"c=biws,r=" + VECTOR_NONCE + VECTOR_MORE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
]


def test_the_servers_side_of_rfc_7677() -> None:
    server = ScramServer([b"pencils", b"pencil"], Salted(VECTOR_SALT), VECTOR_MORE)
    assert server.first(VECTOR[0]) == VECTOR[1]
    assert server.final(VECTOR[2]) == (1, VECTOR[3])


def test_the_clients_side_of_rfc_7677() -> None:
    client = ScramClient(PLAIN, Secret(b"pencil"), Salted(b"-"), VECTOR_NONCE)
    client._bare = VECTOR[0].removeprefix(b"n,,")
    assert client.first() == VECTOR[0]
    assert client.reply(VECTOR[1]) == VECTOR[2]
    client.check(VECTOR[3])
    assert client.proved


# ---- who is let in ----


@given(st.lists(ASCII, min_size=1, max_size=4, unique=True), st.data())
def test_it_is_known_which_placeholder_it_was(candidates: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(candidates) - 1))
    choice = data.draw(st.sampled_from([PLAIN, COULD_BIND]))
    found, client = login(candidates[index], candidates, choice, data.draw(st.integers(1, 5)))
    assert found == index
    assert client.proved
    assert check_cleartext(candidates, candidates[index]) == index
    assert check_md5(candidates, b"u", SALT4, md5_response(b"u", candidates[index], SALT4)) == index


@given(st.lists(ASCII, max_size=4, unique=True), ASCII)
def test_nobody_else_is_let_in(candidates: list[bytes], password: bytes) -> None:
    candidates = [each for each in candidates if each != password]
    response = md5_response(b"u", password, SALT4)
    for attempt in (
        lambda: login(password, candidates),
        lambda: check_cleartext(candidates, password),
        lambda: check_md5(candidates, b"u", SALT4, response),
    ):
        with pytest.raises(Denied) as denied:
            attempt()
        assert denied.value.rule == "password-not-placeholder"
        assert denied.value.ask


def test_a_placeholder_minted_in_the_meantime_can_be_tried_with_the_same_proof() -> None:
    server = ScramServer(PLACEHOLDERS[:2], Salted(b"salt"), THEIRS)
    client = ScramClient(PLAIN, Secret(PLACEHOLDERS[2]), Salted(b"-"), OURS)
    with pytest.raises(InternalError):
        server.again(PLACEHOLDERS)
    reply = client.reply(server.first(client.first()))
    with pytest.raises(Denied):
        server.final(reply)
    index, answer = server.again(PLACEHOLDERS)
    assert index == 2
    client.check(answer)


def test_md5_is_for_one_user_and_one_salt() -> None:
    response = md5_response(b"u", PLACEHOLDERS[0], SALT4)
    for user, salt in ((b"v", SALT4), (b"u", b"\0\0\0\0")):
        with pytest.raises(Denied):
            check_md5(PLACEHOLDERS, user, salt, response)


@pytest.mark.parametrize("index", [0, 1, 2, None])
def test_all_candidates_are_compared_whichever_it_is(index: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]
    real = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        count[0] += 1
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    password = b"wrong" if index is None else PLACEHOLDERS[index]
    for attempt in (
        lambda: login(password, PLACEHOLDERS),
        lambda: check_cleartext(PLACEHOLDERS, password),
        lambda: check_md5(PLACEHOLDERS, b"u", SALT4, md5_response(b"u", password, SALT4)),
    ):
        count[0] = 0
        try:
            attempt()
        except Denied:
            assert index is None
        assert count[0] - 3 in (0, 1)  # the client compares once, too


# ---- a hostile agent ----


def proof_for(server_first: bytes, first: bytes, password: bytes) -> bytes:
    """client-final-message by RFC 5802 3, whatever client-first was."""
    header, _, bare = first.partition(b",,")
    nonce, salt, rounds = (field[2:] for field in server_first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(rounds))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without = b"c=" + base64.b64encode(header + b",,") + b",r=" + nonce
    stored = hashlib.sha256(client_key).digest()
    signature = hmac.digest(stored, b",".join((bare, server_first, without)), "sha256")
    return without + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True)))


@pytest.mark.parametrize(
    ("first", "code", "words"),
    [
        (b"", "bad-scram", "malformed"),
        (b"n,", "bad-scram", "malformed"),
        (b"n,,", "bad-scram", "malformed"),
        (b"x,,n=,r=abc", "bad-scram", "malformed"),
        (b"N,,n=,r=abc", "bad-scram", "malformed"),
        (b"n ,,n=,r=abc", "bad-scram", "malformed"),
        (b"n,,r=abc", "bad-scram", "malformed"),
        (b"n,,n=", "bad-scram", "malformed"),
        (b"n,,n=,r=", "bad-scram", "malformed"),
        (b"n,,n=,r=abc,", "bad-scram", "malformed"),
        (b"n,,n=,r=a\x7fbc", "bad-scram", "malformed"),
        (b"n,,n=,r=a bc", "bad-scram", "malformed"),
        (b"n,,n=,r=abc\0", "bad-scram", "malformed"),
        (b"n,,n=\0,r=abc", "bad-scram", "malformed"),
        (b"n,,r=abc,n=", "bad-scram", "malformed"),
        (b"n,,n=,r=abc,r=def", "bad-scram", "malformed"),
        (b"n,,n=,r=abc,x", "bad-scram", "malformed"),
        (b"n,,n=,r=abc,m=x", "bad-scram", "malformed"),
        (b"n,,n=,r=" + b"a" * 1024, "bad-scram", "malformed"),
        (b"n,,m=x,n=,r=abc", "bad-scram", "requires"),
        (b"n,a=me,n=,r=abc", "bad-scram", "identity"),
        (b"n,a=,n=,r=abc", "bad-scram", "identity"),
        (b"p=tls-server-end-point,,n=,r=abc", "channel-binding", "channel_binding=prefer"),
        (b"p=tls-exporter,a=x,m=", "channel-binding", "channel_binding=prefer"),
        (b"p=,,n=,r=abc", "bad-scram", "malformed"),
    ],
)
def test_a_first_message_that_is_refused(first: bytes, code: str, words: str) -> None:
    with pytest.raises(PeerError, match=words) as refused:
        ScramServer(PLACEHOLDERS, Salted(b"salt"), THEIRS).first(first)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "first",
    [
        b"n,,n=,r=x",
        b"y,,n=,r=x",
        b"n,,n=*,r=x",
        b"n,,n=o=2Cc=3Dd,r=x",
        b"n,,n=a=b,r=x",
        "n,,n=ü,r=!~".encode(),
        b"n,,n=,r=x,t=1,X=y=z",
        b"n,,n=,r=" + b"a" * 900,
    ],
)
def test_a_first_message_that_is_taken(first: bytes) -> None:
    server = ScramServer(PLACEHOLDERS, Salted(b"salt"), THEIRS, 1)
    assert server.final(proof_for(server.first(first), first, PLACEHOLDERS[1]))[0] == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"c=biws", b"c=eSws", "binding"),  # "y,,"
        (b"c=biws", b"c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsMTIzNA==", "binding"),
        (b"c=biws", b"c=biwt", "binding"),
        (b"c=biws", b"c=", "malformed"),
        (b"c=biws,", b"", "malformed"),
        (b"c=biws,", b"c=biws,m=x,", "malformed"),
        (b"c=biws", b"m=x,c=biws", "malformed"),
        (b"r=client", b"r=Client", "nonce"),
        (OURS + THEIRS, OURS, "nonce"),
        (OURS + THEIRS, OURS + THEIRS + b"x", "nonce"),
        (THEIRS, b"another", "nonce"),
        (b",p=", b",p=A", "malformed"),
        (b",p=", b",p=AAAA", "malformed"),  # 35 bytes
        (b",p=", b",p=,p=", "malformed"),
        (b",p=", b",p=AAAA,p=", "malformed"),
        (b",p=", b",P=", "malformed"),
        (b",p=", b",p= ", "malformed"),
        (b",p=", b",p=\n", "malformed"),
        (b",p=", b",r=x,p=", "malformed"),
        (b",p=", b",x=" + b"y" * 1024 + b",p=", "malformed"),
    ],
)
def test_a_final_message_that_is_refused(old: bytes, new: bytes, words: str) -> None:
    server = ScramServer(PLACEHOLDERS, Salted(b"salt"), THEIRS, 1)
    client = ScramClient(PLAIN, Secret(PLACEHOLDERS[0]), Salted(b"-"), OURS)
    good = client.reply(server.first(client.first()))
    bad = good.replace(old, new)
    assert bad != good
    with pytest.raises(PeerError, match=words) as refused:
        server.final(bad)
    assert refused.value.code == "bad-scram"


def test_bits_behind_the_end_of_a_proof_are_refused() -> None:
    server = ScramServer(PLACEHOLDERS, Salted(b"salt"), THEIRS, 1)
    server.first(b"n,,n=,r=x")
    with pytest.raises(PeerError, match="malformed"):
        server.final(b"c=biws,r=x" + THEIRS + b",p=" + b"A" * 42 + b"B=")


@given(st.data())
def test_no_other_byte_anywhere_is_let_in(data: st.DataObject) -> None:
    """Both ways: a changed message from the agent, or one from the server on the way to our client."""
    which = data.draw(st.integers(0, 3))

    def pass_on(number: int, message: bytes) -> bytes:
        if number != which:
            return message
        at = data.draw(st.integers(0, len(message) - 1))
        piece = data.draw(st.binary(max_size=2).filter(lambda new: new != message[at : at + 1]))
        return message[:at] + piece + message[at + 1 :]

    server = ScramServer(PLACEHOLDERS, Salted(b"salt"), THEIRS, 1)
    client = ScramClient(PLAIN, Secret(PLACEHOLDERS[0]), Salted(b"-"), OURS)

    def log_in() -> None:
        final = client.reply(pass_on(1, server.first(pass_on(0, client.first()))))
        client.check(pass_on(3, server.final(pass_on(2, final))[1]))

    with pytest.raises((PeerError, Denied, EnvironmentFailed)):
        log_in()
    assert not client.proved


def test_a_server_is_used_in_order_and_once() -> None:
    server = ScramServer(PLACEHOLDERS, Salted(b"salt"), THEIRS, 1)
    with pytest.raises(InternalError):
        server.final(b"c=biws")
    first = b"n,,n=,r=x"
    final = proof_for(server.first(first), first, PLACEHOLDERS[1])
    with pytest.raises(InternalError):
        server.first(first)
    server.final(final)
    with pytest.raises(InternalError):
        server.final(final)


# ---- a hostile server ----


def asked(choice: Choice = PLAIN, password: bytes = b"real") -> ScramClient:
    client = ScramClient(choice, Secret(password), Salted(b"-"), OURS)
    client.first()
    return client


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "malformed"),
        (b"m=x,r=" + OURS + b"x,s=AAAA,i=1", "requires"),
        (b"r=" + OURS + b",s=AAAA,i=1", "adds nothing"),
        (b"r=x" + OURS + b",s=AAAA,i=1", "begin with ours"),
        (b"r=x,s=AAAA,i=1", "begin with ours"),
        (b"r=" + OURS + b"x,s=,i=1", "malformed"),
        (b"r=" + OURS + b"x,s=AAA,i=1", "malformed"),
        (b"r=" + OURS + b"x,s=A*AA,i=1", "malformed"),
        (b"r=" + OURS + b"x,s=AAAA,i=0", "malformed"),
        (b"r=" + OURS + b"x,s=AAAA,i=01", "malformed"),
        (b"r=" + OURS + b"x,s=AAAA,i=-1", "malformed"),
        (b"r=" + OURS + b"x,s=AAAA,i=", "malformed"),
        (b"r=" + OURS + b"x,s=AAAA,i=1,x=y", "malformed"),
        (b"s=AAAA,r=" + OURS + b"x,i=1", "malformed"),
        (b"r=" + OURS + b"x,s=" + b"AAAA" * 1100 + b",i=1", "malformed"),
        (b"e=other-error", "malformed"),
    ],
)
def test_a_servers_first_message_that_is_refused(message: bytes, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        asked().reply(message)


def test_a_server_cannot_make_us_compute_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def derive(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
        done.append(rounds)
        return b"k" * 32

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", derive)
    for rounds in (MOST_ITERATIONS + 1, 2**31, 9_999_999_999):
        with pytest.raises(EnvironmentFailed, match=str(rounds)):
            asked().reply(b"r=%bx,s=AAAA,i=%d" % (OURS, rounds))
    assert done == []
    asked().reply(b"r=%bx,s=AAAA,i=%d" % (OURS, MOST_ITERATIONS))
    assert done == [MOST_ITERATIONS]


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    """It takes any proof, and answers with one for another password, with one of the same form, or with none."""
    impostor = ScramServer([b"guess"], Salted(b"salt"), THEIRS, 1)
    for answer in (b"v=" + base64.b64encode(b"\0" * 32), b"v=" + base64.b64encode(b"\0"), b"v=", b"", b"v=*", b"ok"):
        client = ScramClient(PLAIN, Secret(b"real"), Salted(b"-"), OURS)
        client.reply(ScramServer([b"guess"], Salted(b"salt"), THEIRS, 1).first(client.first()))
        with pytest.raises(PeerError, match=r"proof is wrong|malformed"):
            client.check(answer)
        assert not client.proved
    client = ScramClient(PLAIN, Secret(b"real"), Salted(b"-"), OURS)
    first = client.first()
    client.reply(server_first := impostor.first(first))
    _, guessed = impostor.final(proof_for(server_first, first, b"guess"))
    with pytest.raises(PeerError, match="proof is wrong"):
        client.check(guessed)


def test_a_server_that_refuses_says_so() -> None:
    client = asked()
    client.reply(b"r=" + OURS + b"x,s=AAAA,i=1")
    with pytest.raises(EnvironmentFailed, match="does not accept"):
        client.check(b"e=invalid-proof")


def test_a_server_that_skips_steps_has_proved_nothing() -> None:
    client = ScramClient(PLAIN, Secret(b"real"), Salted(b"-"), OURS)
    for step in (lambda: client.reply(b"r=x"), lambda: client.check(b"v=" + b"A" * 43 + b"=")):
        with pytest.raises(InternalError):
            step()
    client.first()
    with pytest.raises(InternalError):
        client.check(b"v=")
    client.reply(b"r=" + OURS + b"x,s=AAAA,i=1")
    assert not client.proved


# ---- channel binding ----


@pytest.mark.parametrize(
    ("offered", "accepted", "bound", "expected"),
    [
        ("both", "both", True, (SCRAM_PLUS, b"p=tls-server-end-point,,")),
        ("both", "plus", True, (SCRAM_PLUS, b"p=tls-server-end-point,,")),
        ("plus", "both", True, (SCRAM_PLUS, b"p=tls-server-end-point,,")),
        ("plain", "both", True, (SCRAM, b"y,,")),
        ("both", "plain", True, (SCRAM, b"n,,")),
        ("plain", "plain", True, (SCRAM, b"n,,")),
        ("both", "both", False, (SCRAM, b"n,,")),
        ("plain", "both", False, (SCRAM, b"n,,")),
        ("plain", "plus", True, None),
        ("both", "plus", False, None),
        ("plus", "plain", True, None),
        ("plus", "both", False, None),
        ("none", "both", True, None),
        ("both", "none", True, None),
    ],
)
def test_the_strongest_mechanism(offered: str, accepted: str, bound: bool, expected: tuple[str, bytes] | None) -> None:
    names = {"both": [SCRAM_PLUS, SCRAM], "plus": [SCRAM_PLUS], "plain": [SCRAM, "OTHER"], "none": ["OTHER"]}
    binding = b"digest" if bound else b""
    by_plan = [name.lower() for name in names[accepted]]
    if expected is None:
        with pytest.raises(EnvironmentFailed):
            choose(names[offered], by_plan, binding)
    else:
        choice = choose(names[offered], by_plan, binding)
        assert choice == (*expected, binding if expected[0] == SCRAM_PLUS else b"")


def test_the_binding_is_in_what_is_proved() -> None:
    choice = choose([SCRAM_PLUS], ["scram-sha-256-plus"], b"\0hash\xff")
    client = asked(choice)
    final = client.reply(b"r=" + OURS + b"x,s=AAAA,i=1")
    sent = final.split(b",")[0].removeprefix(b"c=")
    assert base64.b64decode(sent) == b"p=tls-server-end-point,,\0hash\xff"
    other = asked(choice._replace(binding=b"\0hash\xfe")).reply(b"r=" + OURS + b"x,s=AAAA,i=1")
    assert final.split(b",p=")[1] != other.split(b",p=")[1]


def certificate(folder: Path, *options: str) -> tuple[Path, bytes]:
    """A self-signed one, made by OpenSSL: (PEM file with the key, DER)."""
    pem, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=server", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    der = ssl.PEM_cert_to_DER_cert(pem.read_text())
    pem.write_text(pem.read_text() + key.read_text())
    return pem, der


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")
PSS = ("-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((*RSA, "-sha256"), "sha256"),
        ((*RSA, "-sha384"), "sha384"),
        ((*RSA, "-sha512"), "sha512"),
        ((*RSA, "-sha1"), "sha256"),
        ((*RSA, "-md5"), "sha256"),
        ((*EC, "-sha256"), "sha256"),
        ((*EC, "-sha384"), "sha384"),
        ((*EC, "-sha224"), "sha224"),
        ((*PSS, "-sha384"), "sha384"),
        ((*PSS, "-sha1"), "sha256"),
        (("-newkey", "ed25519"), None),
        (("-newkey", "ed448"), None),
    ],
)
def test_the_end_point_is_hashed_as_its_signature(
    options: tuple[str, ...], expected: str | None, tmp_path: Path
) -> None:
    _, der = certificate(tmp_path, *options)
    assert end_point(der) == (hashlib.new(expected, der).digest() if expected else b"")


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"x" * 300])
def test_what_is_no_certificate_has_no_end_point(der: bytes) -> None:
    with pytest.raises(PeerError):
        end_point(der)


def test_a_certificate_that_is_cut_has_no_end_point(tmp_path: Path) -> None:
    _, der = certificate(tmp_path, *EC)
    for length in range(0, len(der), 7):
        with pytest.raises(PeerError):
            end_point(der[:length])


# ---- passwords ----


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("I\u00adX", "IX"),  # RFC 4013 3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u0007é", "a\u0007é"),  # prohibited: as it is
        ("\u0627\u0031", "\u0627\u0031"),  # breaks the rule for two directions: as it is
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("a\u0007", "a\u0007"),
        ("x\u00a0y", "x y"),
        ("x\u200by", "x y"),  # in both tables: a space
        ("x\u1806y", "xy"),
        ("\u00ad", "\u00ad"),  # nothing would be left
        ("\u0221", "\u0221"),  # unassigned in Unicode 3.2
        ("\u1e9b\u0323", "\u1e69"),
        ("e\u0301", "é"),
        ("", ""),
    ],
)
def test_passwords_are_prepared(password: str, expected: str) -> None:
    assert prepare(password.encode()) == expected.encode()


def test_what_is_no_utf8_is_taken_as_it_is() -> None:
    assert prepare(b"\xff\xfe") == b"\xff\xfe"
    assert login(b"\xff\xfe", [b"\xff\xfe"])[0] == 0


LIBPQ = psycopg.pq.PGconn.connect_start(b"host=/nonexistent")  # to compute with; it connects to nothing
TOUCHY = [range(0xA0, 0x250), range(0x300, 0x370), range(0x5D0, 0x700), range(0x1800, 0x1810), range(0x1E00, 0x2070)]
TOUCHY += [range(0x2FF0, 0x3010), range(0xAC00, 0xAC40), range(0xE000, 0xE010), range(0xFB00, 0xFE10)]
TOUCHY_TEXT = st.text(
    st.sampled_from(TOUCHY).flatmap(lambda block: st.integers(block[0], block[-1])).map(chr)
    | st.characters(codec="utf8"),
    min_size=1,
    max_size=4,
)


@given(TOUCHY_TEXT.filter(lambda text: "\0" not in text))
def test_passwords_are_prepared_as_libpq_does_it(password: str) -> None:
    """By what it would store for a new password: SCRAM-SHA-256$rounds:salt$StoredKey:ServerKey."""
    stored = LIBPQ.encrypt_password(password.encode(), b"u", b"scram-sha-256")
    _, rounds, salt, stored_key, server_key = re.split(rb"[$:]", stored)
    keys = Salted(b"-").keys(prepare(password.encode()), base64.b64decode(salt), int(rounds))
    assert (base64.b64encode(keys.stored), base64.b64encode(keys.server)) == (stored_key, server_key)


def test_the_real_password_is_prepared_and_a_placeholder_needs_not() -> None:
    assert login("I\u00adX".encode(), [b"IX"])[0] == 0


# ---- what it costs ----


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes, int]]:
    done: list[tuple[bytes, bytes, int]] = []
    real = hashlib.pbkdf2_hmac

    def counted(name: str, password: bytes, salt: bytes, rounds: int) -> bytes:
        done.append((password, salt, rounds))
        return real(name, password, salt, rounds)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", counted)
    return done


def test_a_password_is_derived_once_for_a_salt(derived: list[tuple[bytes, bytes, int]]) -> None:
    agents, servers = Salted(b"salt"), Salted(b"-")
    for number in range(5):
        server = ScramServer(PLACEHOLDERS, agents, b"%d" % number, 3)
        client = ScramClient(PLAIN, Secret(PLACEHOLDERS[number % 3]), servers, OURS)
        server.final(client.reply(server.first(client.first())))
    assert len(derived) == 3 + 3
    assert len(set(derived)) == 3
    assert servers.keys(b"a", b"s", 1) is servers.keys(b"a", b"s", 1)
    same = [servers.keys(*each).stored for each in ((b"a", b"s", 1), (b"b", b"s", 1), (b"a", b"t", 1), (b"a", b"s", 2))]
    assert len(set(same)) == 4


def test_a_server_with_ever_new_salts_fills_no_memory(derived: list[tuple[bytes, bytes, int]]) -> None:
    salted = Salted(b"-")
    for number in range(1000):
        salted.keys(b"password", b"%d" % number, 1)
    assert len(salted._keys) == handshakes._MOST_KEPT
    salted.keys(b"password", b"999", 1)
    assert len(derived) == 1000


# ---- what is never told ----

CANARY = b"canary-3f9a1c7e5b"


def everything_about(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error.__dict__)


def test_no_repr_and_no_error_tells_a_password() -> None:
    salted = Salted(b"salt")
    server = ScramServer([CANARY], salted, THEIRS, 1)
    client = ScramClient(PLAIN, Secret(CANARY), salted, OURS)
    told = []
    server_first = server.first(client.first())
    final = client.reply(server_first)
    keys = salted.keys(CANARY, b"salt", 1)
    told += [repr(each) for each in (server, client, salted, keys)] + [str(client), f"{server}"]
    for attempt in (
        lambda: server.final(final[:-5] + b"AAAA="),
        lambda: server.again([CANARY + b"x"]),
        lambda: client.check(b"v=" + b"A" * 43 + b"="),
        lambda: asked(password=CANARY).reply(b"r=" + CANARY),
        lambda: asked(password=CANARY).reply(b"r=%bx,s=AAAA,i=9999999" % OURS),
        lambda: check_cleartext([CANARY], b"x"),
        lambda: check_cleartext([b"x"], CANARY),
        lambda: check_md5([CANARY], b"u", SALT4, b"md5x"),
        lambda: ScramServer([CANARY], salted, b"a,b"),
    ):
        with pytest.raises(CoatcheckError) as raised:
            attempt()
        told.append(everything_about(raised.value))
    for text in told:
        for form in (CANARY.decode(), CANARY.hex(), base64.b64encode(CANARY).decode()):
            assert form not in text.replace('"canary', "")
        for key in (keys.client, keys.stored, keys.server):
            assert repr(key) not in text
            assert key.hex() not in text


@pytest.mark.parametrize("nonce", [b"", b"a,b", b"a b", b"\x7f"])
def test_our_own_mistakes_are_found(nonce: bytes) -> None:
    with pytest.raises(InternalError):
        ScramServer([], Salted(b"salt"), nonce)
    with pytest.raises(InternalError):
        ScramClient(PLAIN, Secret(b"x"), Salted(b"salt"), nonce)
    with pytest.raises(InternalError):
        Salted(b"")
    with pytest.raises(InternalError):
        nonce_of(b"x" * 17)


# ---- real clients ----


def by_libpq(port: int, password: bytes, **options: str) -> None:
    settings = {"sslmode": "disable", "connect_timeout": "20", **options}
    words = " ".join(f"{name}={value}" for name, value in settings.items())
    psycopg.connect(f"host=127.0.0.1 port={port} user=o'Neil=é dbname=d {words}", password=password.decode()).close()


def by_asyncpg(port: int, password: bytes) -> None:
    async def connect() -> None:
        options = {"host": "127.0.0.1", "port": port, "user": "o'Neil=é", "database": "d", "ssl": False}
        (await asyncpg.connect(password=password.decode(), timeout=20, **options)).terminate()

    asyncio.run(connect())


@pytest.mark.parametrize("connect", [by_libpq, by_asyncpg])
@pytest.mark.parametrize("login", ["scram", "md5", "cleartext"])
def test_real_clients_log_in(connect: Callable[[int, bytes], None], login: str) -> None:
    with serving(PLACEHOLDERS, login) as server:
        for password in PLACEHOLDERS:
            connect(server.port, password)
        with pytest.raises((psycopg.OperationalError, asyncpg.InvalidPasswordError), match="placeholder"):
            connect(server.port, b"real")
    assert server.outcomes[:3] == [0, 1, 2]
    assert isinstance(server.outcomes[3], Denied)


def test_libpq_in_tls_says_that_it_could_bind_and_is_let_in(tmp_path: Path) -> None:
    pem, _ = certificate(tmp_path, *EC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with serving(PLACEHOLDERS, "scram", context) as server:
        by_libpq(server.port, PLACEHOLDERS[2], sslmode="require")
        assert server.first.startswith(b"y,,n=,r=")
        with pytest.raises(psycopg.OperationalError, match="channel binding is required"):
            by_libpq(server.port, PLACEHOLDERS[2], sslmode="require", channel_binding="require")
    assert server.outcomes[0] == 2


def test_the_certificate_of_the_end_point_is_read(tmp_path: Path) -> None:
    """That the DER which Python's ssl gives is what `end_point` takes."""
    _, der = certificate(tmp_path, *EC)
    assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == "CN=server"
