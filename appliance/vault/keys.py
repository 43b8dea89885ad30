"""The two Ed25519 keys: one signs identity tokens, one signs heads of the audit chain. Neither signs for the other.

The identity key is made anew when it is `IDENTITY_LIFE` old at a start; its public half stays known until every
token that it signed has run out. The audit key stays: whoever verifies an old log needs the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from msgspec import Struct

from appliance.identity.tokens import jwk, key_id_of
from appliance.model.errors import EnvironmentFailed
from appliance.vault.private_files import read_private, write_private

IDENTITY_LIFE = 90 * 86400.0  # seconds
_IDENTITY_FILE = "identity-key.json"
_AUDIT_FILE = "audit-key.json"


class _KeyFile(Struct, forbid_unknown_fields=True):
    """What stands on disk. `previous` is the public half of the key before, hex, believed until `previous_until`."""

    pem: str
    made: float
    previous: str = ""
    previous_until: float = 0.0

    def __repr__(self) -> str:
        return "_KeyFile(…)"


class Keys:
    """`state` is the vault's own folder, `now` is seconds since the epoch, `believed` how many seconds after its
    last signature a retired identity key still verifies.

    Raises EnvironmentFailed if a key file cannot be read, written or trusted.
    """

    def __init__(self, state: Path, now: Callable[[], float], believed: float) -> None:
        self._state = state
        self._now = now
        self._believed = believed
        self._identity_file = self._load(_IDENTITY_FILE)
        if self._identity_file.made + IDENTITY_LIFE <= now():
            self.rotate_identity()
        self._audit_key = _private(self._load(_AUDIT_FILE))
        self.audit_key_id = key_id_of(self._audit_key.public_key())
        self._identity_key = _private(self._identity_file)
        self.identity_key_id = key_id_of(self._identity_key.public_key())

    @property
    def identity_key(self) -> Ed25519PrivateKey:
        return self._identity_key

    def rotate_identity(self) -> None:
        """A new identity key from now on. Raises EnvironmentFailed; the old one stays in use then."""
        now = self._now()
        retired = _private(self._identity_file).public_key()
        fresh = _fresh(now)
        fresh.previous = retired.public_bytes_raw().hex()
        fresh.previous_until = now + self._believed
        write_private(self._state / _IDENTITY_FILE, msgspec.json.encode(fresh))
        self._identity_file = fresh
        self._identity_key = _private(fresh)
        self.identity_key_id = key_id_of(self._identity_key.public_key())

    def identity_public_keys(self) -> dict[str, Ed25519PublicKey]:
        """The keys that verify identity tokens now, by key id; the one that signs is first."""
        keys = {self.identity_key_id: self._identity_key.public_key()}
        if self._identity_file.previous and self._identity_file.previous_until > self._now():
            previous = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self._identity_file.previous))
            keys[key_id_of(previous)] = previous
        return keys

    def sign_audit(self, message: bytes) -> bytes:
        """The audit key's signature. `message` begins with its domain (`appliance.audit.chain`)."""
        return self._audit_key.sign(message)

    def jwks(self) -> dict[str, Any]:
        """All public keys as a JWK set; `purpose` says which are for what (RFC 7517 section 4 lets us add it)."""
        keys = [jwk(key_id, key) | {"purpose": "identity"} for key_id, key in self.identity_public_keys().items()]
        return {"keys": [*keys, jwk(self.audit_key_id, self._audit_key.public_key()) | {"purpose": "audit"}]}

    def _load(self, name: str) -> _KeyFile:
        path = self._state / name
        content = read_private(path)
        if content is None:
            fresh = _fresh(self._now())
            write_private(path, msgspec.json.encode(fresh))
            return fresh
        try:
            read = msgspec.json.decode(content, type=_KeyFile)
            _private(read)
            bytes.fromhex(read.previous)
        except (msgspec.MsgspecError, ValueError):
            raise EnvironmentFailed("vault-state", f"{path} is damaged; restore it from a backup") from None
        return read


def _fresh(now: float) -> _KeyFile:
    key = Ed25519PrivateKey.generate()
    return _KeyFile(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), now)


def _private(file: _KeyFile) -> Ed25519PrivateKey:
    key = load_pem_private_key(file.pem.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")
    return key
