"""The host's certificate authority: made at the first start, and the leaves that it signs.

The CA's key never leaves this process. The leaves share one key, made anew at each start: every leaf's key goes
to the same proxy account, so one key each would protect nothing and cost more.

An authority near its end has its successor made well before, which jobs trust from then on, and which signs once
the old one is close to its end: jobs that started in between notice nothing.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from appliance.config.schema import Tls
from appliance.ipc.messages import Leaf
from appliance.model.errors import Denied, EnvironmentFailed
from appliance.vault.certificates import make_ca, make_leaf, utc
from appliance.vault.private_files import read_private, sync_folder, write_private

DAY = 86400.0
SUCCESSOR_BEFORE = 60 * DAY  # seconds before the CA's end that its successor is made and trusted
PROMOTE_BEFORE = 30 * DAY  # … that the successor begins to sign
_MINTS_PER_SECOND = 100.0  # about 1 % of a CPU
_MINTS_AT_ONCE = 500.0
_FILE = "ca.pem"  # certificate and key, so that one rename changes both
_NEXT_FILE = "ca-next.pem"


class _Pair(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "_Pair(…)"

    @property
    def ends(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()


class Authority:
    """Signs for the host. `now` is seconds since the epoch; `state` is the vault's own folder.

    Raises EnvironmentFailed if its files cannot be read, written or trusted: nothing is made anew in the place
    of a file that is there.
    """

    def __init__(self, state: Path, tls: Tls, now: Callable[[], float], host: str | None = None) -> None:
        self._state = state
        self._now = now
        self._host = host or socket.gethostname() or "localhost"
        self._life = tls.leaf_life
        self._most = tls.leaf_cache
        self._leaves: OrderedDict[str, tuple[Leaf, float]] = OrderedDict()  # with the time of its renewal
        self._tokens = _MINTS_AT_ONCE
        self._filled = now()
        self.minted = 0  # leaves signed since the start
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_public = leaf_key.public_key()
        self._leaf_pem = _key_pem(leaf_key).decode()
        self._ca = self._load(_FILE) or self._make(_FILE)
        self._next: _Pair | None = self._load(_NEXT_FILE)
        self.renew()

    @property
    def not_after(self) -> float:
        """When the last authority that jobs trust ends, seconds since the epoch."""
        return self._next.ends if self._next is not None else self._ca.ends

    @property
    def leaves(self) -> int:
        """Leaves in the cache."""
        return len(self._leaves)

    def pem(self) -> str:
        """The certificates that jobs trust: ours, and its successor's once there is one."""
        trusted = [self._ca] if self._next is None else [self._ca, self._next]
        return "".join(pair.certificate.public_bytes(Encoding.PEM).decode() for pair in trusted)

    def renew(self) -> bool:
        """Makes or promotes the successor when its time has come; True if what jobs trust has changed."""
        left = self._ca.ends - self._now()
        if left > SUCCESSOR_BEFORE:
            return False
        changed = self._next is None
        successor = self._next or self._make(_NEXT_FILE)
        if left <= PROMOTE_BEFORE:
            self._rename_next()
            self._ca, self._next = successor, None
            self._leaves.clear()
            return True
        self._next = successor
        return changed

    def leaf(self, host: str) -> Leaf:
        """A leaf for a canonical name or an address literal, with at least half of its life left.

        Raises PeerError if `host` is neither, Denied("leaf-rate") if too many new ones are asked for.
        """
        now = self._now()
        held = self._leaves.get(host)
        if held is not None and held[1] > now:
            self._leaves.move_to_end(host)
            return held[0]
        self._take_token(now)
        if self._ca.ends <= now:
            raise EnvironmentFailed("ca-expired", "the host's authority has expired; restart the vault to renew it")
        certificate = make_leaf(
            host, self._leaf_public, self._ca.certificate, self._ca.key, utc(now), timedelta(seconds=self._life)
        )
        ends = certificate.not_valid_after_utc.timestamp()
        self.minted += 1
        leaf = Leaf(certificate.public_bytes(Encoding.PEM).decode(), self._leaf_pem, ends)
        self._leaves[host] = (leaf, now + (ends - now) / 2)
        self._leaves.move_to_end(host)
        while len(self._leaves) > self._most:
            self._leaves.popitem(last=False)
        return leaf

    def _take_token(self, now: float) -> None:
        passed = max(now - self._filled, 0.0)
        self._tokens = min(self._tokens + passed * _MINTS_PER_SECOND, _MINTS_AT_ONCE)
        self._filled = now
        if self._tokens < 1:
            raise Denied("leaf-rate", f"more than {_MINTS_PER_SECOND:g} new host names a second are asked for")
        self._tokens -= 1

    def _make(self, file: str) -> _Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        pair = _Pair(make_ca(key, self._host, utc(self._now())), key)
        write_private(self._state / file, pair.certificate.public_bytes(Encoding.PEM) + _key_pem(key))
        return pair

    def _load(self, file: str) -> _Pair | None:
        path = self._state / file
        content = read_private(path)
        if content is None:
            return None
        try:
            certificate = x509.load_pem_x509_certificate(content)
            key = load_pem_private_key(content, None)
        except ValueError:
            raise EnvironmentFailed(
                "vault-state",
                f"{path} is damaged; restore it, or remove it to have a new authority made (running jobs will not "
                "trust it)",
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise EnvironmentFailed("vault-state", f"{path}: the key is not the certificate's; restore the file")
        return _Pair(certificate, key)

    def _rename_next(self) -> None:
        try:
            (self._state / _NEXT_FILE).rename(self._state / _FILE)
            sync_folder(self._state)
        except OSError as error:
            raise EnvironmentFailed(
                "vault-state", f"{self._state / _FILE} cannot be renewed: {error.strerror}"
            ) from None


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
