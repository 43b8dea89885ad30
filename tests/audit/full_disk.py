"""Run by test_log in a mount namespace of its own: fills a small tmpfs under a log, and makes room again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.audit import chain
from appliance.audit.log import files_of, open_log
from appliance.audit.verify import verify_files
from appliance.model.errors import EnvironmentFailed
from tests.audit.signer import FakeVaultSigner
from tests.audit.test_chain import closed


def fails(call: object, *arguments: object) -> str:
    with pytest.raises(EnvironmentFailed) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.code == "audit"
    return str(caught.value)


def main(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], check=True)
    signer = FakeVaultSigner()
    path = folder / "audit.jsonl"
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    log = open_log(path, None, segment_bytes=60_000)
    log.append([closed(1)])
    log.checkpoint(signer.sign_now(chain.head_of(log.tip, 1.0)))
    message, batches = "", 0
    while not message:
        tip, size = log.tip, log.size
        try:
            log.append([closed(n) for n in range(50)])
            batches += 1
        except EnvironmentFailed as error:
            message = str(error)
    assert batches > 5
    assert "No space left on device" in message, message
    assert str(path) in message
    # nothing of the batch is there, and nothing was forgotten
    assert (log.tip, log.size, path.stat().st_size) == (tip, size, size)
    # small ones until not even those fit; then heads fail as well
    while True:
        try:
            log.append([closed(7)])
        except EnvironmentFailed:
            break
    assert "No space" in fails(log.append, [closed(8)])
    signed = signer.sign_now(chain.head_of(log.tip, 2.0))
    assert "No space" in fails(log.checkpoint, signed)
    assert not log.broken
    # room again: it goes on without a restart
    ballast.unlink()
    before = log.tip.sequence
    assert log.append([closed(n) for n in range(50)]).sequence == before + 50
    log.checkpoint(signer.sign_now(chain.head_of(log.tip, 3.0)))
    log.close()
    report = verify_files(files_of(path), signer.keys, signer.last)
    assert report.ok, report.findings
    assert report.last == before + 51
    assert len(files_of(path)) > 1
    print("ok")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
