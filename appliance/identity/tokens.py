"""Identity tokens: claims to a compact JWS (RFC 7515, RFC 7519) and back, and the JWK set that verifies them.

One algorithm (EdDSA over Ed25519, RFC 8037), one type (RFC 8725 section 3.11: a token of ours is never taken for
one of another kind), and a key id that must be known.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.model.errors import Denied
from appliance.model.identity import Claims

ALGORITHM = "EdDSA"
TYPE = "coatcheck+jwt"
MAX_TOKEN = 128 << 10  # characters; the largest real one, with a command line of 16 KiB, stays under half of it
_MOST_AHEAD = 60.0  # seconds that a token may have been issued in the future: a clock that was set back
_REQUIRED = ["iss", "exp", "iat", "jti", "sub", "job"]


def sign(claims: Claims, key: Ed25519PrivateKey, key_id: str) -> str:
    """The compact JWS of `claims`."""
    return jwt.encode(
        msgspec.to_builtins(claims), key, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": key_id}, sort_headers=True
    )


def verify(
    token: str, public_keys: Mapping[str, Ed25519PublicKey], issuer: str, now: float, leeway: float = 0.0
) -> Claims:
    """The claims of a token that is ours and still valid.

    `public_keys` by key id; `now` in seconds since the epoch; a token is taken until `leeway` seconds after its
    end. Raises Denied("token-invalid") or Denied("token-expired").
    """
    if len(token) > MAX_TOKEN:
        raise _invalid("it is too long")
    key = public_keys.get(_key_id(token))
    if key is None:
        raise _invalid("its key is not known")
    try:
        payload = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=issuer,
            options={
                "require": _REQUIRED,
                "verify_exp": False,  # judged below, by our own clock
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
            },
        )
    except jwt.InvalidTokenError as error:
        raise _invalid(f"it cannot be verified ({type(error).__name__})") from None
    try:
        claims = msgspec.convert(payload, Claims, strict=True)
    except msgspec.ValidationError as error:
        raise _invalid(f"its claims are not ours: {error}") from None
    if not (claims.sub and claims.job and claims.jti):
        raise _invalid("a claim is empty")
    if claims.iat > now + _MOST_AHEAD:
        raise _invalid("it is from the future")
    if claims.exp + leeway <= now:
        raise Denied("token-expired", f"the identity token ended {now - claims.exp:.0f} s ago")
    return claims


def _key_id(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        raise _invalid("it is not a JWT") from None
    if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
        raise _invalid(f"it is not of type {TYPE} and algorithm {ALGORITHM}")
    if "crit" in header or "b64" in header:
        raise _invalid("it has a header that we do not know")  # RFC 7515 section 4.1.11
    return str(header.get("kid", ""))


def _invalid(why: str) -> Denied:
    return Denied("token-invalid", f"the identity token is refused: {why}")


def key_id_of(key: Ed25519PublicKey) -> str:
    """The JWK thumbprint of a key (RFC 7638, RFC 8037 appendix A.3)."""
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": _x(key)}, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def jwk(key_id: str, key: Ed25519PublicKey) -> dict[str, str]:
    """One public key as a JWK (RFC 8037 section 2)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": _x(key), "kid": key_id, "alg": ALGORITHM, "use": "sig"}


def jwks(public_keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """The JWK set (RFC 7517 section 5) of public keys by key id."""
    return {"keys": [jwk(key_id, key) for key_id, key in public_keys.items()]}


def _x(key: Ed25519PublicKey) -> str:
    return _base64url(key.public_bytes_raw())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
