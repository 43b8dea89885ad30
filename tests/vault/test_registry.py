"""The registry against a model of it, with restarts in between; and the ledger when the disk fails."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from appliance.model.errors import Denied, EnvironmentFailed
from appliance.model.ids import JobId, SecretName
from appliance.model.placeholder import Narrowing
from appliance.vault.ledger import Change, Ledger
from appliance.vault.placeholders import RETENTION, Registry, digest_of, narrowing_is_sound
from tests.vault.rig import run

JOBS = [JobId("j-1"), JobId("j-2")]
SECRETS = [SecretName("a"), SecretName("b")]
A_JOB = st.sampled_from([JOBS[0], JOBS[0], JOBS[0], JOBS[1]])
A_SECRET = st.sampled_from([SECRETS[0], SECRETS[0], SECRETS[0], SECRETS[1]])
SELDOM = st.sampled_from([False] * 7 + [True])
NOW = 1_800_000_000.0


def fresh() -> str:
    return "P" + secrets.token_hex(16)


@dataclass
class Known:
    """What the model knows of one placeholder."""

    text: str
    job: JobId
    secret: SecretName
    expires: float
    uses: int | None
    narrowing: Narrowing
    parent: Known | None = None
    revoked: bool = False

    def state(self, now: float) -> str:
        if self.revoked:
            return "revoked"
        if self.uses == 0 or (self.parent is not None and self.parent.uses == 0):
            return "used-up"
        return "live" if now < self.expires else "expired"


class RegistryMachine(RuleBasedStateMachine):
    """Grants, mints, uses, ends of jobs, passing time, sweeps and restarts in any order."""

    texts = Bundle("texts")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="coatcheck-test-"))
        self.loop = asyncio.new_event_loop()
        self.now = NOW
        self.known: dict[str, Known] = {}
        self.own: dict[tuple[JobId, SecretName], Known] = {}

    def play(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.ledger = Ledger(self.folder)
        self.registry = Registry(self.ledger)

    @rule()
    def restart(self) -> None:
        self.play(self.ledger.close())
        self.start()

    @rule(
        target=texts, job=st.sampled_from(JOBS), secret=st.sampled_from(SECRETS), uses=st.sampled_from([None, 1, 2, 3])
    )
    def grant(self, job: JobId, secret: SecretName, uses: int | None) -> Any:
        text = fresh()
        given = self.play(self.registry.grant(job, secret, text, self.now + 100, uses, self.now))
        existing = self.own.get((job, secret))
        if existing is not None:
            assert given == existing.text
            return multiple()
        assert given == text
        known = Known(text, job, secret, self.now + 100, uses, Narrowing())
        self.known[text] = self.own[(job, secret)] = known
        return text

    @rule(
        target=texts,
        job=A_JOB,
        secret=A_SECRET,
        ttl=st.sampled_from([1.0, 10.0, 100.0]),
        uses=st.sampled_from([None, 1, 2]),
        narrowing=st.builds(Narrowing, host=st.sampled_from(["", "h"]), path=st.sampled_from(["", "", "/a/*", "/**"])),
    )
    def mint(self, job: JobId, secret: SecretName, ttl: float, uses: int | None, narrowing: Narrowing) -> Any:
        text, own = fresh(), self.own.get((job, secret))
        expected = ""
        if own is None:
            expected = "mint-no-grant"
        elif own.uses == 0:
            expected = "placeholder-used-up"
        elif own.uses is not None and uses is not None and uses > own.uses:
            expected = "mint-uses"
        asked = self.registry.mint(job, secret, text, self.now + ttl, uses, narrowing, self.now)
        if expected:
            with pytest.raises(Denied) as caught:
                self.play(asked)
            assert caught.value.rule == expected
            return multiple()
        self.play(asked)
        self.known[text] = Known(text, job, secret, self.now + ttl, uses, narrowing, own)
        return text

    @rule(
        text=texts,
        stolen=SELDOM,
        host=st.sampled_from(["h", "h", "i"]),
        path=st.sampled_from(["/a/b", "/a/b", "/a/b/c", "/a/%2f", "/a/.."]),
    )
    def use(self, text: str, stolen: bool, host: str, path: str) -> None:
        known = self.known.get(text)
        if known is None:
            assert self.registry.state(digest_of(text), self.now).state == "unknown"
            return
        state = known.state(self.now)
        job = JOBS[(JOBS.index(known.job) + stolen) % len(JOBS)]
        expected = ""
        if known.job != job:
            expected = "placeholder-foreign"
        elif state != "live":
            expected = f"placeholder-{state}"
        elif known.narrowing.host not in ("", host):
            expected = "placeholder-host"
        elif (known.narrowing.path == "/a/*" and path != "/a/b") or (
            known.narrowing.path == "/**" and ("%" in path or ".." in path)
        ):
            expected = "placeholder-path"
        asked = self.registry.use(digest_of(text), job, host, "GET", path, self.now)
        if expected:
            with pytest.raises(Denied) as caught:
                self.play(asked)
            assert caught.value.rule == expected
            return
        self.play(asked)
        for counted in (known, known.parent):
            if counted is not None and counted.uses is not None:
                counted.uses -= 1

    @rule(text=texts, times=st.integers(2, 12))
    def use_at_once(self, text: str, times: int) -> None:
        """Exactly as many win as there are uses."""
        known = self.known.get(text)
        if known is None:
            return
        budgets = [k.uses for k in (known, known.parent) if k is not None and k.uses is not None]
        wins = 0 if known.state(self.now) != "live" else min([times, *budgets])
        if known.narrowing.path == "/a/*" or known.narrowing.host == "i":
            return

        async def all_at_once() -> list[Any]:
            asked = (self.registry.use(digest_of(text), known.job, "h", "GET", "/x", self.now) for _ in range(times))
            return await asyncio.gather(*asked, return_exceptions=True)

        outcomes = self.play(all_at_once())
        assert sum(outcome is None for outcome in outcomes) == wins
        assert all(outcome is None or isinstance(outcome, Denied) for outcome in outcomes)
        for counted in (known, known.parent):
            if counted is not None and counted.uses is not None:
                counted.uses -= wins

    @rule(job=st.sampled_from(JOBS), ended=SELDOM)
    def end_job(self, job: JobId, ended: bool) -> None:
        if not ended:
            return
        self.play(self.registry.forget_job(job, self.now))
        for known in self.known.values():
            known.revoked = known.revoked or known.job == job
        for secret in SECRETS:
            self.own.pop((job, secret), None)

    @rule(seconds=st.sampled_from([0.5, 10.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        self.play(self.registry.sweep(self.now))

    @rule(came=SELDOM)
    def long_after(self, came: bool) -> None:
        """What was over long ago is forgotten; what a living job holds is not."""
        if not came:
            return
        self.now += RETENTION + 1000
        self.play(self.registry.sweep(self.now))
        kept = {id(own) for own in self.own.values()}
        self.known = {t: k for t, k in self.known.items() if id(k) in kept}

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "registry"):
            return
        for text, known in self.known.items():
            found = self.registry.state(digest_of(text), self.now)
            assert (found.state, found.job, found.secret) == (known.state(self.now), known.job, known.secret)
        for job in JOBS:
            for secret in SECRETS:
                own = self.own.get((job, secret))
                leased = self.registry.leased(job, secret, self.now)
                if own is None:
                    assert leased == ()
                    continue
                assert leased[0].text == own.text
                live = {t for t, k in self.known.items() if k.parent is own and k.state(self.now) == "live"}
                assert {placeholder.text for placeholder in leased[1:]} == live
                for placeholder in leased:
                    k = self.known[placeholder.text]
                    budget = k.uses is not None or (k.parent is not None and k.parent.uses is not None)
                    assert placeholder.counted == (budget or k.narrowing != Narrowing())

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.play(self.ledger.close())
        self.loop.close()
        shutil.rmtree(self.folder)


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# ---- the ledger ----


def test_nothing_readable_is_on_the_disk(state: Path) -> None:
    """Neither the database nor its write-ahead log nor the key beside it holds a placeholder's text."""

    async def scenario() -> None:
        ledger = Ledger(state)
        registry = Registry(ledger)
        own, minted = fresh(), fresh()
        await registry.grant(JOBS[0], SECRETS[0], own, NOW + 10, None, NOW)
        await registry.mint(JOBS[0], SECRETS[0], minted, NOW + 10, 1, Narrowing(path="/x"), NOW)
        on_disk = b"".join(file.read_bytes() for file in state.iterdir())
        assert digest_of(own) in on_disk  # what we look at is there
        for text in (own, minted):
            assert text.encode() not in on_disk
            assert text[1:].encode() not in on_disk
        sealed = sqlite3.connect(state / "vault.sqlite3").execute("SELECT sealed FROM placeholder").fetchall()
        assert all(len(value) > 32 for (value,) in sealed)
        await registry.forget_job(JOBS[0], NOW)
        assert sqlite3.connect(state / "vault.sqlite3").execute(
            "SELECT count(*) FROM placeholder WHERE sealed IS NOT NULL"
        ).fetchone() == (0,)
        assert all(file.stat().st_mode & 0o077 == 0 for file in state.iterdir())
        await ledger.close()

    run(scenario)


def test_a_use_is_on_the_disk_when_it_is_granted(state: Path) -> None:
    """Seen by a second reader of the file: what a crash right after the answer would leave."""

    async def scenario() -> None:
        ledger = Ledger(state)
        registry = Registry(ledger)
        text = fresh()
        await registry.grant(JOBS[0], SECRETS[0], text, NOW + 10, 3, NOW)
        reader = sqlite3.connect(state / "vault.sqlite3")
        for left in (2, 1, 0):
            await registry.use(digest_of(text), JOBS[0], "h", "GET", "/", NOW)
            assert reader.execute("SELECT uses_left FROM placeholder").fetchone() == (left,)
        reader.close()
        await ledger.close()

    run(scenario)


def test_a_disk_that_fails_grants_nothing(state: Path) -> None:
    async def scenario() -> None:
        ledger = Ledger(state)
        registry = Registry(ledger)
        text = fresh()
        await registry.grant(JOBS[0], SECRETS[0], text, NOW + 10, 2, NOW)
        blocker = sqlite3.connect(state / "vault.sqlite3", isolation_level=None)
        ledger._database.execute("PRAGMA busy_timeout = 10")
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(EnvironmentFailed) as caught:
            await registry.use(digest_of(text), JOBS[0], "h", "GET", "/", NOW)
        assert caught.value.code == "vault-disk"
        with pytest.raises(EnvironmentFailed):
            await registry.grant(JOBS[1], SECRETS[0], fresh(), NOW + 10, None, NOW)
        with pytest.raises(EnvironmentFailed):
            await registry.mint(JOBS[0], SECRETS[0], fresh(), NOW + 10, None, Narrowing(), NOW)
        assert len(registry.leased(JOBS[0], SECRETS[0], NOW)) == 1
        assert registry.own(JOBS[1], SECRETS[0]) is None
        blocker.execute("ROLLBACK")
        blocker.close()
        await registry.use(digest_of(text), JOBS[0], "h", "GET", "/", NOW)  # one was lost, one is left: none is doubled
        with pytest.raises(Denied):
            await registry.use(digest_of(text), JOBS[0], "h", "GET", "/", NOW)
        await ledger.close()

    run(scenario)


def test_a_full_disk_is_said_and_nothing_is_lost(state: Path) -> None:
    async def scenario() -> None:
        ledger = Ledger(state)
        registry = Registry(ledger)
        pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
        ledger._database.execute(f"PRAGMA max_page_count = {pages + 2}")
        texts: list[str] = []
        with pytest.raises(EnvironmentFailed, match="disk is full"):  # noqa: PT012
            for number in range(1000):
                job = JobId(f"j-{number}")
                texts.append(await registry.grant(job, SECRETS[0], fresh(), NOW + 10, None, NOW))
        assert texts
        ledger._database.execute("PRAGMA max_page_count = 100000")
        await registry.grant(JobId("j-later"), SECRETS[0], fresh(), NOW + 10, None, NOW)
        await ledger.close()
        again = Ledger(state)
        assert len(again.placeholders()) == len(texts) + 1
        await again.close()

    run(scenario)


def test_one_bad_change_does_not_fail_the_others(state: Path) -> None:
    async def scenario() -> None:
        ledger = Ledger(state)
        registry = Registry(ledger)
        outcomes = await asyncio.gather(
            ledger.write([Change("INSERT INTO nowhere VALUES (1)", ())]),
            registry.grant(JOBS[0], SECRETS[0], fresh(), NOW + 10, None, NOW),
            ledger.write([Change("UPDATE placeholder SET digest = NULL", ())]),
            registry.grant(JOBS[1], SECRETS[0], fresh(), NOW + 10, None, NOW),
            return_exceptions=True,
        )
        assert [isinstance(outcome, EnvironmentFailed) for outcome in outcomes] == [True, False, True, False]
        await ledger.close()
        again = Ledger(state)
        assert len(again.placeholders()) == 2
        await again.close()

    run(scenario)


def test_simultaneous_grants_give_one_placeholder(state: Path) -> None:
    async def scenario() -> None:
        ledger = Ledger(state)
        registry = Registry(ledger)
        texts = await asyncio.gather(
            *(registry.grant(JOBS[0], SECRETS[0], fresh(), NOW + 10, 1, NOW) for _ in range(20))
        )
        assert len(set(texts)) == 1
        await ledger.close()
        again = Ledger(state)
        assert [stored.text for stored in again.placeholders()] == [texts[0]]
        await again.close()

    run(scenario)


def test_minting_is_limited(state: Path) -> None:
    async def scenario() -> None:
        ledger = Ledger(state)
        registry = Registry(ledger)
        await registry.grant(JOBS[0], SECRETS[0], fresh(), NOW + 10, None, NOW)
        asked = (registry.mint(JOBS[0], SECRETS[0], fresh(), NOW + 10, None, Narrowing(), NOW) for _ in range(300))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 256
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert {denied.rule for denied in refused if isinstance(denied, Denied)} == {"mint-limit"}
        await ledger.close()

    run(scenario)


def test_the_ledger_and_its_key_belong_together(state: Path) -> None:
    async def scenario() -> None:
        ledger = Ledger(state)
        await Registry(ledger).grant(JOBS[0], SECRETS[0], fresh(), NOW + 10, None, NOW)
        await ledger.close()
        key = state / "placeholder-key"
        kept = key.read_bytes()
        key.unlink()
        with pytest.raises(EnvironmentFailed, match="is missing beside"):
            Ledger(state)
        key.write_bytes(bytes(32))
        key.chmod(0o600)
        other = Ledger(state)
        with pytest.raises(EnvironmentFailed, match="sealed with another key"):
            other.placeholders()
        await other.close()
        key.write_bytes(kept[:5])
        with pytest.raises(EnvironmentFailed, match="is damaged"):
            Ledger(state)

    run(scenario)


def test_a_file_that_is_no_ledger_is_named(state: Path) -> None:
    (state / "placeholder-key").write_bytes(bytes(32))
    (state / "placeholder-key").chmod(0o600)
    (state / "vault.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(EnvironmentFailed, match=r"vault\.sqlite3 cannot be opened"):
        Ledger(state)


def test_a_newer_ledger_is_left_alone(state: Path) -> None:
    async def scenario() -> None:
        await Ledger(state).close()
        with sqlite3.connect(state / "vault.sqlite3") as database:
            database.execute("PRAGMA user_version = 99")
        with pytest.raises(EnvironmentFailed, match="version 99"):
            Ledger(state)

    run(scenario)


@pytest.mark.parametrize(
    ("text", "sound"), [("", True), ("/a/*", True), ("/a b", False), ("/\n", False), ("/ü", False), ("/\x7f", False)]
)
def test_sound_narrowings(text: str, sound: bool) -> None:
    assert narrowing_is_sound([text]) is sound
