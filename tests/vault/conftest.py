"""A state folder, time that a test moves, and a vault put together in this process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vault.rig import Clock


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder as the supervisor makes it for the vault: on a path that every account may enter."""
    base = Path(tempfile.mkdtemp(prefix="coatcheck-test-"))
    base.chmod(0o755)
    folder = base / "vault"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(base)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _no_task_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A task whose error nobody read is told by asyncio's own log: a mistake of ours."""
    yield
    assert not [r.getMessage() for r in caplog.get_records("call") if r.name == "asyncio" and r.levelno >= 30]
