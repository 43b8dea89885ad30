"""Every client says the same, directly and as a job that holds nothing but a placeholder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.postgres.programs import PROGRAMS, Program
from tests.postgres.session import Session

pytestmark = pytest.mark.world


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Of programs, built once. Jobs read it."""
    with TemporaryDirectory(prefix="cc-programs-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_client(way: Session, folder: Path, program: Program) -> None:
    done = way.run(program.build(folder), timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == program.expected, done.stderr
