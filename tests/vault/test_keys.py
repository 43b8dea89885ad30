"""The two signing keys: kept, apart, private; and a retired one believed only as long as its tokens live."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest

from appliance.identity.tokens import sign, verify
from appliance.model.errors import Denied, EnvironmentFailed
from appliance.vault.keys import IDENTITY_LIFE, Keys
from tests.identity.test_tokens import CLAIMS
from tests.vault.rig import Clock


def keys(state: Path, clock: Clock) -> Keys:
    return Keys(state, clock.now, 360.0)


def test_keys_are_kept_and_are_two(state: Path, clock: Clock) -> None:
    first, again = keys(state, clock), keys(state, clock)
    assert first.identity_key_id == again.identity_key_id
    assert first.audit_key_id == again.audit_key_id
    assert first.identity_key_id != first.audit_key_id
    assert {file.stat().st_mode & 0o777 for file in state.iterdir()} == {0o600}


def test_the_jwk_set_names_the_purpose_and_holds_no_private_key(state: Path, clock: Clock) -> None:
    made = keys(state, clock)
    published = made.jwks()["keys"]
    assert [(key["purpose"], key["kid"]) for key in published] == [
        ("identity", made.identity_key_id),
        ("audit", made.audit_key_id),
    ]
    assert not any("d" in key for key in published)
    assert jwt.PyJWKSet.from_dict(made.jwks())  # others' libraries take it


def test_the_audit_key_signs_no_tokens(state: Path, clock: Clock) -> None:
    made = keys(state, clock)
    assert made.audit_key_id not in made.identity_public_keys()


def test_a_key_is_made_anew_when_it_is_old_and_believed_until_its_tokens_ended(state: Path, clock: Clock) -> None:
    old = keys(state, clock)
    clock.move(IDENTITY_LIFE)
    token = sign(CLAIMS, old.identity_key, old.identity_key_id)
    new = keys(state, clock)
    assert new.identity_key_id != old.identity_key_id
    assert new.audit_key_id == old.audit_key_id
    assert set(new.identity_public_keys()) == {new.identity_key_id, old.identity_key_id}
    assert verify(token, new.identity_public_keys(), "coatcheck", CLAIMS.iat) == CLAIMS
    assert set(keys(state, clock).identity_public_keys()) == {new.identity_key_id, old.identity_key_id}
    clock.move(360)
    assert set(new.identity_public_keys()) == {new.identity_key_id}
    with pytest.raises(Denied):
        verify(token, new.identity_public_keys(), "coatcheck", CLAIMS.iat)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"pem": "x", "made": 1}', '{"made": 1.0}'])
def test_a_damaged_key_is_not_replaced(state: Path, clock: Clock, content: str) -> None:
    keys(state, clock)
    for name in ("identity-key.json", "audit-key.json"):
        kept = (state / name).read_text()
        (state / name).write_text(content)
        with pytest.raises(EnvironmentFailed, match=f"{name} is damaged; restore it"):
            keys(state, clock)
        (state / name).write_text(kept)


def test_a_key_of_another_kind_is_refused_without_being_shown(state: Path, clock: Clock) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    keys(state, clock)
    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (state / "audit-key.json").write_text(json.dumps({"pem": pem, "made": 1.0}))
    with pytest.raises(EnvironmentFailed) as caught:
        keys(state, clock)
    assert pem.splitlines()[1] not in str(caught.value)
