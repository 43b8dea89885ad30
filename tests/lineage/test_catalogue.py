"""The catalogue of a real server; and what of it is masked."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import Format

from appliance.lineage.catalogue import MAX_TYPES, Catalogue, Column, Made, build, relations_query
from appliance.masking.hiding import HOWS, Token
from appliance.masking.kinds import value_type
from appliance.masking.values import masker
from appliance.model.verdict import Mask
from tests.lineage.queries import SCHEMA
from tests.lineage.servers import VERSIONS, Server
from tests.lineage.world import MASKS, catalogue_of

MORE = """
CREATE TABLE odd."T.x" ("e ""mail" text, plain text);
CREATE VIEW odd.seen AS SELECT "e ""mail" AS a, plain FROM odd."T.x";
CREATE FUNCTION public.lower(users) RETURNS text LANGUAGE sql AS 'SELECT $1.email';
CREATE FUNCTION public.two(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE OPERATOR @@@ (FUNCTION = two, LEFTARG = int, RIGHTARG = int);
CREATE VIEW probing AS SELECT id FROM users WHERE email LIKE 'a%';
CREATE VIEW hidden_rows AS WITH RECURSIVE r AS (SELECT 1 AS n, email FROM users UNION SELECT n + 1, email FROM r
                                                WHERE n < 2) SELECT n, email AS who FROM r;
"""

# name -> (what makes it, a value, its form, the type within it, what stands for the value if it is hidden)
TYPES: dict[str, tuple[str, str, str, str | None, str | None]] = {
    "mood": ("CREATE TYPE made.mood AS ENUM ('canary', 'other')", "canary", "e", None, "***"),
    "mail": ("CREATE DOMAIN made.mail AS text", "canary", "d", "text", "***"),
    "posts": ("CREATE DOMAIN made.posts AS made.mail[]", '{canary,"a,b",NULL}', "d", "made._mail", "{***,***,NULL}"),
    "doc": ("CREATE DOMAIN made.doc AS jsonb", '"canary"', "d", "jsonb", '"***"'),
    "span": ("CREATE TYPE made.span AS RANGE (subtype = text)", "[canary,d)", "r", None, "empty"),
    "pair": ("CREATE TYPE made.pair AS (a text, b int)", "(canary,1)", "", None, None),
    "some": ("CREATE DOMAIN made.some AS made.pair", "(canary,1)", "d", "made.pair", None),
    "like_text": (
        """CREATE TYPE made.like_text;
        CREATE FUNCTION made.i(cstring) RETURNS made.like_text AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
        CREATE FUNCTION made.o(made.like_text) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
        CREATE FUNCTION made.r(internal) RETURNS made.like_text AS 'textrecv' LANGUAGE internal STABLE STRICT;
        CREATE FUNCTION made.s(made.like_text) RETURNS bytea AS 'textsend' LANGUAGE internal STABLE STRICT;
        CREATE TYPE made.like_text (INPUT = made.i, OUTPUT = made.o, RECEIVE = made.r, SEND = made.s,
                                    CATEGORY = 'S')""",
        "canary", "t", None, "***",
    ),
    "like_bytes": (
        """CREATE TYPE made.like_bytes;
        CREATE FUNCTION made.bi(cstring) RETURNS made.like_bytes AS 'byteain' LANGUAGE internal IMMUTABLE STRICT;
        CREATE FUNCTION made.bo(made.like_bytes) RETURNS cstring AS 'byteaout' LANGUAGE internal IMMUTABLE STRICT;
        CREATE TYPE made.like_bytes (INPUT = made.bi, OUTPUT = made.bo, CATEGORY = 'S')""",
        "canary", "", None, None,
    ),
    "_mood": ("", "{canary}", "a", "made.mood", "{***}"),
    "_mail": ("", '{canary,"a,b",NULL}', "a", "made.mail", "{***,***,NULL}"),
    "_posts": ("", '{"{canary}"}', "a", "made.posts", "{}"),
    "_doc": ("", '{"\\"canary\\""}', "a", "made.doc", '{"\\"***\\""}'),
    "_span": ("", '{"[canary,d)"}', "a", "made.span", "{}"),
    "_like_text": ("", "{{canary},{b}}", "a", "made.like_text", "{{***},{***}}"),
    "_pair": ("", '{"(canary,1)"}', "", None, None),
    "_some": ("", '{"(canary,1)"}', "a", "made.some", "{}"),
    "span_multirange": ("", "{[canary,d)}", "m", None, "{}"),
}  # fmt: skip


@pytest.fixture(scope="module", params=VERSIONS)
def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    server = Server(request.param)
    try:
        with server.connect() as connection:
            connection.execute(SCHEMA)
            connection.execute("CREATE SCHEMA odd")
            connection.execute(MORE)
            yield connection
    finally:
        server.close()


def masked(catalogue: Catalogue) -> dict[str, dict[str, int]]:
    return {
        f"{each.schema}.{each.name}": {
            name: masks.bit_length() - 1  # no column here has two
            for name, number in zip(each.names, each.numbers, strict=True)
            if (masks := catalogue.taint_of(each.oid, number).all())
        }
        for each in catalogue.relations
    }


def test_masks_reach_children_partitions_generated_columns_and_views(
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    user = {"email": 0, "ssn": 1, "domain": 0}
    assert masked(catalogue_of(connection)) == {
        "public.users": user,
        "public.staff": user,
        "public.events": {"email": 0},
        "public.events_a": {"email": 0},
        "public.events_b": {"email": 0},
        "public.contacts": {"contact": 0},
        "public.shouted": {"loud": 0},
        "public.both_ways": {"contact": 0, "loud": 0},
        "public.stacked": {"contact": 0},
        "public.kept": {"email": 0},
        "public.hidden_rows": {"who": 0},
    }


def test_a_mask_on_a_child_or_partition_is_on_its_parents_too(
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    found = masked(catalogue_of(connection, (Mask(name="m", columns=("public.events_b.email", "public.staff.badge")),)))
    assert found["public.events"] == found["public.events_a"] == {"email": 0}
    assert found["public.staff"] == {"badge": 0}
    assert "public.users" not in found


def test_names_are_globs_over_columns_of_all_but_the_servers_schemas(
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    found = masked(catalogue_of(connection, (Mask(name="m", names=("E*mail", "rolname", "ss?")),)))
    assert found["other.users"] == {"email": 0, "ssn": 0}
    assert found["odd.T.x"] == {'e "mail': 0}
    assert found["odd.seen"] == {"a": 0}
    assert not any(name.startswith(("pg_catalog", "information_schema")) for name in found)


def test_own_functions_operators_and_missing_columns(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    catalogue = catalogue_of(connection, (*MASKS, Mask(name="m", columns=("public.users.nosuch", 'odd.T.x.e "mail'))))
    assert {"lower", "two"} <= catalogue.own_functions
    assert catalogue.row_functions == {"lower"}
    assert catalogue.own_operators == {"@@@"}
    assert catalogue.missing == ("public.users.nosuch",)
    assert catalogue_of(connection, (Mask(name="m", columns=("public.users.no",), absent="allow"),)).missing == ()


def test_no_query_without_columns() -> None:
    assert relations_query((Mask(name="m", detect=("card",)),)) == ""
    assert build((), (), ()).is_empty


def test_a_view_that_cannot_be_read_is_masked_whole() -> None:
    def column(oid: str, name: str, kind: str, number: str, column: str, text: str | None, beneath: str) -> Column:
        return Column(oid, "public", name, kind, number, column, None, text, "", beneath, "{public}")

    rows = [
        column("1", "users", "r", "1", "id", None, ""),
        column("1", "users", "r", "2", "email", None, ""),
        column("2", "v", "v", "1", "a", "SELECT nonsense FROM", "1"),
        column("2", "v", "v", "2", "b", "SELECT nonsense FROM", "1"),
    ]
    found = build((Mask(name="m", columns=("public.users.email",)),), rows, ())
    assert masked(found) == {"public.users": {"email": 0}, "public.v": {"a": 0, "b": 0}}


# --- types that users made ---


@pytest.fixture
def made(connection: psycopg.Connection[tuple[object, ...]]) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    connection.execute("CREATE SCHEMA made")
    for make, *_ in TYPES.values():
        connection.execute(make.encode())
    yield connection
    connection.execute("DROP SCHEMA made CASCADE")


def oid_of(connection: psycopg.Connection[tuple[object, ...]], name: str) -> int:
    row = connection.execute("SELECT %s::regtype::oid::int8", [name]).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


def test_forms_of_types(made: psycopg.Connection[tuple[object, ...]]) -> None:
    types = catalogue_of(made).types
    for name, (_, _, form, inner, _) in TYPES.items():
        expected = (form, 0 if inner is None else oid_of(made, inner)) if form else None
        assert types.get(oid_of(made, f"made.{name}")) == expected, name
    assert not [oid for oid in types if oid < 16384]
    assert oid_of(made, "users") not in types  # a table's row
    assert oid_of(made, "users[]") not in types


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_the_server_reads_what_hides_values_of_made_types(
    made: psycopg.Connection[tuple[object, ...]], binary: bool
) -> None:
    """The masked value as a parameter of that type, but for an enum and a domain whose checks it need not pass."""
    types = catalogue_of(made).types
    form = Format.BINARY if binary else Format.TEXT
    for name, (_, text, _, _, hidden) in TYPES.items():
        if binary and "like_bytes" in name:  # has no binary form
            continue
        asked = made.pgconn.exec_params(f"SELECT $1::made.{name}".encode(), [text.encode()], result_format=form)
        assert not asked.error_message, (name, asked.error_message)
        value, oid = asked.get_value(0, 0), asked.ftype(0)
        assert value is not None
        for kind in {value_type(oid, types), value_type(oid_of(made, f"made.{name}"), types)}:
            for how in HOWS:
                out = masker(how, (), kind, binary, Token(b"k")).mask(value)
                assert b"canary" not in (out or b""), (name, how)
                if how == "null":
                    continue
                if how == "hide" and not binary:
                    assert out == (hidden and hidden.encode()), name
                if "mood" in name:
                    continue
                read = made.pgconn.exec_params(
                    b"SELECT $1", [out], param_types=[oid], param_formats=[form], result_format=Format.TEXT
                )
                assert not read.error_message, (name, how, read.error_message)
                if how == "hide":
                    assert read.get_value(0, 0) == (hidden and hidden.encode()), name


def test_a_type_made_anew_is_another(made: psycopg.Connection[tuple[object, ...]]) -> None:
    made.execute("CREATE DOMAIN made.brief AS jsonb")
    made.execute("CREATE TABLE made.t (v made.brief[])")
    types = catalogue_of(made).types
    made.execute("DROP DOMAIN made.brief CASCADE")
    made.execute("CREATE DOMAIN made.brief AS text")
    oid = oid_of(made, "made.brief[]")
    assert oid not in types
    assert masker("hide", ("$.a",), value_type(oid, types), False, Token(b"k")).mask(b"{424242}") is None


GOOD = Made("70000", "d", "25")


@pytest.mark.parametrize(
    "bad",
    [
        *(Made(oid, "d", "25") for oid in (None, "", "x", "-1", "16383", "25", "4294967296", "7" * 5000, "\u0667" * 5)),
        *(Made("70001", form, "25") for form in (None, "", "x", "da", "c", "b", "e", "t", "r", "m")),
        *(Made("70001", form, "0") for form in "da"),
        *(Made("70001", "a", inner) for inner in (None, "", "x", "-1", "4294967296")),
        GOOD,
    ],
)
def test_types_that_no_server_has_are_refused(bad: Made) -> None:
    with pytest.raises(ValueError):
        build((), (), (), [GOOD, bad])


def test_types_are_bounded() -> None:
    rows = [Made(str(70000 + number), "e", "0") for number in range(MAX_TYPES + 1)]
    assert len(build((), (), (), rows[1:]).types) == MAX_TYPES
    with pytest.raises(ValueError):
        build((), (), (), rows)


ANYTHING = st.none() | st.text(max_size=12) | st.integers(0, 1 << 33).map(str)


@given(st.lists(st.builds(Made, ANYTHING, st.none() | st.sampled_from("demrtacb"), ANYTHING), max_size=4))
def test_rows_of_types_are_read_or_refused(rows: list[Made]) -> None:
    try:
        types = build((), (), (), rows).types
    except ValueError:
        return
    assert {(str(oid), form, str(inner)) for oid, (form, inner) in types.items()} == {
        (str(int(row.oid or 0)), row.form, str(int(row.inner or 0))) for row in rows
    }
