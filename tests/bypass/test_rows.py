"""The registry is whole: rows, tests and docs/bypass.md say the same."""

from __future__ import annotations

from tests.bypass import test_databases, test_identities, test_local_api, test_ways_out  # noqa: F401  # they fill TRIED
from tests.bypass.rows import DOCUMENT, TRIED, rows, table, written

ALL = {row.name: row for kind in rows().values() for row in kind}


def test_every_row_is_tried_once() -> None:
    for name, row in ALL.items():
        ways = [bool(row.script), name in TRIED, bool(row.elsewhere)]
        assert ways.count(True) == 1, name
        assert bool(row.script) == bool(row.outcomes), name


def test_every_test_has_its_row() -> None:
    assert set(TRIED) <= set(ALL)


def test_tests_elsewhere_are_there() -> None:
    for row in ALL.values():
        if row.elsewhere:
            file, _, function = row.elsewhere.partition("::")
            assert f"def {function}(" in (DOCUMENT.parents[1] / file).read_text(), row.name


def test_the_document_says_what_the_rows_say() -> None:
    assert written() == table(), "python -m tests.bypass.rows"
