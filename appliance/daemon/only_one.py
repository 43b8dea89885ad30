"""One appliance to a run_dir: a lock that the kernel frees with its holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.model.errors import EnvironmentFailed

LOCK = "lock"  # below run_dir


@contextmanager
def only_one(run_dir: Path) -> Iterator[None]:
    """Holds the lock of an installation that is there. Raises EnvironmentFailed("running") if somebody has it."""
    try:
        lock = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentFailed("folders", f"{run_dir / LOCK} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EnvironmentFailed(
                "running", f"another coatcheck runs on {run_dir}; stop it, or set another run_dir"
            ) from None
        yield
    finally:
        os.close(lock)
