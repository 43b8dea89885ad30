"""One lease, ready to swap and to scrub."""

from __future__ import annotations

import os
import ssl

from appliance.model.placeholder import LeasedSecret
from appliance.model.recurring import Recurring
from appliance.placeholders.handshakes import Salted
from appliance.placeholders.scrub import Scrubber
from appliance.placeholders.slots import StrayWatcher, Swapper
from appliance.session.http import Prepared, prepare
from appliance.wire.http1 import RequestHead

_PREPARED_MOST = 256  # field sections
_PREPARED_LARGEST = 4096  # bytes of one


class CompiledLease:
    """What a flow works with."""

    __slots__ = ("_prepared", "_salted", "client_tls", "expires", "scrubber", "secrets", "swapper")

    def __init__(self, secrets: tuple[LeasedSecret, ...], expires: float) -> None:
        self.secrets = secrets
        self.expires = expires
        self.swapper = Swapper(secrets)
        self.scrubber = Scrubber([(s.value, _stand_in(s)) for s in secrets if s.placeholders])
        # With the client certificate that is among the secrets; made, and put here, by who first needs it
        self.client_tls: ssl.SSLContext | None = None
        self._salted: Salted | None = None
        self._prepared: Recurring[tuple[bytes, int, bool], Prepared] = Recurring(_PREPARED_MOST)

    def prepared(self, head: RequestHead, default_port: int, allow_range: bool) -> Prepared:
        """The head's fields with the secrets in their slots; of those that recur it is remembered, as long as the lease
        lasts. Raises PeerError."""
        key = (head.raw, default_port, allow_range)
        known = self._prepared.get(key)
        if known is None:
            known = prepare(
                head, self.swapper, scrubbed=self.scrubber.active, allow_range=allow_range, default_port=default_port
            )
            if head.version and len(head.raw) <= _PREPARED_LARGEST:
                self._prepared.put(key, known)
        return known

    @property
    def salted(self) -> Salted:
        """The keys that logins with these secrets have cost."""
        if self._salted is None:
            self._salted = Salted(os.urandom(16))
        return self._salted

    def watcher(self) -> StrayWatcher:
        """Watches one body for placeholders."""
        return self.swapper.watcher()

    def same_secrets(self, secrets: tuple[LeasedSecret, ...]) -> bool:
        return len(secrets) == len(self.secrets) and all(
            old.name == new.name
            and old.value == new.value
            and old.slots == new.slots
            and old.placeholders == new.placeholders
            for old, new in zip(self.secrets, secrets, strict=True)
        )


def _stand_in(secret: LeasedSecret) -> str:
    """What takes the value's place in what comes back: the job's own placeholder. A value that has changed may be
    longer or shorter than the one that it was made for (cloud tokens are, at each issue): then it is repeated, or cut.
    """
    text, length = secret.placeholders[0].text, len(secret.value.reveal())
    return text if len(text) == length else (text * (length // len(text) + 1))[:length]
