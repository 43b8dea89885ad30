"""Drivers' own published test suites: how each is made ready, started, and its outcome read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.world.world import REPOSITORY

FOREIGN = REPOSITORY / "build" / "foreign"
GO = Path("/usr/share/gocode/src")
DIFFERENCES = Path(__file__).parent / "differences.toml"

_PYTEST = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+)", re.MULTILINE)
_GO = re.compile(r"^--- (PASS|FAIL|SKIP): (\S+)", re.MULTILINE)
_FEWER = ("-p", "no:cacheprovider", "-p", "no:timeout", "--color=no", "-q", "-rA", "--tb=short")
# The first sends longer and longer statements until one blocks: how long depends on the load, and over 16 MiB is
# refused. The others are about psycopg2's own locks, and wait.
_LEFT_OUT = "not flush_on_write and not concurrent_execution and not commit_concurrency"
# Of psycopg2's: those that speak with the server in other ways than by a statement and its rows.
_PSYCOPG2 = "async cancel connection copy green lobject notify transaction"


Command = Callable[[Sequence[str]], list[str]]  # the argument list to run the tests of these names, or all


@dataclass(frozen=True)
class Suite:
    """`build(folder)` makes it ready in a folder that jobs can read and enter; it is started there. `at_least` is how
    many pass directly, so that nothing silently runs empty."""

    name: str
    build: Callable[[Path], Command]
    outcome: re.Pattern[str]
    at_least: int
    env: dict[str, str] = field(default_factory=dict)

    def results(self, output: str) -> dict[str, str]:
        return {name: outcome for outcome, name in self.outcome.findall(output)}


def _python(source: str, files: str) -> Callable[[Path], Command]:
    def build(folder: Path) -> Command:
        (found,) = FOREIGN.glob(source)
        shutil.copytree(found / "tests", folder / "tests", dirs_exist_ok=True)
        (folder / "pytest.ini").write_text("[pytest]\n")  # not ours
        base = [sys.executable, "-m", "pytest", *_FEWER, "-k", _LEFT_OUT]
        every = [f"tests/test_{name}.py" for name in files.split()]
        return lambda names: [*base, *(names or every)]

    return build


def _go(package: str) -> Callable[[Path], Command]:
    def build(folder: Path) -> Command:
        shutil.copytree(GO / package, folder / "source", dirs_exist_ok=True)
        environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOPATH": "/usr/share/gocode"}
        suite = str(folder / "suite")
        subprocess.run(["go", "test", "-vet=off", "-c", "-o", suite, package], env=environment, check=True)
        script = 'cd source && exec "$0" -test.v -test.parallel 2 -test.run "$1"'
        return lambda names: ["sh", "-c", script, suite, f"^({'|'.join(names) or '.*'})$"]

    return build


SUITES = [
    Suite("psycopg2", _python("psycopg2*", _PSYCOPG2), _PYTEST, 200, {"PSYCOPG2_TESTDB": "app"}),
    Suite("lib-pq", _go("github.com/lib/pq"), _GO, 150),
]


def differences(suite: str) -> dict[str, str]:
    """Tests whose outcome through the appliance may be another than directly, each with the reason."""
    all_suites: dict[str, dict[str, str]] = tomllib.loads(DIFFERENCES.read_text())
    return all_suites.get(suite, {})
