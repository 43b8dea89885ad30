"""What all targets share: a PostgreSQL server with TLS, its tables, and the three names that it is asked by."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.results import BenchmarkFailed
from benchmarks.setting import LOAD_CPU, Ground
from benchmarks.upstream import CREDENTIAL, Authority, issue
from tests.world import OUTSIDE4, World

JUDGED, FREE, MASKED = "upstream.test", "free.test", "masked.test"
HOSTS = (JUDGED, FREE, MASKED)
USER = DATABASE = "bench"
PORT = 5432
SCALE = 1  # pgbench: 100,000 accounts, all in the server's memory
_ROW_BYTES = 98  # of `big` in COPY's text format: four columns, three tabs, a newline; as long as pgbench_accounts'

# Unlogged, as the server's safety is not what is measured.
_TABLES = """
create unlogged table big as
    select id, '0123456789abcdef0123456789abcdef'::text as token, 42 as part, repeat('row ', 13)::varchar(51) as filler
    from generate_series(100000001, 100000000 + {big}) id;
create unlogged table people as
    select 'p' || id as key, 'Person ' || id as name, 'person' || id || '@example.com' as email,
        '+43 660 ' || id as phone, id || ' High Street' as street, 'Springfield' as city, 'AT-' || id % 9999 as code,
        'customer since ' || 1990 + id % 30 as note, md5(id::text) as token, 'active' as state
    from generate_series(1, {people}) id;
vacuum;
analyze people;
"""
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "dynamic_shared_memory_type": "mmap",  # files of its own, none in /dev/shm
    "max_parallel_workers_per_gather": "0",
    "listen_addresses": OUTSIDE4,
    "port": str(PORT),
    "ssl": "on",
    "ssl_cert_file": "upstream.pem",
    "ssl_key_file": "upstream.pem",
    "password_encryption": "scram-sha-256",  # 4,096 rounds
}
_HBA = "local all all trust\nhostssl all all all scram-sha-256\n"


def programs() -> Path:
    """Where Debian has the newest server's programs. Raises RuntimeError if there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    return found[-1].parent


class Setting(Ground):
    """`server` is up, its tables are made, when this returns."""

    port = PORT

    def __init__(self, world: World, big_mb: int, people: int) -> None:
        """`big_mb`: size of the table `big` as COPY writes it, 10^6 bytes; `people`: rows of that table."""
        super().__init__(world, {"pgbouncer": "pgbouncer"}, HOSTS)
        self.probe = f"{programs()}/psql -X -A -t -c 'select * from pgbench_branches' | wc -l"  # noqa: S608
        self.probe_answer = str(SCALE)
        self.people = people
        self.server = Server(world, self.upstream_ca)
        self.server.start(LOAD_CPU)
        self.big_rows = big_mb * 1_000_000 // _ROW_BYTES
        self.big_bytes = self.big_rows * _ROW_BYTES
        self.server.fill(self.big_rows, people)

    def environment(self, trust: Path) -> dict[str, str]:
        return {**connection(trust), "PGPASSWORD": CREDENTIAL}


def connection(trust: Path) -> dict[str, str]:
    """libpq's environment without the password."""
    return {
        "PGHOST": JUDGED,
        "PGPORT": str(PORT),
        "PGUSER": USER,
        "PGDATABASE": DATABASE,
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(trust),
        "PGCONNECT_TIMEOUT": "30",
    }


class Server:
    """PostgreSQL in the world's outside. As superuser one gets in by its socket in `folder`, past everything."""

    def __init__(self, world: World, authority: Authority) -> None:
        self._world = world
        self.folder = world.dir / "postgres"
        self.data = self.folder / "data"
        self._log = self.folder / "log"
        self._account = pwd.getpwnam("postgres")  # made by Debian's package; PostgreSQL refuses root
        self.process: subprocess.Popen[Any] | None = None
        self.folder.mkdir()
        self._own(self.folder)
        self._run("initdb", "--pgdata", str(self.data), "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        issue(authority, self.data / "upstream.pem", *HOSTS)
        (self.data / "upstream.pem").chmod(0o600)
        self._own(self.data / "upstream.pem")
        (self.data / "pg_hba.conf").write_text(_HBA)
        with open(self.data / "postgresql.conf", "a", encoding="ascii") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
            file.write(f"unix_socket_directories = '{self.folder}'\n")

    def start(self, cpu: int) -> None:
        """Raises BenchmarkFailed with its log if it does not answer."""
        # It is killed at the end: the shared memory that it then leaves behind goes with its own IPC namespace.
        argv = ["unshare", "--ipc", "--", "taskset", "-c", str(cpu)]
        argv += [
            "setpriv",
            f"--reuid={self._account.pw_uid}",
            f"--regid={self._account.pw_gid}",
            "--clear-groups",
            "--",
        ]
        argv += [str(programs() / "postgres"), "-D", str(self.data)]
        with open(self._log, "wb") as log:
            self.process = self._world.popen(
                argv,
                where="outside",
                cwd=str(self.folder),
                env={"LC_ALL": "C"},
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 30
        while not (self.folder / f".s.PGSQL.{PORT}").exists() or not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise BenchmarkFailed(f"PostgreSQL does not start:\n{self.log()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.sql("select 1", database="postgres")
        except BenchmarkFailed:
            return False
        return True

    def fill(self, big: int, people: int) -> None:
        """The role, the database and its tables, as that role."""
        self.sql(f"create role {USER} login password '{CREDENTIAL}'", database="postgres")
        self.sql(f"create database {DATABASE} owner {USER}", database="postgres")
        self._run(
            "pgbench", "-i", "-q", "--unlogged-tables", "-s", str(SCALE), "-h", str(self.folder), "-U", USER, DATABASE
        )
        self.sql(_TABLES.format(big=big, people=people), user=USER)

    def sql(self, text: str, *, database: str = DATABASE, user: str = "postgres") -> str:
        """Rows one a line. Raises BenchmarkFailed."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", user]
        return self._run("psql", *options, database, input=text).strip()

    def _run(self, program: str, *arguments: str, input: str | None = None) -> str:
        done = subprocess.run(
            [str(programs() / program), *arguments],
            user=self._account.pw_uid,
            group=self._account.pw_gid,
            extra_groups=[],
            cwd=self.folder,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            input=input,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise BenchmarkFailed(f"{program}: {done.stdout}{done.stderr}")
        return done.stdout

    def _own(self, path: Path) -> None:
        os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
