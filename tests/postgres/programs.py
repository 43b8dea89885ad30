"""The client programs: how each is built and started, and what each says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.world.world import REPOSITORY

FOLDER = Path(__file__).parent / "programs"
NODE_MODULES = REPOSITORY / "build" / "node-pg" / "usr" / "share" / "nodejs"

# What every program says, unless its library cannot do that.
EXPECTED: dict[str, Any] = {
    "user": "app",
    "simple": 3,
    "null": True,
    "parameters": "42 it's 🐘",
    "binary": "00ff10",
    "prepared": [1, 4, 9],
    "committed": 2,
    "rolled_back": 2,
    "copied": 1002,
    "copied_out": 1002,
    "error": "22012",
    "after_error": 1,
    "failed_transaction": "25P02",
    "notified": "ž",
    "cancelled": "57014",
    "big": [50000, 5000000],
    "unicode": "Příliš žluťoučký 🐘",
}


@dataclass(frozen=True)
class Program:
    """`build(folder)` makes what is run, in a folder that jobs can read, and returns the argument list."""

    name: str
    build: Callable[[Path], list[str]]
    lacks: frozenset[str] = frozenset()  # of EXPECTED, what the library has no way to do
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def expected(self) -> dict[str, Any]:
        return {name: value for name, value in {**EXPECTED, **self.more}.items() if name not in self.lacks}


def _copied(file: str, *before: str, after: tuple[str, ...] = ()) -> Callable[[Path], list[str]]:
    def build(folder: Path) -> list[str]:
        shutil.copyfile(FOLDER / file, folder / file)
        return [*before, str(folder / file), *after]

    return build


def _node(folder: Path) -> list[str]:
    modules = folder / "node_modules"
    if not modules.exists():
        shutil.copytree(NODE_MODULES, modules, symlinks=True)
    return _copied("node_pg.js", "node")(folder)


def _go(package: str) -> Callable[[Path], list[str]]:
    def build(folder: Path) -> list[str]:
        environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOPATH": "/usr/share/gocode"}
        target = folder / f"{package}-client"
        subprocess.run(["go", "build", "-o", str(target), "."], cwd=FOLDER / package, env=environment, check=True)
        return [str(target)]

    return build


def _java(folder: Path) -> list[str]:
    path = f"{folder}:/usr/share/java/postgresql.jar"
    subprocess.run(
        ["javac", "-encoding", "UTF-8", "-cp", path, "-d", str(folder), str(FOLDER / "Jdbc.java")], check=True
    )
    # Debian's driver has its SCRAM library in jars of their own
    path += ":/usr/share/java/*"
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-cp", path, "Jdbc"]


def _python(file: str, *after: str) -> Callable[[Path], list[str]]:
    return _copied(file, sys.executable, after=after)


_NO_CONVERSATION = frozenset({"copied", "copied_out", "failed_transaction", "notified", "cancelled"})

PROGRAMS = [
    Program("psycopg3", _python("psycopg3.py"), more={"pipeline": [0, 1, 2]}),
    Program("psycopg2", _python("psycopg2_.py")),
    Program("asyncpg", _python("asyncpg_.py")),
    Program("sqlalchemy-psycopg", _python("sqlalchemy_.py", "psycopg"), _NO_CONVERSATION),
    Program("sqlalchemy-psycopg2", _python("sqlalchemy_.py", "psycopg2"), _NO_CONVERSATION),
    Program("node-postgres", _node, frozenset({"copied", "copied_out"})),  # COPY is another package's
    Program("lib-pq", _go("lib_pq"), frozenset({"copied_out"})),
    Program("pgx", _go("pgx")),
    Program("jdbc", _java),
    Program("php-pdo", _copied("pdo.php", "php"), frozenset({"cancelled"})),
    Program("ruby-pg", _copied("ruby_pg.rb", "ruby"), more={"pipeline": [0, 1, 2]}),
    Program("perl-dbd-pg", _copied("dbd_pg.pl", "perl")),
]
