from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that processes of other users can reach sockets in; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory(prefix="coatcheck-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
