"""Identity tokens: what was signed comes back, and nothing else is believed."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from appliance.identity.tokens import ALGORITHM, TYPE, jwks, key_id_of, sign, verify
from appliance.model.errors import Denied
from appliance.model.identity import Claims
from appliance.model.ids import JobId, PrincipalName
from tests.identity.facts import BASE, facts

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
KID = key_id_of(KEY.public_key())
KEYS = {KID: KEY.public_key()}
NOW = 1_800_000_000
CLAIMS = Claims(
    iss="coatcheck",
    sub=PrincipalName("ci"),
    groups=("builders", "web"),
    job=JobId("j-00112233445566aa"),
    facts=BASE,
    iat=NOW,
    exp=NOW + 300,
    jti="00" * 16,
)


def read(token: str, now: float = NOW + 1, leeway: float = 0.0, issuer: str = "coatcheck") -> Claims:
    return verify(token, KEYS, issuer, now, leeway)


def refused(token: str, **asked: Any) -> str:
    with pytest.raises(Denied) as caught:
        read(token, **asked)
    return caught.value.rule


def forged(
    claims: Any = None, headers: dict[str, Any] | None = None, key: Any = KEY, algorithm: str = ALGORITHM
) -> str:
    payload = msgspec.to_builtins(CLAIMS) if claims is None else claims
    return jwt.encode(payload, key, algorithm=algorithm, headers={"typ": TYPE, "kid": KID} | (headers or {}))


def test_what_was_signed_comes_back() -> None:
    assert read(sign(CLAIMS, KEY, KID)) == CLAIMS


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20),
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4),
)
def test_any_text_in_the_facts_comes_back(label: str, words: list[str]) -> None:
    claims = msgspec.structs.replace(CLAIMS, facts=facts(job_label=label, cmdline=tuple(words)))
    assert read(sign(claims, KEY, KID)) == claims


def test_the_end_is_exact() -> None:
    token = sign(CLAIMS, KEY, KID)
    assert read(token, now=NOW + 299.9)
    assert refused(token, now=NOW + 300) == "token-expired"
    assert read(token, now=NOW + 359.9, leeway=60)
    assert refused(token, now=NOW + 360, leeway=60) == "token-expired"


def test_a_token_from_the_future_is_refused() -> None:
    assert refused(sign(CLAIMS, KEY, KID), now=NOW - 61) == "token-invalid"


@pytest.mark.parametrize("claim", ["iss", "sub", "job", "iat", "exp", "jti", "facts", "groups"])
def test_every_claim_must_be_there(claim: str) -> None:
    payload = msgspec.to_builtins(CLAIMS)
    del payload[claim]
    assert refused(forged(payload)) == "token-invalid"


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "someone"), ("sub", ""), ("job", ""), ("jti", ""), ("exp", "tomorrow"), ("exp", 1e400), ("iat", None),
        ("groups", "root"), ("facts", {}), ("facts", []), ("sub", 5),
    ],
)  # fmt: skip
def test_a_claim_of_another_kind_is_refused(claim: str, value: Any) -> None:
    assert refused(forged(msgspec.to_builtins(CLAIMS) | {claim: value})) == "token-invalid"


@pytest.mark.parametrize(
    "headers",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"kid": "unknown"},
        {"kid": ""},
        {"crit": ["exp"], "exp": 1},
        {"typ": TYPE.upper()},
    ],
)
def test_a_foreign_header_is_refused(headers: dict[str, Any]) -> None:
    assert refused(forged(headers=headers)) == "token-invalid"


def test_another_key_is_refused() -> None:
    assert refused(forged(key=OTHER)) == "token-invalid"


def test_other_algorithms_are_refused() -> None:
    public = KEY.public_key().public_bytes_raw()
    assert refused(forged(key=None, algorithm="none")) == "token-invalid"
    assert refused(forged(key=public + b"\0" * 32, algorithm="HS256")) == "token-invalid"


def test_every_changed_character_is_noticed() -> None:
    token = sign(CLAIMS, KEY, KID)
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert refused(changed) == "token-invalid"


@given(st.text(max_size=60))
def test_garbage_is_refused(text: str) -> None:
    assert refused(text) == "token-invalid"
    assert refused(text + "." + text + ".") == "token-invalid"


def test_a_huge_token_is_refused() -> None:
    assert refused("a" * 200_000) == "token-invalid"


def test_others_can_verify_with_the_jwk_set() -> None:
    """With a JWT library alone, from the published document."""
    published = json.loads(json.dumps(jwks(KEYS)))
    token = sign(CLAIMS, KEY, KID)
    key = jwt.PyJWKSet.from_dict(published)[jwt.get_unverified_header(token)["kid"]]
    payload = jwt.decode(
        token, key, algorithms=["EdDSA"], issuer="coatcheck", options={"verify_exp": False, "verify_iat": False}
    )
    assert (payload["sub"], payload["groups"], payload["facts"]["exe"]) == ("ci", ["builders", "web"], "/usr/bin/curl")


def test_the_thumbprint_of_rfc_8037() -> None:
    """RFC 8037, appendices A.2 and A.3."""
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    private = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = Ed25519PrivateKey.from_private_bytes(private).public_key()
    assert key_id_of(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert jwks({"k": key})["keys"][0]["x"] == x


def test_a_private_key_is_never_in_the_jwk_set() -> None:
    raw = KEY.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    assert base64.urlsafe_b64encode(raw).rstrip(b"=").decode() not in json.dumps(jwks(KEYS))
    assert set(jwks(KEYS)["keys"][0]) == {"kty", "crv", "x", "kid", "alg", "use"}
