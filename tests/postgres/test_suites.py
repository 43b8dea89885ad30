"""A driver's own tests end the same with the appliance as without, but for those in differences.toml."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.postgres.server import Server
from tests.postgres.session import Direct, Session
from tests.postgres.spine import Spine
from tests.postgres.suites import SUITES, Suite, differences
from tests.world import World
from tests.world.pki import TestAuthority

pytestmark = [pytest.mark.world, pytest.mark.timeout(300)]
_LONGEST = 240  # seconds, of one suite


@pytest.fixture(scope="module")
def ways() -> Iterator[dict[str, tuple[World, Session]]]:
    """Two servers alike, one directly, the other through an appliance."""
    with World() as world, Spine() as spine:
        authority = TestAuthority(world.dir)
        with Server(world, authority):
            direct = Direct(world, authority.file)
            yield {direct.name: (world, direct), spine.name: (spine.world, spine)}


def _results(suite: Suite, world: World, way: Session) -> tuple[dict[str, str], str]:
    folder = world.dir / suite.name
    folder.mkdir()
    folder.chmod(0o777)
    argv = suite.build(folder)
    script = 'cd "$0" && exec timeout -k 2 "$@"'
    env = {"PGUSER": "owner", "HOME": str(folder), **suite.env}
    done = way.run(["sh", "-c", script, str(folder), str(_LONGEST), *argv], env=env, timeout=_LONGEST + 20)
    assert done.returncode != 124, f"not done in {_LONGEST} s:\n{done.stdout[-2000:]}"
    return suite.results(done.stdout), done.stdout


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_suite(suite: Suite, ways: dict[str, tuple[World, Session]]) -> None:
    """Both ways at once: each waits most of the time."""
    with ThreadPoolExecutor(2) as both:
        started = {name: both.submit(_results, suite, *way) for name, way in ways.items()}
    direct, _ = started["direct"].result()
    governed, said = started["governed"].result()
    assert sum(outcome in ("PASS", "PASSED") for outcome in direct.values()) >= suite.at_least
    different = {name: (direct.get(name), governed.get(name)) for name in direct | governed}
    different = {name: pair for name, pair in different.items() if pair[0] != pair[1]}
    assert different.keys() == differences(suite.name).keys(), f"{different}\n{said[-20000:]}"
