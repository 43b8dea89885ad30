"""A spine with a second host, for services that the tests write byte by byte.

`raw.test` is a destination named `raw` of the same principal, on ports 8443 to 8459, with the same secret; it may
upgrade to WebSocket.
"""

from __future__ import annotations

from typing import Any

from tests.world import OUTSIDE4

RAW = "raw.test"
PORT = 8443
PORTS = list(range(PORT, PORT + 17))


def with_raw(config: dict[str, Any], policy: dict[str, Any]) -> None:
    """A `change` for Spine."""
    config["dns"]["hosts"][RAW] = [OUTSIDE4]
    config["secrets"][0]["destinations"].append("raw")
    config["secrets"][0]["hosts"].append(RAW)
    policy["destinations"].append(
        {
            "name": "raw",
            "hosts": [RAW],
            "ports": PORTS,
            "principals": ["agent"],
            "secrets": ["demo"],
            "addresses": [f"{OUTSIDE4}/32"],
            "upgrade": ["websocket"],
            "rules": [{"name": "any"}],
        }
    )


def with_limits(**limits: float) -> Any:
    """The same, with these limits in place of the default ones."""

    def change(config: dict[str, Any], policy: dict[str, Any]) -> None:
        with_raw(config, policy)
        config["limits"] = limits

    return change
