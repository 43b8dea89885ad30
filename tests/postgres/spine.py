"""A world with a PostgreSQL server outside and a running appliance that knows its password.

    agent (uid 65534, in a job)  --  Coatcheck  --  db.example.test (OUTSIDE4:5432, tests.postgres.server)

The job has its placeholder in PGPASSWORD: that secret's `env`. Destination and secret are both named `db`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from tests.postgres.server import HOST, PASSWORD, PORT, Server, Version
from tests.postgres.session import AGENT_UID, variables
from tests.world import OUTSIDE4, World
from tests.world.appliance import Appliance
from tests.world.pki import Pair, TestAuthority

Change = Callable[[dict[str, Any], dict[str, Any]], None]

# The job is told where our CA is in SSL_CERT_FILE and its like; libpq and its descendants want a variable of their own.
_JOB = 'export PGSSLROOTCERT="${PGSSLROOTCERT-$SSL_CERT_FILE}"; exec "$@"'


class Spine:
    """`with Spine() as spine:`. `change(config, destination)` may edit both before anything starts; without TLS the
    destination is a plain one. A Session, too: `run` is a job."""

    name = "governed"

    def __init__(
        self,
        change: Change | None = None,
        *,
        version: Version = "15",
        tls: bool = True,
        pair: Callable[[TestAuthority], Pair] | None = None,
        settings: dict[str, str] | None = None,
        hba: str | None = None,
        environment: Mapping[str, str] | None = None,
        sslmode: str = "verify-full",
    ) -> None:
        self._change = change
        self._version: Version = version
        self._tls = tls
        self._pair = pair
        self._settings = settings
        self._hba = hba
        self._sslmode = sslmode
        self._environment = {"DB_PASSWORD": PASSWORD, **(environment or {})}
        self.world = World()

    def __enter__(self) -> Spine:
        self.world.__enter__()
        try:
            self.authority = TestAuthority(self.world.dir)
            self.server = Server(
                self.world,
                self.authority if self._tls else None,
                version=self._version,
                pair=self._pair(self.authority) if self._pair else None,
                settings=self._settings,
                hba=self._hba,
            )
            self.config: dict[str, Any] = {
                "workloads": [{"name": "agent", "match": {"uid": [AGENT_UID]}, "groups": ["ci"]}],
                "secrets": [
                    {
                        "name": "db",
                        "from": {"environment": "DB_PASSWORD"},
                        "env": "PGPASSWORD",
                        "destinations": ["db"],
                        "hosts": [HOST],
                        "slots": [{"in": "postgres"}],
                    }
                ],
                "dns": {"hosts": {HOST: [OUTSIDE4]}},
                "tls": {"upstream_ca_files": [str(self.authority.file)], "system_roots": False},
            }
            self.destination: dict[str, Any] = {
                "name": "db",
                "hosts": [HOST],
                "ports": [PORT],
                "protocol": "postgres" if self._tls else "plain-postgres",
                "principals": ["agent"],
                "secrets": ["db"],
                "addresses": [f"{OUTSIDE4}/32"],
                "rules": [{"name": "any"}],
            }
            if self._change is not None:
                self._change(self.config, self.destination)
            self.appliance = Appliance(
                self.world, self.config, {"destinations": [self.destination]}, environment=self._environment
            )
            self.server.__enter__()
            self.appliance.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if hasattr(self, "appliance"):
                self.appliance.stop()
        finally:
            try:
                if hasattr(self, "server"):
                    self.server.stop()
            finally:
                self.world.close()

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """A job. PGPASSWORD is the placeholder unless `env` has another."""
        base = variables("", sslmode=self._sslmode)
        del base["PGPASSWORD"]
        again = "; ".join(f"export {name}='{value}'" for name, value in (env or {}).items() if name == "PGPASSWORD")
        script = f"{again}; {_JOB}" if again else _JOB
        return self.appliance.job(["sh", "-c", script, "sh", *argv], env={**base, **(env or {})}, **options)

    def shell(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`script` by bash in a job."""
        return self.run(["bash", "-c", script], **options)

    def sql(self, text: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Statements by psql in a job: errors with their SQLSTATE, detail and hint, and on it goes."""
        argv = ["psql", "-X", "-q", "-A", "-t", "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never"]
        return self.run(argv, input=text, **options)
