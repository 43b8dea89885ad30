"""The registry of placeholders: whose each one is, what it is narrowed to, and what is left of it.

A job has one placeholder of its own for each secret that it was granted, and mints narrower ones. What a secret's
`uses` allows is the job's as a whole: every use of a minted placeholder also counts on the job's own, so that
minting multiplies nothing. The life of each text is its own and at most the secret's `ttl`; a job may mint as long
as it lives and has uses left.

Uses are taken in memory first, which no other call can interleave with, then written to the disk, and only then
granted: of any number of simultaneous uses of a single-use placeholder one wins, and a crash in between loses a
use and never gives one twice. What is over (expired, used up, revoked) is known by its digest for `RETENTION`, so
that an agent is told why; the text goes at once, but for the job's own placeholder, whose text stands for the
secret in whatever the job is sent until it ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from appliance.identity.globs import Glob
from appliance.ipc.messages import PlaceholderState
from appliance.model.errors import Denied, EnvironmentFailed
from appliance.model.ids import JobId, SecretName
from appliance.model.placeholder import Binding, LeasedPlaceholder, Narrowing
from appliance.vault.ledger import FORGOTTEN, REVOKED, TEXT_DROPPED, USES_LEFT, Change, Ledger, Stored

RETENTION = 7 * 86400.0  # seconds after its end that a placeholder is still known
MOST_LIVE = 256  # minted ones of one job for one secret: all of them are in each lease
MOST_KNOWN = 10_000  # of one job, those that are over included
NO_NARROWING = Narrowing()

State = Literal["live", "expired", "used-up", "revoked"]
REASONS: dict[State, str] = {
    "live": "",
    "expired": "this placeholder's life is over",
    "used-up": "this placeholder's uses are used up",
    "revoked": "this placeholder was revoked",
}
# What a server might decode to a slash, a dot or a separator of its own after our match (RFC 3986 section 6.2.2)
_HIDDEN = ("%2f", "%5c", "%2e", "%25", "%00", "\\", ";")


def digest_of(text: str) -> bytes:
    """What a placeholder is known by."""
    return hashlib.sha256(text.encode("ascii")).digest()


class _Entry:
    __slots__ = ("binding", "expired", "glob", "made", "parent", "revoked", "text", "uses_left")

    def __init__(self, stored: Stored, parent: _Entry | None) -> None:
        self.binding = stored.binding
        self.parent = parent
        self.made = stored.made
        self.revoked = stored.revoked
        self.text = stored.text
        self.uses_left = stored.binding.uses_left
        self.expired = False  # stays True once seen: a clock that is set back revives nothing
        path = stored.binding.narrowing.path
        self.glob = Glob(path) if path else None

    def state(self, now: float) -> State:
        if self.revoked is not None:
            return "revoked"
        if self.uses_left == 0 or (self.parent is not None and self.parent.uses_left == 0):
            return "used-up"
        self.expired = self.expired or self.binding.expires <= now
        return "expired" if self.expired else "live"

    @property
    def counted(self) -> bool:
        """Whether the vault must be asked before each use."""
        parent_counts = self.parent is not None and self.parent.uses_left is not None
        return self.uses_left is not None or parent_counts or self.binding.narrowing != NO_NARROWING


class Registry:
    """`now` of every method is seconds since the epoch."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: dict[bytes, _Entry] = {}
        self._jobs: dict[JobId, dict[SecretName, list[_Entry]]] = {}  # the job's own first; dead ones stay in it
        self._own: dict[tuple[JobId, SecretName], _Entry] = {}  # not revoked
        for stored in ledger.placeholders():
            self._insert(stored)

    def _insert(self, stored: Stored) -> _Entry | None:
        parent = self._entries.get(stored.parent) if stored.parent is not None else None
        if stored.parent is not None and parent is None:
            return None  # its job is long over: never live without its budget
        entry = _Entry(stored, parent)
        binding = stored.binding
        self._entries[binding.digest] = entry
        self._jobs.setdefault(binding.job, {}).setdefault(binding.secret, []).append(entry)
        if parent is None and entry.revoked is None:
            self._own[(binding.job, binding.secret)] = entry
        return entry

    def own(self, job: JobId, secret: SecretName) -> str | None:
        """The text of the job's own placeholder, or None if it was not granted one."""
        entry = self._own.get((job, secret))
        return entry.text if entry is not None else None

    def granted(self, job: JobId) -> list[SecretName]:
        """The secrets of which the job holds a placeholder of its own."""
        return [secret for secret in self._jobs.get(job, {}) if (job, secret) in self._own]

    async def grant(
        self, job: JobId, secret: SecretName, text: str, expires: float, uses: int | None, now: float
    ) -> str:
        """Gives the job its own placeholder of a secret; returns the one that it has, if it has one already.

        Raises EnvironmentFailed if it cannot be kept.
        """
        existing = self._own.get((job, secret))
        if existing is not None:
            return existing.text
        binding = Binding(digest_of(text), job, secret, NO_NARROWING, expires, uses)
        await self._ledger.write([self._ledger.added(binding, None, now, text)])
        raced = self._own.get((job, secret))
        if raced is not None:  # another call was first while we wrote: ours was never given out
            await self._ledger.write([Change(FORGOTTEN, (binding.digest,))])
            return raced.text
        self._insert(Stored(binding, None, now, None, text))
        return text

    async def mint(
        self,
        job: JobId,
        secret: SecretName,
        text: str,
        expires: float,
        uses: int | None,
        narrowing: Narrowing,
        now: float,
    ) -> None:
        """Adds a placeholder with at most the rights of the job's own one.

        Raises Denied ("mint-no-grant", "mint-uses", "placeholder-used-up", "mint-limit"), EnvironmentFailed,
        ValueError if the narrowing's path is no glob.
        """
        own = self._own.get((job, secret))
        if own is None:
            raise Denied("mint-no-grant", f"this job was not given secret {secret}")
        if own.uses_left == 0:
            raise Denied("placeholder-used-up", f"this job's uses of secret {secret} are used up")
        if uses is not None and own.uses_left is not None and uses > own.uses_left:
            raise Denied("mint-uses", f"this job has {own.uses_left} uses of secret {secret} left")
        siblings = self._jobs[job][secret]
        if sum(1 for entry in siblings if entry.parent is not None and entry.state(now) == "live") >= MOST_LIVE:
            raise Denied("mint-limit", f"this job has {MOST_LIVE} live minted placeholders of secret {secret}")
        if sum(len(entries) for entries in self._jobs[job].values()) >= MOST_KNOWN:
            raise Denied("mint-limit", f"this job has had {MOST_KNOWN} placeholders")
        binding = Binding(digest_of(text), job, secret, narrowing, expires, uses)
        stored = Stored(binding, own.binding.digest, now, None, text)
        entry = self._insert(stored)  # before it is written, so that the limits hold for simultaneous calls too
        assert entry is not None  # noqa: S101  # its parent is `own`
        try:
            await self._ledger.write([self._ledger.added(binding, own.binding.digest, now, text)])
        except EnvironmentFailed:
            self._remove(entry)
            raise
        if entry.revoked is not None:
            raise Denied("mint-no-grant", "this job has ended")

    def owned(self, digest: bytes, job: JobId) -> Binding:
        """A placeholder of the job (`uses_left` as it was made). Raises Denied if it is none, or another job's."""
        return self._owned(digest, job).binding

    def _owned(self, digest: bytes, job: JobId) -> _Entry:
        entry = self._entries.get(digest)
        if entry is None:
            raise Denied("placeholder-unknown", "this is not a placeholder")
        if entry.binding.job != job:
            raise Denied("placeholder-foreign", "this placeholder was given to another job")
        return entry

    def state(self, digest: bytes, now: float) -> PlaceholderState:
        """Whose it is, and how it stands."""
        entry = self._entries.get(digest)
        if entry is None:
            return PlaceholderState("unknown")
        return PlaceholderState(entry.state(now), entry.binding.job, entry.binding.secret)

    def leased(self, job: JobId, secret: SecretName, now: float) -> tuple[LeasedPlaceholder, ...]:
        """The job's own placeholder (also when it is over: it is what the secret is turned back into, and each
        use is judged), then the live minted ones. Empty if the job was not granted the secret."""
        own = self._own.get((job, secret))
        if own is None:
            return ()
        minted = (entry for entry in self._jobs[job][secret] if entry.parent is own and entry.state(now) == "live")
        return tuple(
            LeasedPlaceholder(entry.text, entry.binding.narrowing, entry.binding.expires, entry.counted)
            for entry in (own, *minted)
        )

    async def use(self, digest: bytes, job: JobId, host: str, method: str, path: str, now: float) -> None:
        """Takes one use. Returns once it is on the disk; raises Denied, EnvironmentFailed (the use is lost then)."""
        entry = self._owned(digest, job)
        state = entry.state(now)
        if state != "live":
            raise Denied(f"placeholder-{state}", REASONS[state])
        _check_narrowing(entry, host, method, path)
        changes = []
        for counted in (entry, entry.parent):
            if counted is not None and counted.uses_left is not None:
                counted.uses_left -= 1
                changes.append(Change(USES_LEFT, (counted.uses_left, counted.binding.digest)))
        if changes:
            await self._ledger.write(changes)

    async def forget_job(self, job: JobId, now: float) -> None:
        """Revokes all that the job holds. Raises EnvironmentFailed if that cannot be kept: it holds until the
        vault's next start all the same."""
        changes = []
        for secret, entries in self._jobs.get(job, {}).items():
            self._own.pop((job, secret), None)
            for entry in entries:
                if entry.revoked is None:
                    entry.revoked, entry.text = now, ""
                    changes.append(Change(REVOKED, (now, entry.binding.digest)))
        if changes:
            await self._ledger.write(changes)

    def jobs(self, made_before: float) -> list[JobId]:
        """Jobs that hold placeholders, the first of which was made before that time."""
        oldest: dict[JobId, float] = {}
        for (job, _), entry in self._own.items():
            oldest[job] = min(oldest.get(job, entry.made), entry.made)
        return [job for job, made in oldest.items() if made < made_before]

    def live(self, now: float) -> int:
        """How many placeholders are live."""
        return sum(1 for entry in self._entries.values() if entry.state(now) == "live")

    async def sweep(self, now: float) -> None:
        """Drops the texts of minted placeholders that are over, and all that was over long ago."""
        changes = []
        for digest, entry in list(self._entries.items()):
            over = entry.revoked if entry.revoked is not None else entry.binding.expires
            is_own = self._own.get((entry.binding.job, entry.binding.secret)) is entry
            if over + RETENTION <= now and not is_own:
                self._remove(entry)
                changes.append(Change(FORGOTTEN, (digest,)))
            elif entry.text and not is_own and entry.state(now) != "live":
                entry.text = ""
                changes.append(Change(TEXT_DROPPED, (digest,)))
        if changes:
            await self._ledger.write(changes)

    def _remove(self, entry: _Entry) -> None:
        job, secret = entry.binding.job, entry.binding.secret
        del self._entries[entry.binding.digest]
        entries = self._jobs[job][secret]
        entries.remove(entry)
        if not entries:
            del self._jobs[job][secret]
            if not self._jobs[job]:
                del self._jobs[job]


def _check_narrowing(entry: _Entry, host: str, method: str, path: str) -> None:
    narrowing = entry.binding.narrowing
    if narrowing.host and narrowing.host != host:
        raise Denied("placeholder-host", f"this placeholder is for {narrowing.host} only")
    if narrowing.method and narrowing.method != method:
        raise Denied("placeholder-method", f"this placeholder is for {narrowing.method} only")
    if entry.glob is not None and (_is_ambiguous(path) or not entry.glob.matches(path)):
        raise Denied("placeholder-path", f"this placeholder is for paths {narrowing.path} only")


def _is_ambiguous(path: str) -> bool:
    folded = path.lower()
    return any(hidden in folded for hidden in _HIDDEN) or not {".", ".."}.isdisjoint(path.split("/"))


def narrowing_is_sound(narrowings: Iterable[str]) -> bool:
    """Whether all texts of a narrowing are printable ASCII without spaces, as hosts, methods and paths are."""
    return all(text.isascii() and text.isprintable() and " " not in text for text in narrowings)
