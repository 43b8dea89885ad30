"""Signs heads of the audit chain, forwards only: what was signed once cannot be signed otherwise later."""

from __future__ import annotations

import asyncio

from appliance.audit.chain import signed_bytes
from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import Denied, PeerError
from appliance.vault.keys import Keys
from appliance.vault.ledger import HEAD_SIGNED, Change, Ledger


class HeadSigner:
    """Remembers the last head across restarts: it is on the disk before its signature is given out."""

    def __init__(self, keys: Keys, ledger: Ledger) -> None:
        self._keys = keys
        self._ledger = ledger
        self._last = ledger.last_head()
        self._turn = asyncio.Lock()

    @property
    def last(self) -> SignedHead | None:
        """The head that was signed last."""
        return self._last

    async def sign(self, head: Head) -> SignedHead:
        """The signature of a head that continues the last one; asked for the same again, the same answer.

        Raises PeerError if it is no head, Denied("audit-rollback") for a lower sequence, Denied("audit-fork") for
        the same sequence with another hash, EnvironmentFailed if it cannot be kept.
        """
        if head.sequence < 0 or head.sequence >> 63:
            raise PeerError("head", "a sequence is between 0 and 2^63 - 1")
        try:
            message = signed_bytes(head)
        except ValueError as error:
            raise PeerError("head", str(error)) from None
        async with self._turn:
            last = self._last
            if last is not None and head.sequence < last.head.sequence:
                raise Denied(
                    "audit-rollback",
                    f"sequence {head.sequence} is before {last.head.sequence}, which was signed already: the audit "
                    "log was cut or rolled back",
                )
            if last is not None and head.sequence == last.head.sequence:
                if head.hash != last.head.hash:
                    raise Denied("audit-fork", f"sequence {head.sequence} was signed with another hash already")
                return last
            signed = SignedHead(head, self._keys.audit_key_id, self._keys.sign_audit(message))
            values = (head.sequence, head.hash, head.time, signed.key_id, signed.signature)
            await self._ledger.write([Change(HEAD_SIGNED, values)])
            self._last = signed
            return signed
