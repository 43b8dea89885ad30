"""PostgreSQL's regression SQL (src/test/regress/sql of 18, as pglast's source package has it) through psql.

Each file is run in a database of its own, a copy of one in which test_setup.sql was run. The data files of the
original are not there: those that matter (onek, tenk, person …) are made here. What is compared is all that psql wrote.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.postgres.server import Server
from tests.postgres.session import Session
from tests.world.world import REPOSITORY

FOLDER = REPOSITORY / "build" / "foreign"
# pg_regress' own settings of the session
_OPTIONS = "-c intervalstyle=postgres_verbose"
_ENV = {"PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "PGOPTIONS": _OPTIONS}

# Of more than 200: those in which client and server say something to each other in a way of its own, and one or two for
# each kind of value. Left out is what tells of the server alone (planner, catalogue, indexes, rights, maintenance).
_FILES = """
    arrays boolean bit char date domain enum float8 horology inet int8 interval json jsonb jsonpath money
    multirangetypes numeric polygon rangetypes rowtypes strings text timestamptz uuid varchar xml
    case groupingsets join limit returning select subselect tsearch union window with
    async conversion copy copy2 copydml copyencoding copyselect errors largeobject plancache plpgsql portals portals_p2
    prepare prepared_xacts psql psql_pipeline
    delete guc insert insert_conflict merge sequence temp transactions triggers truncate update
"""


def sources() -> list[Path]:
    return [setup_source().with_name(f"{name}.sql") for name in _FILES.split()]


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
    results = folder / "results"  # the server writes there
    results.mkdir()
    results.chmod(0o777)


# One job for all files: what it costs to start one is not what is looked at. Databases are made over the server's own
# socket; a session before it may have crashed a server whose regress.so, which is in no package, is missing.
_SCRIPT = """
own="$PROGRAMS/psql -X -q -h $OWN -U postgres -d postgres"
for file in $FILES; do
    name=$(basename "$file" .sql)
    database=regression
    if [ "$name" = test_setup ]; then database=regress_template; fi
    until $PROGRAMS/pg_isready -q -h "$OWN"; do sleep 0.1; done
    if [ "$name" != test_setup ]; then
        $own -c "drop database if exists regression with (force)" \\
            -c "create database regression template regress_template strategy file_copy" >/dev/null 2>&1
    fi
    timeout -k 5 60 $PROGRAMS/psql -X -a -q -d $database -v HIDE_TABLEAM=on <"$file" >"$OUT/$name" 2>&1
    echo "exit $?" >>"$OUT/$name"
done
"""


class Regression:
    """Runs files by `session` on `server`, which has nothing else to do. `run` returns what psql wrote, by file,
    without the name of this world's folder."""

    def __init__(self, server: Server, session: Session) -> None:
        self._server = server
        self._session = session
        self._folder = server.folder / "regress"
        self._out = self._folder / "out"
        _data(self._folder)
        self._out.mkdir()
        self._out.chmod(0o777)
        server.sql("create database regress_template template template0", database="postgres")
        server.sql("alter role owner set lc_messages = 'C'; alter role owner set lc_time = 'C'", database="postgres")
        self.setup = self.run([setup_source()])["test_setup"]

    def run(self, files: list[Path], *, timeout: float = 500.0) -> dict[str, bytes]:
        sql = self._folder / "sql"
        shutil.rmtree(sql, ignore_errors=True)
        sql.mkdir(mode=0o755)
        for source in files:
            (sql / source.name).write_bytes(source.read_bytes())
        env = {
            **_ENV,
            "PG_ABS_SRCDIR": str(self._folder),
            "PG_ABS_BUILDDIR": str(self._folder),
            "PG_LIBDIR": "/nonexistent",
            "PG_DLSUFFIX": ".so",
            "PGUSER": "owner",
            "PROGRAMS": str(self._server.programs),
            "OWN": str(self._server.folder),
            "OUT": str(self._out),
            "FILES": " ".join(str(sql / source.name) for source in files),
        }
        self._session.run(["sh", "-c", _SCRIPT], env=env, timeout=timeout)
        here = str(self._folder).encode()  # in what some errors say: each world has its own
        return {source.stem: (self._out / source.stem).read_bytes().replace(here, b"") for source in files}
