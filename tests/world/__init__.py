"""A private network to try the product in, without touching the machine's own.

In: nothing but root. Out: `World`, a context manager with two network namespaces joined by a veth pair,

    host     where the appliance and the jobs live      10.77.0.1  fd77::1
    outside  where the servers live                     10.77.0.2  fd77::2

a cgroup of its own, a temporary folder, and ways to run programs and make sockets in either namespace.

Always: names are unique, so that worlds do not meet; the root namespace's links, routes and rules are never
touched; at the end, also after a failure, every process, mount, namespace, cgroup and file is gone.

`cgroup` the cgroup2 mount and trees in it, `namespaces` the two namespaces, `world` the whole. The pytest
fixture `world` comes from `tests/conftest.py`; the demo and the benchmarks import `World`.
"""

from tests.world.cgroup import cgroup2_mount
from tests.world.namespaces import Where
from tests.world.world import HOST4, HOST6, OUTSIDE4, OUTSIDE6, World

__all__ = ["HOST4", "HOST6", "OUTSIDE4", "OUTSIDE6", "Where", "World", "cgroup2_mount"]
