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
    shares, now, used = Shares(1000), 5.0, 0.0
    for seconds in texts:
        share = shares.begin(JOB, now)
        now = max(now, share.until)
        share.use(now, seconds)
        used += seconds
        now += seconds
        assert used <= BURST + SHARE * (now - 5.0) + seconds + 1e-9


def test_who_uses_less_than_its_share_never_waits() -> None:
    share, now = Shares(1000).begin(JOB, 0.0), 0.0
    for _ in range(1000):
        now += 1.0
        assert share.until <= now
        share.use(now, SHARE)


def test_a_job_is_remembered_until_it_has_no_session_and_owes_nothing() -> None:
    shares = Shares(1000)
    owing = shares.begin(JOB, 0.0)
    owing.use(0.0, 100.0)
    owing.end(0)
    open_ = shares.begin(JobId("open"), 0.0)
    for number in range(5000):
        share = shares.begin(JobId(f"j-{number + 2}"), 1.0)
        share.use(1.0, 0.001)
        share.end(0)
    assert shares.begin(JOB, 1.0) is owing
    owing.end(0)
    for number in range(5000):
        shares.begin(JobId(f"k-{number}"), 1000.0).end(0)
    assert len(shares._of) < 3000
    assert shares.begin(JOB, 1000.0).until <= 1000.0
    assert shares.begin(JobId("open"), 1000.0) is open_


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=100))
def test_what_the_sessions_of_a_job_keep_is_the_sum(steps: list[tuple[int, int]]) -> None:
    shares = Shares(1000)
    share, open_ = shares.begin(JOB, 0.0), {0: 0}  # session -> bytes
    for session, kept in steps:
        if session in open_ and kept % 5 == 0:
            share.end(open_.pop(session))
            continue
        if session not in open_:
            assert shares.begin(JOB, 0.0) is share
        may = share.keep(kept - open_.get(session, 0))
        open_[session] = kept
        assert may == (sum(open_.values()) <= 1000)
        assert (share.kept, share.sessions) == (sum(open_.values()), len(open_))
