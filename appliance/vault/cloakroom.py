"""Secrets and placeholders together: who may have which value, for where, and for how long.

In: tokens, jobs, destinations. Out: placeholders for jobs, and real values for the proxy, for a few seconds.

Always: a value goes out only for a secret that the job was granted, to a destination and host that the secret
itself names, whatever policy and proxy believe.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.config.schema import SecretSpec
from appliance.identity.globs import Glob
from appliance.ipc.messages import (
    GrantAsk,
    Granted,
    Lease,
    LeaseAsk,
    LeasedSecretWire,
    MintAsk,
    PlaceholderState,
    UseAsk,
)
from appliance.model.errors import Denied, EnvironmentFailed, PeerError
from appliance.model.ids import DestinationName, JobId, SecretName
from appliance.model.placeholder import Slot
from appliance.model.secret import Secret
from appliance.vault.issuer import Issuer
from appliance.vault.kernel import Kernel
from appliance.vault.placeholders import Registry, narrowing_is_sound
from appliance.vault.stores.cache import SecretCache

LEASE_LIFE = 5.0  # seconds: how long a proxy may go on with what it was told
_OF_REQUESTS = ("header", "basic", "query")  # slots where a placeholder comes with a method and a path
Maker = Callable[[Secret, SecretSpec], str]  # a fresh placeholder of the secret's shape


@dataclass(frozen=True)
class _Kept:
    """One secret: what the configuration says of it, compiled, and its value for a time."""

    name: SecretName
    spec: SecretSpec
    cache: SecretCache
    labels: tuple[Glob, ...]
    destinations: frozenset[str]
    hosts: frozenset[str]
    slots: tuple[Slot, ...]

    def goes_to(self, destination: DestinationName, host: str) -> bool:
        return destination in self.destinations and host in self.hosts

    def is_for(self, label: str) -> bool:
        """Whether jobs with this label may have it."""
        return any(glob.matches(label) for glob in self.labels)


class Cloakroom:
    """`now` is seconds since the epoch, `clock` counts seconds and never goes back (the caches' clock).

    Raises ValueError if a label is no glob.
    """

    def __init__(
        self,
        specs: Iterable[tuple[SecretSpec, SecretCache]],
        registry: Registry,
        issuer: Issuer,
        kernel: Kernel,
        make: Maker,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._kept = {kept.name: kept for kept in (_keep(spec, cache) for spec, cache in specs)}
        self._registry = registry
        self._issuer = issuer
        self._kernel = kernel
        self._make = make
        self._now = now
        self._clock = clock
        self._checked: dict[SecretName, float] = {}
        self._shape_problems: dict[SecretName, str] = {}

    async def lease(self, ask: LeaseAsk) -> Lease:
        """The secrets that the token's job may use at this destination and host, until the lease's end.

        Raises Denied if the token is not valid, EnvironmentFailed if one of them cannot be had.
        """
        claims = self._issuer.claims_of(ask.token)
        job, label = claims.job, claims.facts.job_label
        kept = [
            kept
            for kept in self._kept.values()
            if kept.goes_to(ask.destination, ask.host)
            and (
                self._registry.own(job, kept.name) is not None
                if kept.spec.has_placeholder
                else kept.is_for(label)  # there is nothing to grant
            )
        ]
        held = await asyncio.gather(*(each.cache.get() for each in kept))
        for each, its in zip(kept, held, strict=True):
            self._check_lines(each, its.value)
        now, ticks = self._now(), self._clock()
        life = min((value.until - ticks for value in held), default=LEASE_LIFE)
        if life <= 0:
            raise EnvironmentFailed("secret-unavailable", "a secret's life ended while it was asked for; ask again")
        secrets = tuple(
            LeasedSecretWire(each.name, value.value.reveal(), each.slots, placeholders)
            for each, value in zip(kept, held, strict=True)
            if (placeholders := self._registry.leased(job, each.name, now)) or not each.spec.has_placeholder
        )
        return Lease(now + min(life, LEASE_LIFE), secrets)

    async def use(self, ask: UseAsk) -> None:
        """Takes one use of a placeholder, once it is on the disk. Raises Denied, EnvironmentFailed."""
        job = self._issuer.claims_of(ask.token).job
        kept = self._kept.get(self._registry.owned(ask.digest, job).secret)
        if kept is None:
            raise Denied("placeholder-revoked", "the secret of this placeholder is not configured any more")
        if ask.destination not in kept.destinations:
            raise Denied("placeholder-destination", f"secret {kept.name} is not for {ask.destination}")
        if ask.host not in kept.hosts:
            raise Denied("placeholder-host", f"secret {kept.name} is not for {ask.host}")
        await self._registry.use(ask.digest, job, ask.host, ask.method, ask.path, self._now())

    async def whose(self, digest: bytes) -> PlaceholderState:
        return self._registry.state(digest, self._now())

    async def grant(self, ask: GrantAsk) -> list[Granted]:
        """The job's own placeholder of each secret whose labels match; asked again, the same ones.

        A secret that cannot be had is named with its problem. Raises EnvironmentFailed if the registry cannot be
        written.
        """
        if not ask.job:
            raise PeerError("grant", "a job has a name")
        matching = [k for k in self._kept.values() if k.spec.has_placeholder and k.is_for(ask.label)]
        return list(await asyncio.gather(*(self._grant(ask.job, kept) for kept in matching)))

    async def _grant(self, job: JobId, kept: _Kept) -> Granted:
        text = self._registry.own(job, kept.name)
        if text is None:
            try:
                held = await kept.cache.get()
                fresh = self._fresh(kept, held.value)
            except EnvironmentFailed as error:
                return Granted(kept.name, None, "", str(error))
            now = self._now()
            text = await self._registry.grant(job, kept.name, fresh, now + kept.spec.ttl, kept.spec.uses, now)
        return Granted(kept.name, kept.spec.env, text)

    async def mint(self, ask: MintAsk) -> str:
        """A narrower placeholder of a secret that the job was, or by its label may be, granted.

        `ttl` in seconds, None: as long as the secret allows. Raises PeerError for values that make no sense, Denied
        for what the secret does not allow, EnvironmentFailed if the value cannot be had.
        """
        kept = self._kept.get(ask.secret)
        if kept is None:
            raise Denied("mint-unknown", f"there is no secret {ask.secret[:64]!r}")
        ttl = self._check_mint(kept, ask)
        if self._registry.own(ask.job, kept.name) is None:
            await self._grant_late(ask.job, kept)
        held = await kept.cache.get()
        text = self._fresh(kept, held.value)
        now = self._now()
        try:
            await self._registry.mint(ask.job, kept.name, text, now + ttl, ask.uses, ask.narrowing, now)
        except ValueError as error:
            raise PeerError("mint", f"path: {error}") from None
        return text

    async def _grant_late(self, job: JobId, kept: _Kept) -> None:
        """For a job that began while the secret could not be had. Raises Denied, EnvironmentFailed."""
        info = await self._kernel.job(job)
        if info is None or not kept.is_for(info.label):
            raise Denied("mint-no-grant", f"this job was not given secret {kept.name}")
        granted = await self._grant(job, kept)
        if granted.problem:
            raise EnvironmentFailed("secret-unavailable", granted.problem)

    def _check_mint(self, kept: _Kept, ask: MintAsk) -> float:
        narrowing = ask.narrowing
        if not narrowing_is_sound((narrowing.host, narrowing.method, narrowing.path)):
            raise PeerError("mint", "host, method and path are printable ASCII without spaces")
        if narrowing.path and not narrowing.path.startswith(("/", "*")):
            raise PeerError("mint", "a path begins with /")
        if not kept.spec.has_placeholder:
            raise Denied("mint-none", f"secret {kept.name} is a certificate that no placeholder stands for")
        if (narrowing.method or narrowing.path) and not any(s.kind in _OF_REQUESTS for s in kept.slots):
            raise Denied(
                "mint-narrowing",
                f"secret {kept.name} opens PostgreSQL sessions, which have no method and no path: it can be narrowed by"
                " host, life and uses",
            )
        if narrowing.host and narrowing.host not in kept.hosts:
            raise Denied("mint-host", f"secret {kept.name} is for {', '.join(sorted(kept.hosts))} only")
        if ask.uses is not None and not 0 < ask.uses < 1 << 31:
            raise PeerError("mint", "uses is at least 1")
        if ask.ttl is None:
            return kept.spec.ttl
        if not math.isfinite(ask.ttl) or ask.ttl <= 0:
            raise PeerError("mint", "ttl is over 0 seconds")
        if ask.ttl > kept.spec.ttl:
            raise Denied("mint-ttl", f"a placeholder of secret {kept.name} lives at most {kept.spec.ttl:g} s")
        return ask.ttl

    async def forget_job(self, job: JobId) -> None:
        """Revokes all placeholders of a job. Raises EnvironmentFailed if that cannot be written."""
        await self._registry.forget_job(job, self._now())

    async def check_sources(self, every: float) -> list[SecretName]:
        """Asks each source that was not asked for `every` seconds and its cache's life; returns those whose
        state has changed."""
        before = self.states()
        due = [
            kept
            for kept in self._kept.values()
            if self._checked.get(kept.name, -math.inf) + max(every, kept.spec.cache) <= self._clock()
        ]
        for kept in due:
            self._checked[kept.name] = self._clock()
        await asyncio.gather(*(self._check(kept) for kept in due))
        return [name for name, state in self.states().items() if before[name] != state]

    def states(self) -> dict[SecretName, str]:
        """Each secret: "ok", or what is wrong with it."""
        return {name: kept.cache.problem or self._shape_problems.get(name, "ok") for name, kept in self._kept.items()}

    async def _check(self, kept: _Kept) -> None:
        try:
            value = (await kept.cache.get()).value
            if kept.spec.has_placeholder:
                self._fresh(kept, value)
            else:
                self._check_lines(kept, value)
                self._shape_problems.pop(kept.name, None)
        except EnvironmentFailed:
            pass  # it is remembered: that is what is asked here

    def _check_lines(self, kept: _Kept, value: Secret) -> None:
        """What takes a placeholder's place has no line breaks, also when it has changed since that was made; a
        certificate has. Raises EnvironmentFailed("secret-shape")."""
        has_lines = not {*b"\r\n"}.isdisjoint(value.reveal())
        if has_lines is kept.spec.has_placeholder:
            wanted = "a credential of one line" if kept.spec.has_placeholder else "a certificate and its key as PEM"
            problem = f"secret {kept.name} is not {wanted}, as its slots want it"
            self._shape_problems[kept.name] = problem
            raise EnvironmentFailed("secret-shape", problem)

    def _fresh(self, kept: _Kept, value: Secret) -> str:
        """A placeholder that nobody has. Raises EnvironmentFailed("secret-shape")."""
        try:
            text = self._make(value, kept.spec)
        except EnvironmentFailed as error:
            self._shape_problems[kept.name] = str(error)
            raise
        self._shape_problems.pop(kept.name, None)
        return text


def _keep(spec: SecretSpec, cache: SecretCache) -> _Kept:
    return _Kept(
        SecretName(spec.name),
        spec,
        cache,
        tuple(Glob(label) for label in spec.labels),
        frozenset(spec.destinations),
        frozenset(host.lower().rstrip(".") for host in spec.hosts),
        tuple(Slot(slot.in_, slot.name) for slot in spec.slots),
    )
