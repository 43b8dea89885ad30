"""A function that calls itself never gets to regorus' evaluation, which it would end together with the process."""

from __future__ import annotations

import pytest

from appliance.model.errors import EnvironmentFailed
from appliance.policy.bundle import make_bundle, parse_data
from appliance.policy.engine import Policy
from tests.policy.asking import MODULES

HEAD = "package mine\nimport rego.v1\n"


def load(*texts: str) -> None:
    modules = {f"m{number}.rego": text for number, text in enumerate(texts)}
    Policy(make_bundle({**MODULES, **modules}, parse_data("")))


@pytest.mark.parametrize(
    "texts",
    [
        (HEAD + "f(x) := f(x)\n",),
        (HEAD + 'f(x) := f(x) if x == "POST"\nf(x) := 1 if x != "POST"\n',),
        (HEAD + "f(x) := 1 if x < 0 else := f(x - 1)\n",),
        (HEAD + "f(x) := y if { y := [z | some z in [f(x)]] }\n",),
        (HEAD + "f(x) if { every y in x { f(y) } }\n",),
        (HEAD + "f(x) if { not f(x) }\n",),
        (HEAD + "f(x) := {f(x): 1}\n",),
        (HEAD + "f(x) := x[f(x)]\n",),
        (HEAD + "f(x) := g(x)[0]\ng(x) := f(x)\n",),
        (HEAD + "f(x) := data.mine.f(x)\n",),
        (HEAD + 'f(x) := data["mine"].f(x)\n',),
        (HEAD + "p.q.f(x) := p.q.f(x)\n",),
        (HEAD + "default f(x) := 1\nf(x) := f(x) if x\n",),
        (HEAD + "f(x) := y if { f(x, y) }\n",),
        (HEAD + "f(x) := g(x)\ng(x) := h(x)\nh(x) := count([f(x)])\n",),
        (
            "package a\nimport rego.v1\nimport data.mine\nf(x) := mine.g(x)\n",
            HEAD + "import data.a as b\ng(x) := b.f(x)\n",
        ),
        (
            "package a\nimport rego.v1\nimport data.mine.g\nf(x) := g(x)\n",
            HEAD + "import data.a.f as h\ng(x) := h(x)\n",
        ),
    ],
)
def test_a_function_that_calls_itself_is_refused_with_its_place(texts: tuple[str, ...]) -> None:
    with pytest.raises(EnvironmentFailed, match=r"^m\d\.rego:\d+: the function \w+ calls itself"):
        load(*texts)


def test_others_of_the_ring_are_named() -> None:
    with pytest.raises(EnvironmentFailed, match=r"m0\.rego:3: the function f calls itself by way of g, h$"):
        load(HEAD + "f(x) := g(x)\ng(x) := h(x)\nh(x) := f(x)\n")


@pytest.mark.parametrize(
    "text",
    [
        "f(x) := g(x)\ng(x) := x\na := f(1)\nb := f(g(2))\n",
        "f(g) := g + 1\ng(x) := f(x)\n",  # a variable of a function's name
        "f(x) := x.f\n",
        'f(x) := "f(x)" # f(x)\n',
        "f(x) := count(x)\ntest_f if { f([]) == 3 with count as three }\nthree(x) := 3\n",
    ],
)
def test_what_only_looks_alike_is_not(text: str) -> None:
    load(HEAD + text)


def test_two_packages_may_have_functions_of_one_name() -> None:
    load("package a\nimport rego.v1\nf(x) := data.mine.f(x)\n", HEAD + "f(x) := x\n")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"f{n}(x) := f{n + 1}(x)\n" for n in range(2500)) + "f2500(x) := x\n",
        "".join(f"r{n} := r{n + 1}\n" for n in range(2500)) + "r2500 := 1\n",
        "".join(f"r{n} if {{ not r{n + 1} }}\n" for n in range(1000)) + "r1000 := 1\n",
        "r if {\n" + "".join(f"\tsome x{n + 1} in [x{n}]\n" for n in range(2500)).replace("[x0]", "[1]") + "}\n",
    ],
    ids=["functions", "rules", "negations", "statements"],
)
def test_chains_are_only_so_long(text: str) -> None:
    with pytest.raises(EnvironmentFailed, match=r"levels deep; 2000 are allowed"):
        load(HEAD + text)


def test_many_rules_beside_each_other_are_no_chain() -> None:
    load(HEAD + "".join(f"f{n}(x) := g(x) if x == {n}\n" for n in range(2000)) + "g(x) := x\n")
