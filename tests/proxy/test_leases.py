"""A lease is for one job, principal, destination and peer; it ends; without one nothing is forwarded."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any, cast

import pytest

from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Lease, LeasedSecretWire, PlaceholderState
from appliance.model.errors import Denied, EnvironmentFailed
from appliance.model.ids import DestinationName, JobId, SecretName
from appliance.model.placeholder import LeasedPlaceholder, Narrowing, Slot
from appliance.model.verdict import Operation
from appliance.proxy.leases import LeaseKey, Leases
from tests.proxy.loops import run

REAL, TEXT = b"R" * 40, "P" * 40
KEY = LeaseKey(JobId("j-1"), "agent", DestinationName("api"), "api.example.com", 443)
GET = Operation("http", "GET", "/", (), "", "", ())


class Vault:
    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.life = 5.0
        self.value = REAL
        self.fails: Exception | None = None
        self.states: dict[bytes, PlaceholderState] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, method: str, params: Any, **_: Any) -> Any:
        self.asked.append((method, params))
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        if method == "whose":
            return self.states.get(params, PlaceholderState("unknown"))
        if method == "use":
            return None
        placeholder = LeasedPlaceholder(TEXT, Narrowing(), time.time() + 60, False)
        secret = LeasedSecretWire(SecretName("token"), self.value, (Slot("header", "authorization"),), (placeholder,))
        return Lease(time.time() + self.life, (secret,))

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _ in self.asked)


def leases_of(vault: Vault) -> Leases:
    return Leases(cast(IpcClient, vault))  # all that it uses of a client


@pytest.mark.parametrize("length", [8, 39, 41, 80, 1203])
def test_a_value_that_grows_or_shrinks_is_scrubbed_all_the_same(length: int) -> None:
    async def main() -> None:
        vault = Vault()
        vault.life = -1.0
        leases = leases_of(vault)
        await leases.get(KEY, "t")
        vault.value = b"S" * length
        scrubber = (await leases.get(KEY, "t")).scrubber
        assert scrubber.text(b"a " + vault.value + b" b") == (b"a " + b"P" * length + b" b", 1)

    run("asyncio", main())


def test_one_question_for_all_that_wait_and_none_while_it_lives() -> None:
    async def main() -> None:
        vault = Vault()
        vault.gate.clear()
        leases = leases_of(vault)
        waiting = [asyncio.ensure_future(leases.get(KEY, "t")) for _ in range(20)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # one that gives up takes nothing from the others
        vault.gate.set()
        found = await asyncio.gather(*waiting[1:])
        assert all(each is found[0] for each in found)
        assert await leases.get(KEY, "t") is found[0]
        assert vault.count("lease") == 1

    run("asyncio", main())


@pytest.mark.parametrize(
    "other",
    [
        KEY._replace(job=JobId("j-2")),
        KEY._replace(principal="other"),
        KEY._replace(destination=DestinationName("web")),
        KEY._replace(host="b.example.com"),
        KEY._replace(port=8443),
    ],
)
def test_nothing_crosses_from_one_key_to_another(other: LeaseKey) -> None:
    async def main() -> None:
        vault = Vault()
        leases = leases_of(vault)
        first = await leases.get(KEY, "t1")
        vault.value = b"S" * 40
        second = await leases.get(other, "t2")
        assert second is not first
        assert [params.token for _, params in vault.asked] == ["t1", "t2"]
        assert second.secrets[0].value.reveal() == b"S" * 40
        assert first.secrets[0].value.reveal() == REAL

    run("asyncio", main())


def test_a_lease_that_ran_out_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        vault = Vault()
        leases = leases_of(vault)
        first = await leases.get(KEY, "t")
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 10)
        again = await leases.get(KEY, "t")
        assert vault.count("lease") == 2
        assert again is not first  # its placeholder's end is another: compiled anew
        vault.fails = EnvironmentFailed("secret-unavailable", "gone")
        monkeypatch.setattr(time, "time", lambda: now + 100)
        with pytest.raises(EnvironmentFailed):
            await leases.get(KEY, "t")
        assert leases._held == {}

    run("asyncio", main())


def test_what_nobody_asks_for_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        vault = Vault()
        leases = leases_of(vault)
        await leases.get(KEY, "t")
        await leases.get(KEY._replace(job=JobId("j-2")), "t")
        leases.sweep()
        assert len(leases._held) == 2
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 10)
        leases.sweep()
        assert leases._held == {}

    run("asyncio", main())


def test_a_lease_anew_is_not_one_that_was_under_way() -> None:
    async def main() -> None:
        vault = Vault()
        vault.gate.clear()
        leases = leases_of(vault)
        old = asyncio.ensure_future(leases.get(KEY, "t"))
        await asyncio.sleep(0)
        new = asyncio.ensure_future(leases.get(KEY, "t", anew=True))
        await asyncio.sleep(0)
        vault.gate.set()
        await asyncio.gather(old, new)
        assert vault.count("lease") == 2

    run("asyncio", main())


def test_a_counted_placeholder_is_the_vaults_to_judge_and_an_expired_one_is_refused() -> None:
    async def main() -> None:
        vault = Vault()
        leases = leases_of(vault)
        live = LeasedPlaceholder(TEXT, Narrowing(), time.time() + 60, False)
        await leases.redeem(live, "t", KEY, GET)
        assert vault.count("use") == 0
        await leases.redeem(LeasedPlaceholder(TEXT, Narrowing(), time.time() + 60, True), "t", KEY, GET)
        (asked,) = [params for method, params in vault.asked if method == "use"]
        assert (asked.digest, asked.host, asked.path) == (hashlib.sha256(TEXT.encode()).digest(), KEY.host, "/")
        with pytest.raises(Denied) as caught:
            await leases.redeem(LeasedPlaceholder(TEXT, Narrowing(), time.time() - 1, False), "t", KEY, GET)
        assert caught.value.rule == "placeholder-expired"
        vault.fails = Denied("placeholder-used-up", "no")
        with pytest.raises(Denied):
            await leases.redeem(LeasedPlaceholder(TEXT, Narrowing(), time.time() + 60, True), "t", KEY, GET)

    run("asyncio", main())


@pytest.mark.parametrize(
    ("state", "rule"),
    [
        (PlaceholderState("live", JobId("j-2"), SecretName("token")), "placeholder-foreign"),
        (PlaceholderState("expired", JobId("j-2"), SecretName("token")), "placeholder-foreign"),
        (PlaceholderState("expired", JobId("j-1"), SecretName("token")), "placeholder-expired"),
        (PlaceholderState("used-up", JobId("j-1"), SecretName("token")), "placeholder-used-up"),
        (PlaceholderState("revoked", JobId("j-1"), SecretName("token")), "placeholder-revoked"),
    ],
)
def test_a_value_that_is_somebodys_placeholder_is_refused(state: PlaceholderState, rule: str) -> None:
    async def main() -> None:
        vault = Vault()
        vault.states[hashlib.sha256(b"value").digest()] = state
        with pytest.raises(Denied) as caught:
            await leases_of(vault).check_candidates(KEY.job, [b"harmless", b"value"])
        assert caught.value.rule == rule

    run("asyncio", main())


def test_a_value_that_is_nobodys_is_asked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        vault = Vault()
        leases = leases_of(vault)
        for _ in range(3):
            assert await leases.check_candidates(KEY.job, [b"value"]) is False
        assert vault.count("whose") == 1
        await leases.check_candidates(JobId("j-2"), [b"value"])
        assert vault.count("whose") == 2
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 6)
        await leases.check_candidates(KEY.job, [b"value"])
        assert vault.count("whose") == 3
        for number in range(5000):
            await leases.check_candidates(KEY.job, [b"%d" % number])
        assert len(leases._unknown) <= 4096
        vault.fails = EnvironmentFailed("vault-gone", "gone")
        with pytest.raises(EnvironmentFailed):
            await leases.check_candidates(KEY.job, [b"new"])

    run("asyncio", main())


def test_a_placeholder_minted_since_is_told() -> None:
    async def main() -> None:
        vault = Vault()
        vault.states[hashlib.sha256(b"minted").digest()] = PlaceholderState("live", KEY.job, SecretName("token"))
        leases = leases_of(vault)
        assert await leases.check_candidates(KEY.job, [b"minted"], {SecretName("token")}) is True
        assert await leases.check_candidates(KEY.job, [b"minted"], {SecretName("other")}) is False

    run("asyncio", main())
