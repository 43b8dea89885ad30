"""Texts that are meant to crash, hang or swell the parser: judged in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.sql.grammar import MAX_BYTES, Unparsed
from appliance.sql.normal import normal
from appliance.sql.shape import shape
from appliance.sql.statements import statements

# name: text of depth n
DEEP = {
    "parentheses": "'select ' + '(' * n + '1' + ')' * n",
    "unions": "'select 1' + ' union select 1' * n",
    "unions of lists": "'select 1, 2' + ' union select 1, 2' * n",
    "and": "'select 1 where ' + ' and '.join(['a = 1'] * n)",
    "sum": "'select ' + '+'.join(['1'] * n)",
    "sum of calls": "'select ' + '+'.join(['f(1,2)'] * n)",
    "casts": "'select 1' + '::int' * n",
    "collations": "'select a' + ' collate x' * n",
    "joins": "'select * from a' + ' join a on true' * n",
    "natural joins": "'select * from a' + ' natural join a' * n",
    "calls": "'select ' + 'f(' * n + ')' * n",
    "subqueries": "'select * from ' + '(select * from ' * n + 't' + ') x' * n",
    "with": "'with a as (' * n + 'select 1' + ') select 1' * n",
    "not": "'select ' + 'not ' * n + 'true'",
    "minus": "'select ' + '- ' * n + 'a'",
    "arrays": "'select ' + 'array[' * n + '1' + ']' * n",
    "case": "'select ' + 'case when a then ' * n + '1' + ' end' * n",
    "in": "'select ' + 'a in (' * n + '1' + ')' * n",
    "left parentheses": "'select ' + '(' * n + 'a' + ' + 1)' * n",
    "indirection": "'select a' + '[1]' * n",
    "comments": "'select ' + '/*' * n + '*/' * n + ' 1'",
    "operators": "'select ' + '+' * n + '1'",
    "operators and others": "'select ' + '+*' * n + '1'",
    "joins on": "'select * from a' + ' join a on x and y' * n",
    "not of a sum": "'select ' + 'not ' * min(n, 9800) + '+'.join(['1'] * min(n, 15_000))",
    "dollars": "'select $a$' + '$b' * n",
    "blanks": "'select ' + chr(39) + chr(39) + ' ' * n + '1'",
    "columns set": "'update t set (a' + ',a' * n + ') = (select 1' + ',1' * n + ')'",
    "columns set again": "'update t set (a, b) = (with x as (' * n + 'select 1' + ') select 1, 2)' * n",
    "columns set within": "'update t set (a,b,c) = ((select 1 from (values (1)) x), f(' * n + '1' + '))' * n",
    "values": "'insert into t values ' + ','.join(['(1, 2, 3)'] * n)",
    "semicolons": "';' * n",
    "statements": "'select 1;' * n",
    "quotes": "'select ' + chr(39) * n",
    "names": "'select ' + chr(34) * n",
    "grant": "'grant select on t to a' + ',a' * n",
}

CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from appliance.sql.normal import normal
from appliance.sql.shape import shape
from appliance.sql.statements import Unparsed, statements
for n in (10, 100, 1000, 10_000, 100_000):
    text = {text}
    normal(text.encode())
    shape(text[:1 << 18].encode())
    try:
        statements(text)
        print("read", n)
    except Unparsed as error:
        print(error.code, n)
"""


@pytest.mark.parametrize("name", DEEP)
def test_depth_does_not_crash(name: str) -> None:
    program = CHILD.replace("{text}", DEEP[name])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    outcomes = done.stdout.split("\n")
    assert len(outcomes) == 6
    if "again" not in name and "within" not in name:
        assert outcomes[0] in ("read 10", "sql-syntax 10")


@pytest.mark.parametrize(
    "text",
    [
        "select " + " || ".join(["'a'"] * 300),
        "select * from t where " + " or ".join(["a = 1 and b = 2"] * 5000),  # noqa: S608
        "select 1" + " union all select 1" * 300,
        "insert into t values " + ", ".join(["(-1, 'abc', f(1 + 2))"] * 5_000),  # noqa: S608
        "select * from t where a in (" + ", ".join(str(n) for n in range(30_000)) + ")",  # noqa: S608
        "select 1 -- " + "=" * 2000 + "\n/" + "*" * 2000 + "/",
        "update t set (a, b) = (select 1, 2), (c, d) = (select 3, 4) where (a, b) = (1, 2)",
        "select " + ", ".join(["(a, b) = (1, 2)"] * 1000),
    ],
    ids=range(8),
)
def test_what_people_write_is_read(text: str) -> None:
    assert len(statements(text)) == 1


def test_a_text_of_any_length_is_refused_or_read() -> None:
    with pytest.raises(Unparsed):
        statements("select 1" + " " * MAX_BYTES)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes(data: bytes) -> None:
    normal(data)
    shape(data)
    try:
        statements(data)
    except Unparsed as error:
        position = error.position
    else:
        position = 0
    assert -1 <= position <= len(data)
