"""Conversations by chance with a PostgreSQL server: any message, in any order, nobody waiting for answers. Run as a
program:

    python -m tests.postgres.conversations SEED COUNT [WORD]   # out: a line of JSON for each: what came back

The same seed says the same to whatever server there is. With WORD, some statements write into a table of that name.
What comes back has no times and numbers of its own in it; of errors, the SQLSTATE.
"""

from __future__ import annotations

import json
import random
import sys
import time

from appliance.wire.postgres import messages as m
from appliance.wire.postgres import write
from tests.postgres.raw import Line

_TEXTS = """
select 1|select n from t order by n|select 1/0|insert into t values (7) returning n|delete from t where n > 5
begin|begin|commit|rollback|savepoint a|rollback to a|release a|commit and chain
prepare p as select 1|prepare p as select n from t order by n|prepare a as insert into t values (8)|execute p|execute a
deallocate p|deallocate all|discard all
declare c cursor for select n from t order by n|declare p cursor with hold for select 2|fetch 2 from c|fetch all from p
move 1 from c|close c|close p|close all
copy t to stdout|copy (select 1) to stdout|copy t from nowhere
set application_name = 'x'|show application_name|reset all|drop table if exists nothing|syntax error||-- nothing
""".replace("\n", "|").strip("|")
_SEVERAL = """
select 1; select 2|begin; select 1|select 1; select 1/0; select 2|prepare p as select 3; execute p|commit; select 5
insert into t values (9); select 1/0|begin; insert into t values (10); commit; select 1/0|; ;|copy t to stdout; select 4
""".replace("\n", "|").strip("|")
_WRITING = """
insert into {0} values (1)|with x as (insert into {0} values (1) returning 1) select * from x|copy {0} from stdin
prepare p as insert into {0} values (1)|explain analyze insert into {0} values (1)|select 1; insert into {0} values (1)
""".replace("\n", "|").strip("|")
_NAMES = [b"", b"", b"p", b"c"]


class Talk:
    def __init__(self, seed: int, word: str) -> None:
        self._chance = random.Random(seed)
        self._single = _TEXTS.split("|")
        self._several = [*self._single, *_SEVERAL.split("|")]
        if word:
            writing = _WRITING.format(word).split("|")
            self._single += writing[:5] * 2
            self._several += writing * 2

    def messages(self) -> list[bytes]:
        parts: list[bytes] = []
        for _ in range(self._chance.randint(2, 14)):
            parts += self._some()
        return parts

    def _some(self) -> list[bytes]:
        chance = self._chance
        what = chance.random()
        text = chance.choice(self._single).encode()
        if what < 0.3:
            return [write.query(chance.choice(self._several).encode())]
        if what < 0.38:
            end = chance.choice([write.copy_done(), write.copy_fail("no")])
            data = [write.copy_data(chance.choice([b"5\n", b"6\n", b"x\n"])) for _ in range(chance.randint(0, 2))]
            copy = b"copy t from stdin"
            if chance.random() < 0.5:
                return [write.query(copy), *data, end]
            return [*self._bound(b"", copy), write.execute(b"", 0), write.sync(), *data, end, write.sync()]
        if what < 0.6:
            portal = chance.choice(_NAMES)
            return [*self._bound(portal, text), *self._described(portal), write.execute(portal, chance.randint(0, 2))]
        return [
            chance.choice(
                [
                    write.parse(chance.choice(_NAMES), text),
                    write.bind(chance.choice(_NAMES), chance.choice(_NAMES)),
                    write.describe(chance.choice([m.STATEMENT, m.PORTAL]), chance.choice(_NAMES)),
                    write.execute(chance.choice(_NAMES), chance.randint(0, 2)),
                    write.close(chance.choice([m.STATEMENT, m.PORTAL]), chance.choice(_NAMES)),
                    write.flush(),
                    write.sync(),
                    write.sync(),
                ]
            )
        ]

    def _bound(self, portal: bytes, text: bytes) -> list[bytes]:
        return [write.parse(b"", text), write.bind(portal, b"")]

    def _described(self, portal: bytes) -> list[bytes]:
        return [write.describe(m.PORTAL, portal)] if self._chance.random() < 0.5 else []

    def cut(self, data: bytes) -> list[bytes]:
        """Some of it in one piece, some byte by byte."""
        size = self._chance.choice([1 << 20, 1 << 20, 300, 40, 7])
        return [data[at : at + size] for at in range(0, len(data), size)]

    def waits(self) -> bool:
        return self._chance.random() < 0.1

    def says_goodbye(self) -> bool:
        return self._chance.random() < 0.2


def said(line: Line, talk: Talk) -> tuple[list[list[str]], bool]:
    """What was heard, and whether the line is still open."""
    end = write.copy_fail("end") + write.sync() + write.query(b"rollback") + write.query(b"select 'the end'")
    goodbye = talk.says_goodbye()
    if goodbye:
        end += write.terminate()
    for part in talk.cut(b"".join(talk.messages()) + end):
        line.send(part)
        if talk.waits():
            time.sleep(0.001)  # so that answers come in between, whichever those are
    found = line.up_to("the end")
    ended = found[-1][0] == "end"
    if goodbye and not ended:
        assert line.until(1) == [["end", ""]]
    elif not ended:
        line.go(write.query(b"discard all"))
    return [[kind, "" if kind == "V" else text] for kind, text in found], not (ended or goodbye)


def main() -> None:
    seed, count, word = int(sys.argv[1]), int(sys.argv[2]), "".join(sys.argv[3:])
    line = Line()
    for number in range(seed, seed + count):
        line.go(write.query(b"truncate t") + write.query(b"insert into t select generate_series(1, 5)"))
        found, is_open = said(line, Talk(number, word))
        print(json.dumps(found), flush=True)
        if not is_open:
            line = Line()


if __name__ == "__main__":
    main()
