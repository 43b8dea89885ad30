"""A secret's value for a time. A value past its life is never used: if there is no new one, there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from appliance.model.errors import EnvironmentFailed
from appliance.model.secret import Secret
from appliance.vault.stores.sources import Store

_RETRY_AFTER = 1.0  # seconds that a failure is answered from memory, so that a dead source is not run into
_EARLY = 5.0  # seconds before its end that a value is fetched anew (at most half of its life)


class Held(NamedTuple):
    value: Secret
    until: float  # `clock()` at which its life ends


class SecretCache:
    """`life` in seconds; `clock` counts seconds and never goes back (time.monotonic)."""

    def __init__(self, store: Store, life: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._life = life
        self._clock = clock
        self._held: Held | None = None
        self._failure: tuple[EnvironmentFailed, float] | None = None
        self._fetching: asyncio.Task[Held] | None = None

    @property
    def problem(self) -> str:
        """What was wrong at the last fetch, or ""."""
        return str(self._failure[0]) if self._failure is not None else ""

    async def get(self) -> Held:
        """The value, with some of its life left. However many ask at once, the source is asked once.

        Raises EnvironmentFailed("secret-unavailable"). A cancelled caller does not stop the fetch of the others.
        """
        held, now = self._held, self._clock()
        if held is not None and held.until - min(_EARLY, self._life / 2) > now:
            return held
        try:
            return await self._fetch()
        except EnvironmentFailed:
            if held is not None and held.until > self._clock():
                return held
            raise

    async def _fetch(self) -> Held:
        if self._fetching is None:
            if self._failure is not None and self._failure[1] > self._clock():
                known = self._failure[0]
                raise EnvironmentFailed(known.code, str(known))
            self._fetching = asyncio.ensure_future(self._fetch_now())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    async def _fetch_now(self) -> Held:
        asked = self._clock()  # life counts from the question: the answer may be as old as that
        value = await self._store.fetch()
        return Held(value, asked + self._life)

    def _fetched(self, task: asyncio.Task[Held]) -> None:
        self._fetching = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._held, self._failure = task.result(), None
        elif isinstance(error, EnvironmentFailed):
            self._failure = (error, self._clock() + _RETRY_AFTER)
        if self._held is not None and self._held.until <= self._clock():
            self._held = None
