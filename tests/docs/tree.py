"""The files of the checkout, and pieces of its documents."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.world.world import REPOSITORY

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = {".git", ".venv", "build", "out", "__pycache__"}


class Block(NamedTuple):
    document: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def files() -> list[Path]:
    """Every text file that is or would be committed. Where there is no git, what lies here but for what is made."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={REPOSITORY}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        found = [REPOSITORY / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [path for path in REPOSITORY.rglob("*") if not _LEFT_OUT & set(path.relative_to(REPOSITORY).parts)]
    return [path for path in found if path.is_file()]


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def blocks(language: str) -> Iterator[Block]:
    """Fenced blocks of that language in all documents."""
    for path in documents():
        text = path.read_text()
        for match in _FENCE.finditer(text):
            if match[1] == language:
                yield Block(name_of(path), text.count("\n", 0, match.start()) + 1, match[2])


def without_blocks(text: str) -> str:
    return _FENCE.sub("", text)
