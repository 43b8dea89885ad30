"""A batch: in order, side by side, all or none; heads by count, by time, and at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit.chain import read_line
from appliance.audit.committer import Committer
from appliance.audit.log import files_of, open_log
from appliance.audit.verify import verify_files
from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import Denied, EnvironmentFailed
from appliance.model.record import FlowClosed
from tests.audit.signer import FakeVaultSigner
from tests.audit.test_chain import closed


def make(
    path: Path, signer: FakeVaultSigner, *, every: int = 1000, interval: float = 1000.0
) -> tuple[Committer, list[str]]:
    troubles: list[str] = []
    committer = Committer(
        open_log(path, signer.last),
        signer.sign,
        lambda: 1.0,
        checkpoint_records=every,
        checkpoint_interval=interval,
        trouble=troubles.append,
    )
    return committer, troubles


def sent(path: Path) -> list[int]:
    read = [read_line(line).record for line in path.read_bytes().splitlines()]
    return [record.sent for record in read if isinstance(record, FlowClosed)]


def test_a_batch_is_one_write_and_is_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path = tmp_path / "audit.jsonl"
    writes: list[int] = []
    real = os.write

    async def main() -> None:
        committer, troubles = make(path, FakeVaultSigner())

        def counted(fd: int, data: bytes) -> int:
            writes.append(len(data))
            return real(fd, data)

        monkeypatch.setattr("appliance.audit.log.os.write", counted)
        for n in range(20):
            assert committer.append([closed(n * 10 + i) for i in range(3)]) == 3 * (n + 1)
            assert len(writes) == n + 1
            assert sum(writes) == path.stat().st_size
        assert committer.append([]) == 60
        monkeypatch.undo()
        await committer.stop()
        assert not troubles

    asyncio.run(main())
    assert sent(path) == [n * 10 + i for n in range(20) for i in range(3)]


def test_if_the_write_fails_the_caller_is_told_and_the_next_may_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"

    async def main() -> None:
        committer, _ = make(path, FakeVaultSigner())
        committer.append([closed(1)])

        def full(fd: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("appliance.audit.log.os.write", full)
        for n in range(5):
            with pytest.raises(EnvironmentFailed):
                committer.append([closed(n)])
        monkeypatch.undo()
        assert committer.failed == 5
        assert committer.append([closed(2)]) == 2
        await committer.stop()

    asyncio.run(main())
    assert sent(path) == [1, 2]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_heads_by_count_by_time_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    signer = FakeVaultSigner()

    async def by_count() -> None:
        committer, troubles = make(path, signer, every=10)
        committer.start(signer.last)
        for n in range(12):
            committer.append([closed(n)])
        await until(lambda: committer.signed_through == 12)
        committer.append([closed(13)])
        assert committer.unsigned == 1
        await committer.stop()
        assert committer.signed_through == 14
        assert not troubles

    async def by_time() -> None:
        committer, _ = make(path, signer, interval=0.02)
        committer.start(signer.last)
        committer.append([closed(20)])
        await until(lambda: committer.signed_through == committer.log.tip.sequence - 1)
        tip = committer.log.tip
        await asyncio.sleep(0.1)
        assert committer.log.tip == tip  # nothing new: no further head
        await committer.stop()

    asyncio.run(by_count())
    asyncio.run(by_time())
    report = verify_files(files_of(path), signer.keys, signer.last)
    assert report.ok, report.findings
    assert report.signed_through == report.last - 1


def test_without_the_vault_records_are_still_written_and_signed_later(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    signer = FakeVaultSigner()

    async def main() -> None:
        away = True

        async def sign(head: Head) -> SignedHead:
            if away:
                raise EnvironmentFailed("vault-gone", "the vault process cannot be reached")
            return signer.sign_now(head)

        troubles: list[str] = []
        committer = Committer(
            open_log(path, None),
            sign,
            lambda: 1.0,
            checkpoint_records=1,
            checkpoint_interval=0.01,
            trouble=troubles.append,
        )
        committer.start(None)
        assert committer.append([closed(1)]) == 1
        await until(lambda: troubles)
        assert committer.unsigned == 1
        away = False
        await until(lambda: committer.signed_through == 1)
        await committer.stop()

    asyncio.run(main())
    assert verify_files(files_of(path), signer.keys, signer.last).ok


def test_a_vault_that_refuses_the_head_ends_all_writing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    async def main() -> None:
        async def sign(head: Head) -> SignedHead:
            raise Denied("audit-head", "sequence 1 is lower than 9, which was signed already")

        troubles: list[str] = []
        committer = Committer(
            open_log(path, None),
            sign,
            lambda: 1.0,
            checkpoint_records=1,
            checkpoint_interval=9.0,
            trouble=troubles.append,
        )
        committer.start(None)
        committer.append([closed(1)])
        await until(lambda: troubles)
        with pytest.raises(EnvironmentFailed, match="refuses to sign"):
            committer.append([closed(2)])
        await committer.stop()

    asyncio.run(main())


def test_a_slow_vault_holds_nobody_up(tmp_path: Path) -> None:
    """Lines are written while the vault signs: the checkpoint then stands after them."""
    path = tmp_path / "audit.jsonl"
    signer = FakeVaultSigner()

    async def main() -> None:
        go = asyncio.Event()

        async def sign(head: Head) -> SignedHead:
            await go.wait()
            return signer.sign_now(head)

        committer = Committer(
            open_log(path, None), sign, lambda: 1.0, checkpoint_records=2, checkpoint_interval=9.0, trouble=print
        )
        committer.start(None)
        committer.append([closed(1), closed(2)])
        await asyncio.sleep(0.02)
        assert committer.append([closed(3)]) == 3
        go.set()
        await until(lambda: committer.signed_through == 2)
        assert committer.log.tip.sequence == 4
        assert committer.unsigned == 1
        await committer.stop()

    asyncio.run(main())
    report = verify_files(files_of(path), signer.keys, signer.last)
    assert report.ok, report.findings
