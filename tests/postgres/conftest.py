"""One world with a server in it for the tests of a module, and the ways to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres.server import Server
from tests.postgres.session import Direct, Session
from tests.world import World
from tests.world.pki import TestAuthority


@pytest.fixture(scope="module", params=["direct"])
def way(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A server, and one of the ways to it."""
    with World() as world:
        authority = TestAuthority(world.dir)
        with Server(world, authority):
            yield Direct(world, authority.file)
