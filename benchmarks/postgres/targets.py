"""What is measured: the appliance with its three policies, pgbouncer, and nothing in between."""

from __future__ import annotations

from typing import Any

from benchmarks.postgres.setting import DATABASE, FREE, HOSTS, JUDGED, MASKED, USER, connection
from benchmarks.targets import Direct, Peer, Target
from benchmarks.targets.coatcheck import Coatcheck
from benchmarks.upstream import CREDENTIAL, issue
from tests.world import OUTSIDE4

_PGBOUNCER = """
[databases]
{database} = host={address} port={upstream}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {dir}/users
pool_mode = session
max_client_conn = 500
default_pool_size = 200
; A server connection is used once: as ours, a login of the agent is a login at the server.
server_lifetime = 0
server_reset_query =
client_tls_sslmode = require
client_tls_key_file = {dir}/server.pem
client_tls_cert_file = {dir}/server.pem
server_tls_sslmode = verify-full
server_tls_ca_file = {ca}
log_connections = 0
log_disconnections = 0
log_stats = 0
"""


class Pgbouncer(Peer):
    """In session mode, with TLS and SCRAM-SHA-256 on both sides: what we do, less policy, masks, scrub and record."""

    name = "pgbouncer"
    client_uid = 21001
    port = 9005
    program = "pgbouncer"
    package = "pgbouncer"

    def argv(self) -> list[str]:
        issue(self.setting.proxy_ca, self.dir / "server.pem", *HOSTS)
        (self.dir / "users").write_text(f'"{USER}" "{CREDENTIAL}"\n')
        values = {
            "database": DATABASE,
            "address": OUTSIDE4,
            "upstream": self.setting.port,
            "port": self.port,
            "dir": self.dir,
            "ca": self.setting.upstream_ca.pem,
        }
        (self.dir / "pgbouncer.ini").write_text(_PGBOUNCER.format(**values))
        return ["pgbouncer", "-q", "-u", "postgres", str(self.dir / "pgbouncer.ini")]


class PostgresCoatcheck(Coatcheck):
    """Everything on, as for HTTP; the job's placeholder is in PGPASSWORD."""

    def hosts(self) -> dict[str, str]:
        return {"judged": JUDGED, "free": FREE, "masked": MASKED}

    def secret(self) -> dict[str, Any]:
        destinations = list(self.hosts())
        return {"env": "PGPASSWORD", "destinations": destinations, "hosts": list(HOSTS), "slots": [{"in": "postgres"}]}

    def destination(self, name: str, host: str) -> dict[str, Any]:
        found = {
            **super().destination(name, host),
            "protocol": "postgres",
            "databases": [DATABASE],
            "users": [USER],
        }
        if name == "free":
            return found | {"search_path": [], "rules": [{"name": "all"}]}
        rules = [
            {"name": "no-deletion", "decision": "deny", "commands": ["delete", "truncate"], "reason": "not here"},
            {"name": "read", "commands": ["select", "copy-out"], "tables": ["public.*"]},
        ]
        masks = [
            {"name": "mail", "columns": ["public.people.email"], "how": "partial"},
            {"name": "phone", "columns": ["public.people.phone"], "how": "hide"},
        ]
        return found | {"rules": rules} | ({"masks": masks} if name == "masked" else {})

    def client_environment(self) -> dict[str, str]:
        return {**super().client_environment(), **connection(self.trust)}


ALL: tuple[type[Target], ...] = (PostgresCoatcheck, Pgbouncer, Direct)
