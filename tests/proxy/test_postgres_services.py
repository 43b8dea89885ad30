"""The catalogue of a database, from a server that may say anything."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from appliance.config.schema import Limits, Tls
from appliance.lineage.catalogue import ROUTINES, TYPES
from appliance.model.errors import EnvironmentFailed
from appliance.model.verdict import Mask
from appliance.proxy.postgres_services import Database, Known, PostgresServices

Rows = list[tuple[bytes | None, ...]]

DATABASE = Database("db.example.test", "192.0.2.1", 5432, "app", (Mask(name="m", columns=("public.t.c",)),))
COLUMN = (b"1", b"public", b"t", b"r", b"1", b"c", None, None, b"", b"", b"{public}")


class Server:
    """What it answers to the queries about types."""

    def __init__(self, types: Rows) -> None:
        self.types = types

    async def query(self, text: str, columns: int, timeout: float) -> Rows:
        if TYPES in text:
            return self.types
        return [] if ROUTINES in text else [COLUMN]


@pytest.fixture
def services() -> PostgresServices:
    return PostgresServices(Tls(), 1 << 20)


def read(services: PostgresServices, types: Rows) -> Known:
    return asyncio.run(services.read_catalogue(cast(Any, Server(types)), DATABASE, Limits(), "utf-8"))


def test_types_are_kept_and_read_anew(services: PostgresServices) -> None:
    enum: Rows = [(b"70000", b"e", b"0")]
    first = read(services, enum).catalogue
    assert first.types == {70000: ("e", 0)}
    assert read(services, enum).catalogue is first
    assert read(services, [*enum, (b"70001", b"a", b"70000")]).catalogue.types == {70000: ("e", 0), 70001: ("a", 70000)}
    assert read(services, []).catalogue.types == {}


@pytest.mark.parametrize(
    "row",
    [
        (None, b"e", b"0"),
        (b"70000", None, b"0"),
        (b"70000", b"d", None),
        (b"70000", b"d", b"-1"),
        (b"25", b"e", b"0"),
        (b"70000", b"\xff", b"0"),
        (b"9" * 10_000, b"e", b"0"),
    ],
)
def test_types_that_make_no_sense_are_refused(services: PostgresServices, row: tuple[bytes | None, ...]) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        read(services, [row])
    assert caught.value.code == "upstream-catalogue"
    assert services.catalogue(DATABASE) is None
