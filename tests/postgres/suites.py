"""Drivers' own published test suites: how each is made ready, started, and its outcome read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.postgres.server import HOST
from tests.world.world import REPOSITORY

FOREIGN = REPOSITORY / "build" / "foreign"
GO = Path("/usr/share/gocode/src")
DIFFERENCES = Path(__file__).parent / "differences.toml"

# not run either way: a hundred thousand statements one after the other, of which a hundred say the same
_LONG = "^TestListenNotifyWhileBusyIsSafe$"
_PYTEST = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+)", re.MULTILINE)
_GO = re.compile(r"^--- (PASS|FAIL|SKIP): (\S+)", re.MULTILINE)
_FEWER = (
    "-p no:cacheprovider -p no:timeout -W ignore::pytest.PytestUnknownMarkWarning --color=no -q -rA --tb=short"
    " --continue-on-collection-errors"
)


@dataclass(frozen=True)
class Suite:
    """`build(folder)` makes it ready in a folder that jobs can read and enter, and returns the argument list; it is
    started in `folder`. `stable` is what must be found passing at least, so that nothing silently runs empty."""

    name: str
    build: Callable[[Path], list[str]]
    outcome: re.Pattern[str]
    at_least: int
    env: dict[str, str] = field(default_factory=dict)

    def results(self, output: str) -> dict[str, str]:
        return {name: outcome for outcome, name in self.outcome.findall(output)}


def _python(source: str) -> Callable[[Path], list[str]]:
    def build(folder: Path) -> list[str]:
        (found,) = FOREIGN.glob(source)
        shutil.copytree(found / "tests", folder / "tests", dirs_exist_ok=True)
        (folder / "pytest.ini").write_text("[pytest]\n")  # not ours
        return [sys.executable, "-m", "pytest", *_FEWER.split(), "tests"]

    return build


def _go(package: str, skip: str = "^$") -> Callable[[Path], list[str]]:
    def build(folder: Path) -> list[str]:
        shutil.copytree(GO / package, folder / "source", dirs_exist_ok=True)
        environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOPATH": "/usr/share/gocode"}
        subprocess.run(
            ["go", "test", "-vet=off", "-c", "-o", str(folder / "suite"), package], env=environment, check=True
        )
        return [
            "sh",
            "-c",
            'cd "$1/source" && exec "$1/suite" -test.v -test.parallel 2 -test.skip "$2"',
            "sh",
            str(folder),
            skip,
        ]

    return build


SUITES = [
    Suite("psycopg2", _python("psycopg2*"), _PYTEST, 500, {"PSYCOPG2_TESTDB": "app"}),
    Suite("asyncpg", _python("asyncpg-*"), _PYTEST, 200),
    Suite("lib-pq", _go("github.com/lib/pq"), _GO, 100),
    Suite("pgx", _go("github.com/jackc/pgx/v4", _LONG), _GO, 100, {"PGX_TEST_DATABASE": f"host={HOST}"}),
]


def differences(suite: str) -> dict[str, str]:
    """Tests whose outcome through the appliance may be another than directly, each with the reason."""
    return tomllib.loads(DIFFERENCES.read_text()).get(suite, {})
