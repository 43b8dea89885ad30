"""A real server is the judge: it reads every neutral value, and what its own COPY writes for masked values is what ours
makes of the unmasked stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import Format

from appliance.masking import kinds
from appliance.masking.copy import BINARY, CSV, CopyFormat, copy_masker
from appliance.masking.hiding import Token
from appliance.masking.kinds import known
from appliance.masking.values import masker
from tests.postgres.server import DATABASE, Server, Version
from tests.world import World

pytestmark = pytest.mark.world

VERSIONS: list[Version] = ["15", "18"]
# unknown, cstring, void: no parameter can have them; aclitem has no binary form
NO_PARAMETER = {705, 2275, 2278, 1034}


@pytest.fixture(scope="module", params=VERSIONS)
def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    with (
        World() as world,
        Server(world, None, version=request.param) as server,
        psycopg.connect(
            host=str(server.folder), port=server.port, user="postgres", dbname=DATABASE, autocommit=True
        ) as made,
    ):
        yield made


def types(connection: psycopg.Connection) -> list[tuple[int, str, int, str]]:
    """The server's own types, those of its tables aside: OID, name, OID of the elements, category."""
    return connection.execute(
        "select oid::int8, typname, typelem::int8, typcategory from pg_type"
        " where oid < 10000 and typtype in ('b', 'r', 'm', 'p') and typrelid = 0"
        " and typelem not in (select oid from pg_type where typrelid <> 0)"
    ).fetchall()


def test_the_server_reads_every_neutral_value(connection: psycopg.Connection) -> None:
    read = 0
    for oid, name, _, _ in types(connection):
        value_type = known(oid)
        if oid in NO_PARAMETER or value_type.neutral_text is None:
            continue
        texts = []
        for neutral, form in ((value_type.neutral_text, Format.TEXT), (value_type.neutral_binary, Format.BINARY)):
            result = connection.pgconn.exec_params(
                b"select $1", [neutral], param_types=[oid], param_formats=[form], result_format=Format.TEXT
            )
            if b"libxml" in result.error_message:  # the wheel's servers are built without it
                break
            assert not result.error_message, (name, form, result.error_message)
            texts.append(result.get_value(0, 0))
        else:
            assert texts[0] == texts[1], name
            read += 1
            assert texts[0] == value_type.neutral_text, name
    assert read > 100


def test_every_array_type_is_known(connection: psycopg.Connection) -> None:
    for oid, name, element, category in types(connection):
        if category == "A" and name.startswith("_") and known(oid).neutral_text is not None:
            assert known(oid).element_oid == element, name
        if category == "A" and name.startswith("_") and known(element).neutral_text is not None:
            assert known(oid).kind == kinds.ARRAY, name


FORMATS = [
    (CopyFormat(), "format text"),
    (CopyFormat(delimiter=b"|", null=b""), "format text, delimiter '|', null ''"),
    (CopyFormat(delimiter=b"*", null=b"nix", header=True), "format text, delimiter '*', null 'nix', header"),
    (CSV, "format csv"),
    (CSV._replace(header=True, null=b"***"), "format csv, header, null '***'"),
    (CSV._replace(quote=b"'", escape=b"\\", delimiter=b";"), "format csv, quote '''', escape '\\', delimiter ';'"),
    (CSV._replace(force_quote=frozenset(range(4))), "format csv, force_quote *"),
    (CSV._replace(force_quote=frozenset({1}), delimiter=b"*"), "format csv, force_quote (secret), delimiter '*'"),
    (BINARY, "format binary"),
]
VALUES = [
    "plain",
    "",
    "tab\there",
    "line\nend",
    "cr\rx",
    'qu"ote',
    "it's",
    "back\\slash",
    "\\N",
    "\\.",
    "a|b;c,d*e",
    "ü",
    None,
]
VALUES += ["\b\f\v", "***", "nix", "\\", '"', "'", "x" * 20_000]


@pytest.mark.parametrize(("options", "text"), FORMATS, ids=[text for _, text in FORMATS])
@pytest.mark.parametrize("how", ["hide", "null", "partial"])
def test_copy_is_what_the_server_itself_would_write(
    connection: psycopg.Connection, options: CopyFormat, text: str, how: str
) -> None:
    connection.execute("drop table if exists t")
    connection.execute("create table t (open text, secret text, list text[], number int8)")
    with connection.cursor() as cursor:
        # What is written as NULL is, is NULL for whoever reads it (CSV has quotes for that): not what is asked here.
        values = [one for one in VALUES if options.format != "text" or one != options.null.decode()]
        rows = [(one, other, [one, other], len(one or "")) for one in values for other in values]
        cursor.executemany("insert into t values (%s, %s, %s, %s)", rows)
    hidden = {
        "hide": "case when {0} is not null then '***' end",
        "null": "null::text",
        "partial": "'***' || right({0}, least(4, length({0}) / 4))",
    }[how]
    secret = hidden.format("secret")
    element = hidden.format("e")
    array = f"(select array_agg({element}) from unnest(list) e)" if how != "null" else "null::text[]"  # noqa: S608
    number = "0::int8" if how != "null" else "null::int8"
    query = f"select open, {secret} as secret, {array} as list, {number} as number from t"  # noqa: S608
    expected = stream(connection, query, text)
    binary = options.format == "binary"
    columns = [None, *(masker(how, (), known(oid), binary, Token(b"k")) for oid in (25, 1009, 20))]
    masking = copy_masker(options, columns)
    out = [masking.feed(piece) for piece in stream(connection, "select * from t", text)]
    masking.end()
    assert [piece for piece in out if piece] == expected
    assert masking.rows == len(rows)


def stream(connection: psycopg.Connection, query: str, options: str) -> list[bytes]:
    statement = sql.SQL(f"copy ({query}) to stdout with ({options})")
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return [bytes(piece) for piece in copy]


JSON = (
    '{"user": {"email": "a@b.c", "n": 1.50, "ok": true}, "list": [{"email": null}, {"email": ["x"]}], "é": "\\u0000"}'
)


def test_masked_json_is_json_for_the_server(connection: psycopg.Connection) -> None:
    for binary, form in ((False, Format.TEXT), (True, Format.BINARY)):
        for oid, value in ((114, JSON), (3802, JSON.replace("\\u0000", ""))):
            before = value.encode() if oid == 114 or not binary else b"\x01" + value.encode()
            after = masker("hide", ("$.**.email",), known(oid), binary, Token(b"k")).mask(before)
            result = connection.pgconn.exec_params(b"select $1", [after], [oid], [form], Format.TEXT)
            assert not result.error_message
            read = result.get_value(0, 0)
            expected = value.replace('"a@b.c"', '"***"').replace('["x"]', "[]")
            assert read is not None
            assert read == expected.encode() if oid == 114 else json.loads(read) == json.loads(expected)
