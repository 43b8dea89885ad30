"""A driver's own tests end the same with the appliance as without, but for those in differences.toml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.postgres.server import Server
from tests.postgres.session import Direct, Session
from tests.postgres.spine import Spine
from tests.postgres.suites import SUITES, Suite, differences
from tests.world import World
from tests.world.pki import TestAuthority

pytestmark = [pytest.mark.world, pytest.mark.timeout(300)]
_LONGEST = 120  # seconds, of one run
_AGAIN = 2  # times: others' tests have clocks in them


class _Way:
    """A server, and how its suites get there."""

    def __init__(self, world: World, session: Session) -> None:
        self._world = world
        self._session = session

    def built(self, suite: Suite) -> _Built:
        folder = self._world.dir / suite.name
        folder.mkdir()
        folder.chmod(0o777)
        return _Built(suite, self._session, folder)


class _Built:
    def __init__(self, suite: Suite, session: Session, folder: Path) -> None:
        self._suite = suite
        self._session = session
        self._folder = folder
        self._command = suite.build(folder)
        self.said = ""

    def run(self, names: Sequence[str] = ()) -> dict[str, str]:
        """The outcome of each test."""
        env = {"PGUSER": "owner", "HOME": str(self._folder), **self._suite.env}
        argv = ["sh", "-c", 'cd "$0" && exec timeout -k 2 "$@"', str(self._folder), str(_LONGEST)]
        done = self._session.run([*argv, *self._command(names)], env=env, timeout=_LONGEST + 20)
        self.said = done.stdout
        assert done.returncode != 124, f"not done in {_LONGEST} s:\n{self.said[-2000:]}"
        return self._suite.results(done.stdout)


@pytest.fixture(scope="module")
def ways() -> Iterator[tuple[_Way, _Way]]:
    """Two servers alike, one directly, the other through an appliance."""
    with World() as world, Spine() as spine:
        authority = TestAuthority(world.dir)
        with Server(world, authority):
            yield _Way(world, Direct(world, authority.file)), _Way(spine.world, spine)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_suite(suite: Suite, ways: tuple[_Way, _Way]) -> None:
    """Both ways at once: each waits most of the time. What differs is run again, alone."""
    direct, governed = (way.built(suite) for way in ways)
    with ThreadPoolExecutor(2) as both:
        first, through = both.map(_Built.run, (direct, governed))
    assert sum(outcome in ("PASS", "PASSED") for outcome in first.values()) >= suite.at_least
    different = _different(first, through)
    for _ in range(_AGAIN):
        if different:
            names = sorted(different)
            different = _different(direct.run(names), governed.run(names))
    assert different.keys() == differences(suite.name).keys(), f"{different}\n{governed.said[-5000:]}"


def _different(direct: dict[str, str], governed: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    pairs = {name: (direct.get(name), governed.get(name)) for name in direct | governed}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
