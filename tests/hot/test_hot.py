"""Which modules are compiled, and what is kept from being: mypyc gets some classes wrong without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance import hot
from tests.world.world import REPOSITORY

HARMLESS = {
    "a plain class": "class A:\n    __slots__ = ('x',)",
    "a named tuple": "from typing import NamedTuple\nclass A(NamedTuple):\n    x: int",
    "a protocol": "import typing\nclass A(typing.Protocol): ...",
    "a generic class": "from typing import Generic\nclass A(Generic[T]): ...",
    "a class of the same module": "class A: ...\nclass B(A): ...",
}
REFUSED = {
    "a frozen struct": "from msgspec import Struct\nclass A(Struct, frozen=True):\n    x: int",
    "a struct": "import msgspec\nclass A(msgspec.Struct):\n    x: int",
    "a struct of another module": "from appliance.model.record import Record\nclass A(Record): ...",
    "one that is a struct by its base": "from msgspec import Struct\nclass B(Struct): ...\nclass A(B, gc=True): ...",
    "a metaclass": "from abc import ABCMeta\nclass A(metaclass=ABCMeta): ...",
    "one within a function": "from msgspec import Struct\ndef f():\n    class A(Struct): ...",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_may_be_compiled(name: str) -> None:
    assert hot.refusals(HARMLESS[name]) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_build_refuses(name: str) -> None:
    assert "A" in hot.refusals(REFUSED[name])


@pytest.mark.parametrize("path", hot.sources(), ids=lambda path: path.stem)
def test_the_hot_modules_may_be_compiled(path: Path) -> None:
    assert hot.refusals(path.read_text()) == []


def test_all_are_compiled_or_none() -> None:
    made = REPOSITORY / "appliance" / "hot.made-from"
    assert hot.interpreted() == ([] if made.exists() else list(hot.HOT))


def test_the_same_sources_have_the_same_fingerprint() -> None:
    again = [sys.executable, "-c", "from appliance.hot import fingerprint; print(fingerprint())"]
    assert subprocess.check_output(again, cwd=REPOSITORY, text=True).strip() == hot.fingerprint()
