"""FakeVault as a process of its own with the vault's uid: `fake_vault.py SOCKET UID CALLER`. Its memory of the last
head ends with it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.control.fakes import FakeVault


async def main() -> None:
    path, uid, caller = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    vault = FakeVault(frozenset({caller}))
    await vault.start(path)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
