"""The catalogue of a real server; and what of it is masked."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from appliance.lineage.catalogue import Catalogue, Column, build, relations_query
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
            name: catalogue.mask_of(each.oid, number)
            for name, number in zip(each.names, each.numbers, strict=True)
            if catalogue.mask_of(each.oid, number) >= 0
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
