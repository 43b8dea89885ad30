"""A stand-in for the vault's audit key, with its rule: no sequence twice with another hash, none lower."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.audit.chain import signed_bytes
from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import Denied


class FakeVaultSigner:
    def __init__(self, key_id: str = "audit-1") -> None:
        self._key = Ed25519PrivateKey.generate()
        self.key_id = key_id
        self.last: SignedHead | None = None

    @property
    def keys(self) -> dict[str, Ed25519PublicKey]:
        return {self.key_id: self._key.public_key()}

    def sign_now(self, head: Head) -> SignedHead:
        last = self.last
        if last is not None and (
            head.sequence < last.head.sequence or (head.sequence == last.head.sequence and head.hash != last.head.hash)
        ):
            raise Denied("audit-head", f"sequence {head.sequence} is not after {last.head.sequence}")
        self.last = SignedHead(head, self.key_id, self._key.sign(signed_bytes(head)))
        return self.last

    async def sign(self, head: Head) -> SignedHead:
        return self.sign_now(head)
