"""A driver's own tests end the same with the appliance as without, but for those in differences.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.postgres.server import Server
from tests.postgres.session import Direct, Session
from tests.postgres.spine import Spine
from tests.postgres.suites import DIFFERENCES, SUITES, Suite, differences
from tests.world import World
from tests.world.pki import TestAuthority

pytestmark = [pytest.mark.world, pytest.mark.timeout(400)]
_LONGEST = 150  # seconds, of one suite one way


def _results(suite: Suite, way: Session, world: World) -> dict[str, str]:
    folder = world.dir / "suite"
    folder.mkdir()
    folder.chmod(0o777)
    argv = suite.build(folder)
    script = 'cd "$0" && exec timeout -k 2 "$@"'
    env = {"PGUSER": "owner", "HOME": str(folder), **suite.env}
    done = way.run(["sh", "-c", script, str(folder), str(_LONGEST), *argv], env=env, timeout=_LONGEST + 30)
    assert done.returncode != 124, f"not done in {_LONGEST} s:\n{done.stdout[-2000:]}"
    return suite.results(done.stdout)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_suite(suite: Suite) -> None:
    with World() as world:
        authority = TestAuthority(world.dir)
        with Server(world, authority):
            direct = _results(suite, Direct(world, authority.file), world)
    assert sum(outcome in ("PASS", "PASSED") for outcome in direct.values()) >= suite.at_least
    with Spine() as spine:
        governed = _results(suite, spine, spine.world)
    different = {name for name in direct | governed if direct.get(name) != governed.get(name)}
    assert different == set(differences(suite.name)), {
        name: (direct.get(name), governed.get(name)) for name in different ^ set(differences(suite.name))
    }


def test_every_difference_has_a_reason() -> None:
    assert Path(DIFFERENCES).exists()
    for suite in SUITES:
        for test, reason in differences(suite.name).items():
            assert len(reason) > 20, test
