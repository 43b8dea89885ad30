"""PostgreSQL's regression SQL (src/test/regress/sql of 18, as pglast's source package has it) through psql.

Each file is run in a database of its own, a copy of one in which test_setup.sql was run. The data files of the
original are not there: those that matter (onek, tenk, person …) are made here. What is compared is all that psql wrote.
"""

from __future__ import annotations

from pathlib import Path

from tests.postgres.server import Server
from tests.postgres.session import Session
from tests.world.world import REPOSITORY

FOLDER = REPOSITORY / "build" / "foreign"
# pg_regress' own settings of the session
_OPTIONS = "-c intervalstyle=postgres_verbose"
_ENV = {"PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "PGOPTIONS": _OPTIONS}

# Not run: each reason is one for which the output is another at every run or the session takes minutes.
LEFT_OUT = {
    "test_setup": "run once, in the template",
    "infinite_recurse": "takes the server's whole stack: what it says depends on the machine",
    "numeric_big": "the same as numeric, for half a minute",
    "stats": "waits for the statistics of other sessions",
    "tablespace": "moves things that are the cluster's",
    "password": "shows salts, which are random",
    "random": "is random",
}


def sources() -> list[Path]:
    (folder,) = FOLDER.glob("pglast-*/libpg_query/test/sql/postgres_regress")
    return sorted(file for file in folder.glob("*.sql") if file.stem not in LEFT_OUT)


def setup_source() -> Path:
    (found,) = FOLDER.glob("pglast-*/libpg_query/test/sql/postgres_regress/test_setup.sql")
    return found


def _word(number: int) -> str:
    """As the data of the original has it: six letters and no more."""
    letters = ""
    while number:
        number, digit = divmod(number, 26)
        letters += chr(65 + digit)
    return (letters + "AAAAAA")[:6]


def _wisconsin(count: int) -> str:
    """The rows of the Wisconsin benchmark: unique1 in a fixed disorder, unique2 in order, the rest from them."""
    lines = []
    for second in range(count):
        first = (second * 7919 + 17) % count  # 7919 is a prime that divides no power of ten
        even = first % 100
        numbers = [first, second, first % 2, first % 4, first % 10, first % 20, first % 100]
        numbers += [first % 1000, first % 2000, first % 5000, first, even * 2, even * 2 + 1]
        words = [_word(first) + "AAAA", _word(second) + "AAAA", ("AAAAxx", "HHHHxx", "OOOOxx", "VVVVxx")[second % 4]]
        lines.append("\t".join([*map(str, numbers), *words]))
    return "\n".join([*lines, ""])


def _data(folder: Path) -> None:
    """The files that test_setup.sql copies from; the server reads them."""
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "onek.data").write_text(_wisconsin(1000))
    (data / "tenk.data").write_text(_wisconsin(10000))
    person = [f"p{n}\t{20 + n % 60}\t({n % 10},{n % 7})" for n in range(60)]
    (data / "person.data").write_text("\n".join([*person[:50], ""]))
    (data / "emp.data").write_text("".join(f"e{n}\t{25 + n}\t({n},{n})\t{n * 100}\tp{n}\n" for n in range(3)))
    (data / "student.data").write_text("".join(f"s{n}\t{19 + n}\t({n},{n})\t{n / 2}\n" for n in range(2)))
    (data / "stud_emp.data").write_text(
        "".join(f"t{n}\t{19 + n}\t({n},{n})\t{n}\tp{n}\t{n / 2}\t{n}\n" for n in range(3))
    )
    roads = [f"{'I- ' if n % 3 else 'State Hwy '}{n}\t[({n},{n}),({n + 1},{n + 2})]" for n in range(300)]
    (data / "streets.data").write_text("\n".join([*roads, ""]))
    folder.chmod(0o755)
    data.chmod(0o755)


class Regression:
    """Runs files by `session` on `server`; `run` returns what psql wrote, bytes as text (latin-1 keeps all of them)."""

    def __init__(self, server: Server, session: Session) -> None:
        self._server = server
        self._session = session
        self._folder = server.folder / "regress"
        _data(self._folder)
        self._files = self._folder / "sql"
        self._files.mkdir(mode=0o755)
        server.sql("create database regress_template template template0", database="postgres")
        env = {"PG_ABS_SRCDIR": str(self._folder), "PG_LIBDIR": "/nonexistent", "PG_DLSUFFIX": ".so"}
        self.env = {**_ENV, **env, "PG_ABS_BUILDDIR": str(self._folder), "PGUSER": "owner"}
        self.setup = self._psql(setup_source(), "regress_template")

    def run(self, source: Path) -> str:
        database = "regression"
        self._server.wait()  # the file before may have crashed a server whose regress.so is missing
        # the copy is the server's own doing, whatever is under test
        self._server.sql(f"drop database if exists {database} with (force)", database="postgres")
        self._server.sql(
            f"create database {database} template regress_template strategy file_copy;"
            f"alter database {database} set lc_messages = 'C'; alter database {database} set lc_time = 'C';"
            f"alter database {database} set timezone_abbreviations = 'Default'",
            database="postgres",
        )
        return self._psql(source, database)

    def _psql(self, source: Path, database: str) -> str:
        target = self._files / source.name
        target.write_bytes(source.read_bytes())
        target.chmod(0o644)
        programs = self._server.programs
        # both outputs in the order in which they were written, as pg_regress has it
        script = f'exec timeout -k 5 60 {programs}/psql -X -a -q -d {database} -v HIDE_TABLEAM=on -f "$0" 2>&1'
        done = self._session.run(
            ["sh", "-c", script, str(target)],
            env={**self.env, "PGDATABASE": database},
            timeout=100,
            errors="surrogateescape",
        )
        return f"{done.stdout}\nexit {done.returncode}\n"
