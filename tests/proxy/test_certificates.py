"""Leaves are asked for once, kept for a time and in number; a worker that would trust nothing does not start."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.config.schema import Tls
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Leaf
from appliance.model.errors import EnvironmentFailed
from appliance.proxy import certificates as module
from appliance.proxy.certificates import Leaves, upstream_context
from tests.proxy.loops import run
from tests.world.pki import TestAuthority


class Vault:
    def __init__(self, folder: Path) -> None:
        pair = TestAuthority(folder).issue("a.example")
        self.chain, self.key = pair.chain.read_text(), pair.key.read_text()
        self.asked: list[str] = []
        self.life = 86400.0
        self.fails = False

    async def call(self, method: str, params: Any, **_: Any) -> Leaf:
        assert method == "leaf"
        self.asked.append(params)
        await asyncio.sleep(0.001)
        if self.fails:
            raise EnvironmentFailed("vault-gone", "the vault is gone")
        return Leaf(self.chain, self.key, time.time() + self.life)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


def leaves_of(vault: Vault) -> Leaves:
    return Leaves(cast(IpcClient, vault))  # all that it uses of a client


def test_one_question_for_all_that_wait(vault: Vault) -> None:
    async def main() -> None:
        leaves = leaves_of(vault)
        found = await asyncio.gather(*(leaves.context("a.example") for _ in range(10)))
        assert len({id(each) for each in found}) == 1
        assert await leaves.context("a.example") is found[0]
        assert await leaves.context("b.example") is not found[0]
        assert vault.asked == ["a.example", "b.example"]

    run("asyncio", main())


def test_a_leaf_near_its_end_is_made_anew(vault: Vault) -> None:
    async def main() -> None:
        leaves = leaves_of(vault)
        vault.life = 3590.0
        first = await leaves.context("a.example")
        assert await leaves.context("a.example") is not first

    run("asyncio", main())


def test_so_many_are_kept_and_the_one_unused_for_longest_goes(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)

    async def main() -> None:
        leaves = leaves_of(vault)
        for host in ("a", "b", "c", "a", "d"):
            await leaves.context(host)
        assert list(leaves._contexts) == ["c", "a", "d"]
        assert leaves.minted == 4

    run("asyncio", main())


def test_a_vault_that_fails_is_asked_again(vault: Vault) -> None:
    async def main() -> None:
        leaves = leaves_of(vault)
        vault.fails = True
        for _ in range(2):
            with pytest.raises(EnvironmentFailed):
                await leaves.context("a.example")
        vault.fails = False
        await leaves.context("a.example")
        assert len(vault.asked) == 3

    run("asyncio", main())


def test_roots_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for file in (bad, tmp_path / "missing.pem"):
        with pytest.raises(EnvironmentFailed, match=file.name):
            upstream_context(Tls(upstream_ca_files=(str(file),)), "http/1.1")
    with pytest.raises(EnvironmentFailed, match="no root is trusted"):
        upstream_context(Tls(system_roots=False), "http/1.1")
    good = TestAuthority(tmp_path).file
    context = upstream_context(Tls(upstream_ca_files=(str(good),), system_roots=False), "http/1.1")
    assert context.cert_store_stats()["x509"] == 1
    assert context.check_hostname
