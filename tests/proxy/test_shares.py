"""What a job may have of a worker's time: not more by connecting anew, and again when it has paid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.model.ids import JobId
from appliance.proxy.shares import BURST, SHARE, Shares

JOB = JobId("j-1")


@given(st.lists(st.floats(0.0001, 0.5), min_size=1, max_size=200))
def test_never_more_than_its_share_and_what_it_may_have_at_once(texts: list[float]) -> None:
    """Whoever sends the next text as soon as it may: one text may pass the limit, as its time is known only then."""
    shares, now, used = Shares(), 5.0, 0.0
    for seconds in texts:
        share = shares.of(JOB, now)
        now = max(now, share.until)
        share.use(now, seconds)
        used += seconds
        now += seconds
        assert used <= BURST + SHARE * (now - 5.0) + seconds + 1e-9


def test_who_uses_less_than_its_share_never_waits() -> None:
    share, now = Shares().of(JOB, 0.0), 0.0
    for _ in range(1000):
        now += 1.0
        assert share.until <= now
        share.use(now, SHARE)


def test_a_job_is_remembered_until_it_owes_nothing() -> None:
    shares = Shares()
    share = shares.of(JOB, 0.0)
    share.use(0.0, 100.0)
    for number in range(5000):
        shares.of(JobId(f"j-{number + 2}"), 1.0).use(1.0, 0.001)
    assert shares.of(JOB, 1.0) is share
    for number in range(5000):
        shares.of(JobId(f"k-{number}"), 1000.0)
    assert len(shares._of) < 3000
    assert shares.of(JOB, 1000.0).until <= 1000.0
