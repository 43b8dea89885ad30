"""Every client says the same, directly and as a job that holds nothing but a placeholder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.postgres.programs import PROGRAMS, Program
from tests.postgres.session import Session

pytestmark = pytest.mark.world


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of programs, built once. Jobs read it."""
    made = tmp_path_factory.mktemp("programs")
    for path in (made, *made.parents[:2]):
        path.chmod(0o755)
    return made


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_client(way: Session, folder: Path, program: Program) -> None:
    done = way.run(program.build(folder), timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == program.expected, done.stderr
