"""One server, directly and through the appliance, for the tests of a module that ask both ways for the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.server import Server
from tests.postgres.session import Direct, Session
from tests.postgres.spine import Spine
from tests.world import World
from tests.world.pki import TestAuthority


@pytest.fixture(scope="module", params=["direct", "governed"])
def way(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A server, and one of the ways to it."""
    if request.param == "governed":
        with Spine() as spine:
            yield spine
        return
    with World() as world:
        authority = TestAuthority(world.dir)
        with Server(world, authority):
            yield Direct(world, authority.file)
