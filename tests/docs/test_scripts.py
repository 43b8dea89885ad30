"""The two scripts that a newcomer runs first."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.tree import files, name_of
from tests.world.world import REPOSITORY

DEV = REPOSITORY / "dev"
CI = REPOSITORY / ".ci" / "run"


def dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DEV, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", [path for path in files() if path.read_bytes().startswith(b"#!")], ids=name_of)
def test_scripts_can_be_run_and_are_sound(script: Path) -> None:
    assert os.access(script, os.X_OK)
    if b"bash" in script.read_bytes().splitlines()[0]:
        done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_without_a_command_it_lists_all_of_them() -> None:
    known = set(re.findall(r"^(\w+)\)", DEV.read_text().split('case "$command" in', 1)[1], re.MULTILINE))
    listed = set(re.findall(r"^  (\w+)", dev().stdout, re.MULTILINE))
    assert {"demo", "test", "lint", "bench", "fuzz", "clean"} <= known
    assert listed == known
    assert dev("--help").stdout == dev().stdout


def test_an_unknown_command_is_said() -> None:
    done = dev("tset")
    assert done.returncode == 64
    assert "there is no command 'tset'" in done.stderr


def test_ci_runs_what_a_developer_runs() -> None:
    assert "exec ./dev test" in CI.read_text()
