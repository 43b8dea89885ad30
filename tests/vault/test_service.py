"""vault.sock as the proxy and control use it: identities, grants, leases, uses, heads; over a real socket."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from appliance.audit.chain import signed_bytes
from appliance.audit.verify import keys_of
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import (
    GrantAsk,
    Granted,
    Head,
    Leaf,
    Lease,
    LeaseAsk,
    MintAsk,
    PlaceholderState,
    SignedHead,
    UseAsk,
    VaultStatus,
)
from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, PeerError
from appliance.model.identity import Identity
from appliance.model.ids import DestinationName, JobId, SecretName
from appliance.model.placeholder import Narrowing, Slot
from tests.vault.rig import CANARY, JOB, KEY, OTHER_JOB, OTHER_KEY, Clock, FakeKernel, run, spec, vault_at

GITHUB, HOST = DestinationName("github"), "api.github.test"  # also the secret's name


@pytest.fixture(autouse=True)
def _canary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COATCHECK_TEST_CANARY", CANARY)


class Agent:
    """One job as the proxy and control act for it."""

    def __init__(self, client: IpcClient, job: JobId, key: bytes) -> None:
        self.client, self.job, self.key = client, job, key
        self.token = ""

    async def start(self) -> list[Granted]:
        identity: Identity = await self.client.call("identify", self.key, result=Identity)
        self.token = identity.token
        granted: list[Granted] = await self.client.call("grant", GrantAsk(self.job, "ci"), result=list[Granted])
        return granted

    async def lease(self, destination: str = GITHUB, host: str = HOST) -> Lease:
        ask = LeaseAsk(self.token, DestinationName(destination), host, 443)
        lease: Lease = await self.client.call("lease", ask, result=Lease)
        return lease

    async def mint(
        self, ttl: float | None = None, uses: int | None = None, secret: str = GITHUB, **narrowing: str
    ) -> str:
        ask = MintAsk(self.job, SecretName(secret), ttl, uses, Narrowing(**narrowing))
        text: str = await self.client.call("mint", ask, result=str)
        return text

    async def use(
        self, text: str, method: str = "GET", path: str = "/", host: str = HOST, destination: str = GITHUB
    ) -> None:
        digest = hashlib.sha256(text.encode()).digest()
        await self.client.call("use", UseAsk(self.token, digest, DestinationName(destination), host, method, path))

    async def whose(self, text: str) -> PlaceholderState:
        digest = hashlib.sha256(text.encode()).digest()
        state: PlaceholderState = await self.client.call("whose", digest, result=PlaceholderState)
        return state


async def rule_of(call: Any) -> str:
    """The fixed word of the error that a call ends with."""
    try:
        await call
    except Denied as denied:
        return denied.rule
    except (EnvironmentFailed, PeerError) as error:
        return error.code
    return "ok"


# ---- identities ----


def test_a_flow_becomes_a_token_that_others_can_verify(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock) as (_, client, kernel):
            identity: Identity = await client.call("identify", KEY, result=Identity)
            claims = identity.claims
            assert (claims.sub, claims.groups, claims.job, claims.exp - claims.iat) == ("ci", ("builders",), JOB, 300)
            assert claims.facts == kernel.flows[KEY]
            published: dict[str, Any] = await client.call("jwks", result=dict[str, Any])
            key = jwt.PyJWKSet.from_dict(published)[jwt.get_unverified_header(identity.token)["kid"]]
            options: Any = {"verify_exp": False, "verify_iat": False}
            assert jwt.decode(identity.token, key, algorithms=["EdDSA"], options=options)["sub"] == "ci"

    run(scenario)


def test_tokens_are_reused_then_renewed_and_end_with_the_job(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock) as (_, client, kernel):
            first: Identity = await client.call("identify", KEY, result=Identity)
            assert (await client.call("identify", KEY, result=Identity)).token == first.token
            clock.move(240)
            renewed: Identity = await client.call("renew", first.token, result=Identity)
            assert renewed.claims.exp == first.claims.exp + 240
            assert renewed.claims.facts == first.claims.facts
            assert renewed.claims.jti != first.claims.jti
            clock.move(119)
            assert (await client.call("renew", first.token, result=Identity)).claims.facts == first.claims.facts
            clock.move(1)
            assert await rule_of(client.call("renew", first.token)) == "token-expired"
            del kernel.alive[JOB]
            clock.move(2)
            assert await rule_of(client.call("renew", renewed.token)) == "job-ended"
            assert await rule_of(client.call("renew", renewed.token + "x")) == "token-invalid"

    run(scenario)


def test_no_record_and_no_workload_are_denied(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock) as (_, client, kernel):
            assert await rule_of(client.call("identify", b"unknown")) == "no-record"
            kernel.flows[b"root"] = msgspec.structs.replace(kernel.flows[KEY], uid=0, pid=5)
            assert await rule_of(client.call("identify", b"root")) == "no-workload"
            assert await rule_of(client.call("identify_pid", 5)) == "no-workload"
            assert await rule_of(client.call("identify_pid", 6)) == "no-facts"
            assert (await client.call("identify_pid", 4711, result=Identity)).claims.job == JOB

    run(scenario)


def test_without_the_kernel_process_nobody_is_anybody(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock) as (_v, client, _):
            (state.parent / "kernel.sock").unlink()
            assert await rule_of(client.call("identify", KEY)) == "kernel-gone"

    run(scenario)


# ---- grants and leases ----


def test_a_job_gets_placeholders_and_the_proxy_the_value(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(), spec(name="other", hosts=("b.test",))) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            github, other = await agent.start()
            assert (github.secret, github.env, github.problem) == ("github", "GITHUB_TOKEN", "")
            assert github.text != other.text
            assert (len(github.text), github.text[:4]) == (len(CANARY), "ghp_")
            assert CANARY not in repr((github, other))
            assert github.text not in repr(github)
            lease = await agent.lease()
            assert lease.expires == clock.now() + 5
            (leased,) = lease.secrets
            assert leased.value == CANARY.encode()
            assert CANARY not in repr(leased)
            assert leased.slots == (Slot("header", "authorization"),)
            assert [(p.text, p.counted) for p in leased.placeholders] == [(github.text, False)]
            assert [g.text for g in await agent.start()] == [github.text, other.text]  # asked again, the same

    run(scenario)


@pytest.mark.parametrize(
    ("destination", "host"),
    [
        ("elsewhere", HOST),
        (GITHUB, "github.test"),
        (GITHUB, "x.api.github.test"),
        (GITHUB, "api.github.test."),
        (GITHUB, "API.github.test"),
        (GITHUB, "api.github.test\0.attacker.test"),
        (GITHUB, ""),
    ],
)
def test_a_value_goes_nowhere_else(state: Path, clock: Clock, destination: str, host: str) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(uses=5)) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            (granted,) = await agent.start()
            assert (await agent.lease(destination, host)).secrets == ()
            refused = await rule_of(agent.use(granted.text, host=host, destination=destination))
            assert refused == ("placeholder-destination" if destination != GITHUB else "placeholder-host")

    run(scenario)


def test_labels_decide_who_is_granted_what(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(labels=("deploy-*",)), spec(name="other")) as (_, client, kernel):
            del kernel.alive[OTHER_JOB]
            agent = Agent(client, JOB, KEY)
            assert [g.secret for g in await agent.start()] == ["other"]
            assert [s.name for s in (await agent.lease()).secrets] == ["other"]
            assert await rule_of(agent.mint()) == "mint-no-grant"
            kernel.alive[OTHER_JOB] = "deploy-prod"
            assert await rule_of(Agent(client, OTHER_JOB, OTHER_KEY).mint()) == "ok"  # granted late, by its label

    run(scenario)


def test_a_job_that_was_granted_nothing_has_an_empty_lease(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec()) as (_, client, _k):
            await Agent(client, JOB, KEY).start()
            other = Agent(client, OTHER_JOB, OTHER_KEY)
            other.token = (await client.call("identify", OTHER_KEY, result=Identity)).token
            assert (await other.lease()).secrets == ()

    run(scenario)


def test_a_secret_that_cannot_be_had_fails_the_lease_and_names_itself(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(cache=10)) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            await agent.start()
            monkeypatch.delenv("COATCHECK_TEST_CANARY")
            assert (await agent.lease()).secrets  # cached
            clock.move(8)
            assert (await agent.lease()).expires == clock.now() + 2  # never past the value's life
            clock.move(2)
            with pytest.raises(EnvironmentFailed) as caught:
                await agent.lease()
            assert caught.value.code == "secret-unavailable"
            assert "secret github from environment variable COATCHECK_TEST_CANARY" in str(caught.value)
            monkeypatch.setenv("COATCHECK_TEST_CANARY", "another-value-that-is-long-enough-for-a-placeholder")
            clock.move(2)
            assert (await agent.lease()).secrets[0].value == b"another-value-that-is-long-enough-for-a-placeholder"

    run(scenario)


def test_a_broken_secret_does_not_stop_a_job(state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        specs = (spec(), spec(name="broken", **{"from": {"environment": "COATCHECK_TEST_LATER"}}))
        async with vault_at(state, clock, *specs) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            github, broken = await agent.start()
            assert github.text
            assert (broken.text, broken.env) == ("", None)
            assert "COATCHECK_TEST_LATER" in broken.problem
            assert await rule_of(agent.mint(secret="broken")) == "secret-unavailable"
            status: VaultStatus = await client.call("status", result=VaultStatus)
            assert status.secrets["github"] == "ok"
            assert "COATCHECK_TEST_LATER" in status.secrets["broken"]
            monkeypatch.setenv("COATCHECK_TEST_LATER", "value-of-later-that-is-long-enough-for-a-placeholder")
            clock.move(2)
            assert await agent.mint(secret="broken")
            assert {s.name for s in (await agent.lease()).secrets} == {"github", "broken"}

    run(scenario)


def test_a_secret_without_a_sound_shape_says_so(state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setenv("COATCHECK_TEST_CANARY", "hunter2")
        async with vault_at(state, clock, spec()) as (vault, client, _k):
            (granted,) = await Agent(client, JOB, KEY).start()
            assert granted.text == ""
            assert "128" in granted.problem
            assert "hunter2" not in granted.problem
            await vault.cloakroom.check_sources(60)
            status: VaultStatus = await client.call("status", result=VaultStatus)
            assert status.secrets == {"github": granted.problem}

    run(scenario)


# ---- minting and uses ----


def test_a_minted_placeholder_has_only_what_it_was_narrowed_to(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(hosts=(HOST, "b.test"), ttl=100)) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            (own,) = await agent.start()
            minted = await agent.mint(ttl=10, host=HOST, method="GET", path="/repos/*/issues")
            placeholders = (await agent.lease()).secrets[0].placeholders
            assert [p.text for p in placeholders] == [own.text, minted]
            assert placeholders[1].counted
            assert placeholders[1].expires == clock.now() + 10
            assert await rule_of(agent.use(minted, path="/repos/a/issues")) == "ok"
            assert await rule_of(agent.use(minted, path="/repos/a/issues", host="b.test")) == "placeholder-host"
            assert await rule_of(agent.use(minted, path="/repos/a/issues", method="PUT")) == "placeholder-method"
            for path in (
                "/repos/a/b/issues", "/repos/a/issues/1", "/x/repos/a/issues", "/repos/a%2Fb/issues", "",
                "/repos/../issues", "/repos/%2e%2e/issues", "/repos/a\\..\\b/issues", "/repos/..;/issues",
                "/repos/./issues",
            ):  # fmt: skip
                assert await rule_of(agent.use(minted, path=path)) == "placeholder-path", path
            clock.move(10)
            assert await rule_of(agent.use(minted, path="/repos/a/issues")) == "placeholder-expired"
            assert (await agent.whose(minted)).state == "expired"
            assert len((await agent.lease()).secrets[0].placeholders) == 1

    run(scenario)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"ttl": 101}, "mint-ttl"),
        ({"ttl": 0}, "mint"),
        ({"ttl": float("nan")}, "mint"),
        ({"ttl": float("inf")}, "mint"),
        ({"uses": 0}, "mint"),
        ({"uses": 4}, "mint-uses"),
        ({"host": "elsewhere.test"}, "mint-host"),
        ({"path": "repos"}, "mint"),
        ({"path": "/" + "a" * 600}, "mint"),
        ({"path": "/\n"}, "mint"),
        ({"method": "GÉT"}, "mint"),
        ({"secret": "nothing"}, "mint-unknown"),
        ({"ttl": 100, "uses": 3, "host": HOST}, "ok"),
    ],
)
def test_minting_never_widens(state: Path, clock: Clock, asked: dict[str, Any], expected: str) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(ttl=100, uses=3)) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            await agent.start()
            assert await rule_of(agent.mint(**asked)) == expected

    run(scenario)


PASSWORD = {"slots": ({"in": "postgres", "name": "app"},)}


@pytest.mark.parametrize(
    ("changes", "asked", "expected"),
    [
        (PASSWORD, {"method": "GET"}, "mint-narrowing"),
        (PASSWORD, {"path": "/a"}, "mint-narrowing"),
        (PASSWORD, {"host": HOST, "ttl": 10, "uses": 1}, "ok"),
        ({"slots": (*PASSWORD["slots"], {"in": "header", "name": "x-key"})}, {"method": "GET"}, "ok"),
    ],
)
def test_a_password_is_narrowed_by_host_only(
    state: Path, clock: Clock, changes: dict[str, Any], asked: dict[str, Any], expected: str
) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(**changes)) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            (own,) = await agent.start()
            (secret,) = (await agent.lease()).secrets
            assert (secret.slots[0], secret.placeholders[0].text) == (Slot("postgres", "app"), own.text)
            assert await rule_of(agent.mint(**asked)) == expected
            assert await rule_of(agent.use(own.text, method="", path="")) == "ok"  # a session has neither

    run(scenario)


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nMC4C\n"


def test_a_certificate_is_leased_by_label_and_no_placeholder_is_made(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COATCHECK_TEST_CANARY", CERTIFICATE)
    certificate = {"env": None, "slots": ({"in": "upstream-certificate"},)}

    async def scenario() -> None:
        specs = (spec(labels=("ci",), **certificate), spec(name="other", labels=("deploy",), **certificate))
        async with vault_at(state, clock, *specs) as (vault, client, _k):
            agent = Agent(client, JOB, KEY)
            assert await agent.start() == []
            (secret,) = (await agent.lease()).secrets
            assert (secret.name, secret.slots, secret.placeholders) == (
                SecretName(GITHUB),
                (Slot("upstream-certificate", ""),),
                (),
            )
            assert secret.value.decode().strip() == CERTIFICATE.strip()
            assert (await agent.lease(host="elsewhere.test")).secrets == ()
            assert (await agent.lease(destination="elsewhere")).secrets == ()
            assert await rule_of(agent.mint()) == "mint-none"
            await vault.cloakroom.check_sources(60.0)
            assert set(vault.cloakroom.states().values()) == {"ok"}

    run(scenario)


def test_a_value_that_becomes_one_of_lines_is_not_leased(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec()) as (vault, client, _k):
            agent = Agent(client, JOB, KEY)
            await agent.start()
            monkeypatch.setenv("COATCHECK_TEST_CANARY", CERTIFICATE)
            clock.move(61)
            with pytest.raises(EnvironmentFailed, match="one line"):
                await agent.lease()
            assert "one line" in vault.cloakroom.states()[SecretName(GITHUB)]

    run(scenario)


def test_of_a_hundred_simultaneous_uses_of_a_single_use_one_wins(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec()) as (_, _c, _k):
            agents = [Agent(IpcClient("vault", str(state.parent / "vault.sock"), 0), JOB, KEY) for _ in range(10)]
            for agent in agents:
                await agent.start()
            text = await agents[0].mint(uses=1)
            outcomes = await asyncio.gather(*(rule_of(agents[n % 10].use(text)) for n in range(100)))
            assert sorted(outcomes) == ["ok"] + ["placeholder-used-up"] * 99
            assert (await agents[0].whose(text)).state == "used-up"
            for agent in agents:
                await agent.client.close()

    run(scenario)


def test_minting_does_not_multiply_the_uses_of_a_job(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec(uses=5)) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            (own,) = await agent.start()
            texts = [own.text, *[await agent.mint() for _ in range(3)], await agent.mint(uses=5)]
            outcomes = await asyncio.gather(*(rule_of(agent.use(text)) for text in texts * 10))
            assert outcomes.count("ok") == 5
            assert set(outcomes) == {"ok", "placeholder-used-up"}
            assert await rule_of(agent.mint()) == "placeholder-used-up"
            leased = (await agent.lease()).secrets[0]
            assert [p.text for p in leased.placeholders] == [own.text]  # what the server sends is still turned back

    run(scenario)


def test_a_stolen_placeholder_is_of_no_use(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec()) as (_, client, _k):
            victim, thief = Agent(client, JOB, KEY), Agent(client, OTHER_JOB, OTHER_KEY)
            (stolen,) = await victim.start()
            (own,) = await thief.start()
            assert stolen.text != own.text
            assert await rule_of(thief.use(stolen.text)) == "placeholder-foreign"
            assert [p.text for p in (await thief.lease()).secrets[0].placeholders] == [own.text]
            assert await thief.whose(stolen.text) == PlaceholderState("live", JOB, SecretName("github"))
            assert await rule_of(thief.use("no-placeholder")) == "placeholder-unknown"
            assert (await thief.whose("no-placeholder")).state == "unknown"
            assert (await thief.whose(CANARY)).state == "unknown"

    run(scenario)


def test_the_end_of_a_job_revokes_all_it_holds(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec()) as (_, client, _k):
            agent, other = Agent(client, JOB, KEY), Agent(client, OTHER_JOB, OTHER_KEY)
            (own,) = await agent.start()
            await other.start()
            minted = await agent.mint()
            await client.call("forget_job", JOB)
            for text in (own.text, minted):
                assert (await agent.whose(text)).state == "revoked"
                assert await rule_of(agent.use(text)) == "placeholder-revoked"
            assert (await agent.lease()).secrets == ()
            assert (await other.lease()).secrets
            status: VaultStatus = await client.call("status", result=VaultStatus)
            assert (status.jobs, status.placeholders) == (1, 1)

    run(scenario)


def test_an_invalid_token_gets_nothing(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock, spec()) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            (own,) = await agent.start()
            good, agent.token = agent.token, agent.token[:-4] + "AAAA"
            assert await rule_of(agent.lease()) == "token-invalid"
            assert await rule_of(agent.use(own.text)) == "token-invalid"
            agent.token = good
            clock.move(300)
            assert await rule_of(agent.lease()) == "token-expired"
            assert await rule_of(agent.use(own.text)) == "token-expired"

    run(scenario)


# ---- restart ----


def test_a_restart_keeps_live_jobs_and_their_counts(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        kernel = FakeKernel()
        specs = (spec(uses=10),)
        async with vault_at(state, clock, *specs, kernel=kernel) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            (own,) = await agent.start()
            token = agent.token
            minted = await agent.mint(uses=3, path="/a/**")
            await agent.use(minted, path="/a/b")
            other = Agent(client, OTHER_JOB, OTHER_KEY)
            (gone,) = await other.start()
            await client.call("forget_job", OTHER_JOB)
        async with vault_at(state, clock, *specs, kernel=kernel) as (_, client, _k):
            agent = Agent(client, JOB, KEY)
            agent.token = token  # the token from before is still good
            assert [p.text for p in (await agent.lease()).secrets[0].placeholders] == [own.text, minted]
            assert [g.text for g in await agent.start()] == [own.text]
            assert await rule_of(agent.use(minted, path="/b")) == "placeholder-path"
            outcomes = [await rule_of(agent.use(minted, path="/a/b")) for _ in range(3)]
            assert outcomes == ["ok", "ok", "placeholder-used-up"]
            assert [await rule_of(agent.use(own.text)) for _ in range(8)] == ["ok"] * 7 + ["placeholder-used-up"]
            assert (await agent.whose(gone.text)).state == "revoked"

    run(scenario)


# ---- leaves, heads ----


def test_leaves_are_minted_and_cached(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock) as (vault, client, _):
            first: Leaf = await client.call("leaf", "api.github.test", result=Leaf)
            assert await client.call("leaf", "api.github.test", result=Leaf) == first
            assert vault.authority.minted == 1
            assert "PRIVATE" not in repr(first)
            assert await rule_of(client.call("leaf", "*.github.test")) == "leaf-host"
            assert (await client.call("ca", result=str)).startswith("-----BEGIN CERTIFICATE-----")

    run(scenario)


def test_heads_are_signed_forwards_only(state: Path, clock: Clock) -> None:
    async def scenario() -> None:
        def head(sequence: int, fill: int) -> Head:
            return Head(sequence, bytes([fill]) * 32, clock.now())

        async with vault_at(state, clock) as (_, client, _k):
            assert await client.call("last_head", result=SignedHead | None) is None
            first: SignedHead = await client.call("sign_head", head(10, 1), result=SignedHead)
            published: dict[str, Any] = await client.call("jwks", result=dict[str, Any])
            keys_of(published)[first.key_id].verify(first.signature, signed_bytes(first.head))
            assert await client.call("sign_head", head(10, 1), result=SignedHead) == first
        async with vault_at(state, clock) as (_, client, _k):  # also after a restart
            assert await client.call("last_head", result=SignedHead | None) == first
            assert await rule_of(client.call("sign_head", head(9, 2))) == "audit-rollback"
            assert await rule_of(client.call("sign_head", head(10, 2))) == "audit-fork"
            assert await rule_of(client.call("sign_head", Head(11, b"short", 0.0))) == "head"
            assert await rule_of(client.call("sign_head", head(1 << 63, 2))) in ("head", "ipc-params")
            second: SignedHead = await client.call("sign_head", head(11, 2), result=SignedHead)
            assert second.key_id == first.key_id
            raced = await asyncio.gather(*(rule_of(client.call("sign_head", head(12, fill))) for fill in range(20)))
            assert sorted(raced) == ["audit-fork"] * 19 + ["ok"]

    run(scenario)


@pytest.mark.parametrize(
    ("method", "params"),
    [("identify", 5), ("lease", {"token": 1}), ("use", None), ("whose", b"short"), ("mint", "x"), ("leaf", ["a"])],
)
def test_parameters_of_another_kind_are_refused(state: Path, clock: Clock, method: str, params: Any) -> None:
    async def scenario() -> None:
        async with vault_at(state, clock) as (_, client, _k):
            with pytest.raises(CoatcheckError) as caught:
                await client.call(method, params)
            assert isinstance(caught.value, PeerError)

    run(scenario)
