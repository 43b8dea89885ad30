"""One running appliance for the tests of a module; whoever changes its policy puts it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.spine import Spine
from tests.world.world import REPOSITORY

Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine() as made:
        yield made


@pytest.fixture(scope="module")
def cli(spine: Spine) -> Callable[..., Run]:
    """`coatcheck ARGUMENTS…` beside the running appliance, outside any job."""
    return spine.appliance.cli


@pytest.fixture(scope="module")
def as_json(cli: Callable[..., Run]) -> Callable[..., Any]:
    """What a command says with --json, and that it ended well."""

    def ask(*arguments: str, status: int = 0) -> Any:
        done = cli(*arguments, "--json")
        assert done.returncode == status, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return ask


@pytest.fixture
def alone(tmp_path: Path) -> Callable[..., Run]:
    """`coatcheck ARGUMENTS…` where no appliance is."""

    def run(*arguments: str, **environment: str) -> Run:
        return subprocess.run(
            [sys.executable, "-m", "appliance.cli", *arguments],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY),
                "HOME": str(tmp_path),
                "COATCHECK_SOCKET": str(tmp_path / "nobody.sock"),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def sentence(done: Run, status: int) -> str:
    """The one sentence that a refused command says, and nothing else."""
    assert done.returncode == status, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("coatcheck: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("coatcheck: ").rstrip("\n")
