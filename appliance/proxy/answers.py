"""Which name gave which addresses, per job: what a connection's address is held against."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

FLOOR: Final = 60.0  # seconds that a name is kept at least: clients use an address a little longer than its TTL
PAIRS: Final = 4096  # (name, address) of one job
JOBS: Final = 4096


@lru_cache(maxsize=4096)
def plain(address: str) -> str:
    """An address in one form: compressed, v4-mapped as IPv4. Raises ValueError."""
    found = ip_address(address)
    if found.version == 6 and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)


def _nothing() -> None:
    """No one else answers."""


class Answers:
    """Bounded: of each job the latest 4096 pairs, of all jobs the latest 4096. `clock`: seconds, monotonic. `catch_up`
    puts what others have answered meanwhile; it is called before an answer is said to be missing."""

    def __init__(self, clock: Callable[[], float], catch_up: Callable[[], None] = _nothing) -> None:
        self._clock = clock
        self._catch_up = catch_up
        self._jobs: OrderedDict[str, OrderedDict[tuple[str, str], float]] = OrderedDict()

    def put(self, job: str, name: str, address: str, ttl: float) -> None:
        """`name` (canonical) was answered to `job` with `address`, for `ttl` seconds."""
        pairs = self._jobs.setdefault(job, OrderedDict())
        self._jobs.move_to_end(job)
        if len(self._jobs) > JOBS:
            self._jobs.popitem(last=False)
        key = (name, plain(address))
        pairs[key] = max(pairs.get(key, 0.0), self._clock() + max(ttl, FLOOR))
        pairs.move_to_end(key)
        if len(pairs) > PAIRS:
            pairs.popitem(last=False)

    def gave(self, job: str, name: str, address: str) -> bool:
        """Whether `name` was answered to `job` with `address`, and that still holds."""
        if self._gave(job, name, address):
            return True
        self._catch_up()
        return self._gave(job, name, address)

    def _gave(self, job: str, name: str, address: str) -> bool:
        pairs = self._jobs.get(job)
        return pairs is not None and pairs.get((name, plain(address)), 0.0) > self._clock()

    def names_of(self, job: str, address: str) -> tuple[str, ...]:
        """The names that led this job to this address, the latest first."""
        found = self._names_of(job, address)
        if not found:
            self._catch_up()
            found = self._names_of(job, address)
        return found

    def _names_of(self, job: str, address: str) -> tuple[str, ...]:
        wanted, now = plain(address), self._clock()
        pairs = self._jobs.get(job, OrderedDict())
        return tuple(name for (name, found), end in reversed(pairs.items()) if found == wanted and end > now)

    def forget(self, job: str) -> None:
        self._jobs.pop(job, None)
