"""Where a client program runs: beside nothing, or as a job of a running appliance. The same environment, another
password: that is all the difference that a user may notice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.postgres.server import DATABASE, HOST, PASSWORD, PORT
from tests.world import OUTSIDE4, World

AGENT_UID = 65534


class Session(Protocol):
    """What a test knows of the way to the server."""

    name: str

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]: ...


def variables(password: str, *, port: int = PORT, user: str = "app", sslmode: str = "verify-full") -> dict[str, str]:
    """libpq's environment (PostgreSQL documentation, "Environment Variables"), which most drivers know too."""
    return {
        "PGHOST": HOST,
        "PGPORT": str(port),
        "PGDATABASE": DATABASE,
        "PGUSER": user,
        "PGPASSWORD": password,
        "PGSSLMODE": sslmode,
        "PGCONNECT_TIMEOUT": "20",
    }


def trust(file: Path | str) -> dict[str, str]:
    """The variables by which clients find the certificate authority; a job is given the like by `coatcheck run`."""
    return {
        "PGSSLROOTCERT": str(file),
        "SSL_CERT_FILE": str(file),
        "NODE_EXTRA_CA_CERTS": str(file),
    }


class Direct:
    """A plain program in the namespace where jobs run, with the real password; the name is in its /etc/hosts."""

    name = "direct"

    def __init__(
        self, world: World, authority: Path, *, names: Sequence[str] = (HOST,), sslmode: str = "verify-full"
    ) -> None:
        self.world = world
        self._hosts = world.dir / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost\n{OUTSIDE4} {' '.join(names)}\n")
        self._trust = trust(authority)
        self._variables = variables(PASSWORD, sslmode=sslmode)

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        options.setdefault("uid", AGENT_UID)
        options.setdefault("cwd", "/")
        return self.world.run(
            argv,
            mounts={"/etc/hosts": str(self._hosts)},
            env={**base, **self._variables, **self._trust, **(env or {})},
            **options,
        )
