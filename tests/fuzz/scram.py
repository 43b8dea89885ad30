"""SCRAM towards the agent: whatever opening is taken, who knows a placeholder gets in with it, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random

from appliance.model.errors import Denied, PeerError
from appliance.placeholders.handshakes import Salted, ScramServer
from tests.fuzz.runner import Harness, main

PLACEHOLDERS = [b"pg_AAAAAAAAAAAAAAAAAAAAAAAA", b"pg_BBBBBBBBBBBBBBBBBBBBBBBB"]
NONCE = b"server/Nonce"
SALTED = Salted(b"salt")
KEYS = [SALTED.keys(each, SALTED.salt, 1) for each in PLACEHOLDERS]
FIRST = b"n,,n=,r=client/Nonce"
FINAL = b"c=biws,r=client/Nonceserver/Nonce"


def check(data: bytes, chance: random.Random) -> None:
    """`data` is both messages of a client; the proof is made anew, so that not every mutant falls at the last step."""
    first, _, final = data.partition(b"\n")
    server = ScramServer(PLACEHOLDERS, SALTED, NONCE, 1)
    server_first = server.first(first)
    header, _, bare = first.partition(b",,")
    good = b"c=" + base64.b64encode(header + b",,") + b",r=" + server_first[2:].partition(b",")[0]
    if chance.random() < 0.5:
        final = good
    knows = chance.randrange(len(KEYS))
    key = KEYS[knows]
    signature = hmac.digest(key.stored, b",".join((bare, server_first, final)), "sha256")
    proof = bytes(a ^ b for a, b in zip(key.client, signature, strict=True))
    if hashlib.sha256(key.client).digest() != key.stored:
        raise AssertionError("the keys do not belong together")
    spoilt = chance.random() < 0.3
    if spoilt:
        proof = bytes((proof[0] ^ 1,)) + proof[1:]
    try:
        index, _ = server.final(final + b",p=" + base64.b64encode(proof))
    except Denied:
        if not spoilt:
            raise AssertionError("the right proof was refused") from None
        return
    except PeerError:
        if final == good and len(good) < 900:
            raise AssertionError("the right answer was malformed") from None
        return
    if spoilt or index != knows or not final.startswith(good):
        raise AssertionError("the wrong one was let in")


HARNESS = Harness(
    "scram",
    [FIRST + b"\n" + FINAL, FIRST.replace(b"n,,", b"y,,") + b",x=1\n" + FINAL.replace(b"biws", b"eSws") + b",y=2"],
    [*(b",", b"=", b"n=", b"r=", b"p=", b"m=x,", b"c=", b"a=x", b",t=x", b"\0", b"\xff", b"\x7f", b" ", b"p=x", b"y")],
    check,
)

if __name__ == "__main__":
    main(HARNESS)
