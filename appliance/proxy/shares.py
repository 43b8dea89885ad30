"""What a job may have of a worker's time and memory, all its PostgreSQL sessions together.

A worker serves many jobs in one loop. A text that was read before costs microseconds, a new one up to tenths of a
second: a job that sends nothing but new ones would leave the others little. So its statements wait until it has earned
the time that they took. Who sends the statements of a program never notices: `BURST` is thousands of usual texts.

A session may have a text of 16 MiB that is not whole yet, and keeps those of its prepared statements. A thousand of
them would be more than the host has: the session that passes `most` ends.
"""

from __future__ import annotations

from typing import Final, final

from appliance.model.ids import JobId

SHARE: Final = 0.25  # of the worker's time, for one job
BURST: Final = 1.0  # seconds that it may have at once
AT_ONCE: Final = 0.02  # seconds of one turn of the loop, beyond the text that passes it
_MOST: Final = 1024  # jobs remembered that have no session and owe nothing


@final
class Share:
    """Of one job: what it owes grows by what is used and shrinks as time goes by. `until`: it may have more from then
    on, by the clock that `use` is told. `kept`: bytes that its sessions keep, `most` at most."""

    __slots__ = ("_at", "_most", "_owed", "kept", "sessions", "until")

    def __init__(self, most: int) -> None:
        self._most = most
        self.kept = 0
        self.sessions = 0
        self._owed = 0.0  # seconds, at `_at`
        self._at = 0.0
        self.until = 0.0

    def owed(self, now: float) -> float:
        return max(0.0, self._owed - (now - self._at) * SHARE)

    def use(self, now: float, seconds: float) -> None:
        self._owed = self.owed(now) + seconds
        self._at = now
        self.until = now + max(0.0, (self._owed - BURST) / SHARE)

    def end(self, kept: int) -> None:
        """A session is over that kept so many bytes."""
        self.kept -= kept
        self.sessions -= 1

    def keep(self, change: int) -> bool:
        """A session keeps so many bytes more; whether it may."""
        self.kept += change
        return self.kept <= self._most


@final
class Shares:
    """Of one worker. A job keeps its own beyond its connections: what is owed is not paid by a new one. `most`: bytes
    that the sessions of a job may keep."""

    def __init__(self, most: int) -> None:
        self._bytes = most
        self._of: dict[JobId, Share] = {}
        self._enough = _MOST

    def begin(self, job: JobId, now: float) -> Share:
        """Another session of the job; `now`: seconds, of the clock that its share is asked by."""
        share = self._of.get(job)
        if share is None:
            if len(self._of) >= self._enough:
                self._of = {each: share for each, share in self._of.items() if share.sessions or share.owed(now) > 0}
                self._enough = len(self._of) + _MOST
            share = self._of[job] = Share(self._bytes)
        share.sessions += 1
        return share
