"""Links lead somewhere, named files exist, and nothing of the machine that it was written on is in the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.tree import documents, files, name_of, without_blocks
from tests.world.world import REPOSITORY

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_FILE = re.compile(r"`((?:[\w.-]+/)*[\w*-]+\.(?:py|md|c|h|rego|yaml|toml|sh|png))`")
_ROOTS = ("", "appliance/", "docs/", "appliance/proxy/", "bpf/", "benchmarks/")  # what a document may leave out
_MADE = ("benchmarks/out/",)  # not in the tree, made by a command that the text names


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_relative_links_resolve(document: Path) -> None:
    for link in _LINK.findall(without_blocks(document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{name_of(document)} links to {link}"
        assert target.is_relative_to(REPOSITORY), link
        if fragment:
            assert fragment in map(anchor, _HEADING.findall(target.read_text())), f"{name_of(document)}: {link}"


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_named_files_exist(document: Path) -> None:
    """A name without its folder, such as `answers.py`, stands for one that is somewhere."""
    known = {name_of(path) for path in files()}
    names = {path.rpartition("/")[2] for path in known}
    text = without_blocks(document.read_text())
    for named in _FILE.findall(text):
        if "*" in named or named.startswith(_MADE) or f"/{named}`" in text:
            continue
        found = any(root + named in known for root in _ROOTS) or ("/" not in named and named in names)
        assert found or named in _OF_USERS, f"{name_of(document)} names {named}"


_OF_USERS = {"data.yaml", "coatcheck.yaml", "ruamel.yaml"}  # files of whoever uses it, and a library


def test_every_document_is_in_the_index() -> None:
    for folder in ("docs", "docs/adr"):
        index = (REPOSITORY / folder / "README.md").read_text()
        linked = set(_LINK.findall(index))
        for path in (REPOSITORY / folder).glob("*.md"):
            if path.name != "README.md":
                assert path.name in linked, f"{folder}/README.md does not link to {path.name}"


def test_decisions_are_indexed_by_their_titles() -> None:
    index = (REPOSITORY / "docs" / "adr" / "README.md").read_text()
    for path in (REPOSITORY / "docs" / "adr").glob("0*.md"):
        number, _, title = path.read_text().splitlines()[0].removeprefix("# ").partition(". ")
        assert f"| [{number}]({path.name}) | {title} |" in index


# written so that this file does not hold them itself
_FOREIGN = {
    "a folder of the machine that it was written on": r"(?<![\w.])/(?:wo"
    + r"rk/(?:main|sha"
    + r"red)|ro"
    + r"ot/|tm"
    + r"p/w/)",
    "a registry's host": r"(?:pypi|files\.pythonhos"
    + r"ted|deb\.deb"
    + r"ian|registry\.npm"
    + r"js)\.org|proxy\.golang"
    + r"\.org",
    "an index address": r"--(?:extra-)?index-u" + r"rl[ =]http|simple/?\"?$",
}


@pytest.mark.parametrize("what", _FOREIGN)
def test_nothing_of_the_machine_is_in_the_tree(what: str) -> None:
    pattern = re.compile(_FOREIGN[what], re.MULTILINE)
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        match = pattern.search(text)
        assert match is None, f"{name_of(path)} names {what}: {match and match[0]}"
