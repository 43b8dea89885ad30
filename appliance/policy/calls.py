"""What calls what in Rego, told from its syntax tree: no function may call itself, and no chain of calls be too deep.

regorus evaluates on the stack of its thread and has no limit: a function that calls itself, if only for one input,
ends the process that asks. Rules that need themselves it finds and refuses when they are asked. So the function calls
are held to having no cycle, and every chain of rules and functions to a length that any thread's stack has room for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from appliance.model.errors import EnvironmentFailed

# Syntax levels of a whole chain. Measured: regorus 0.13 takes at most 1.3 kB of stack a level; threads have 8 MiB.
MOST_LEVELS: Final = 2_000

Path = tuple[str, ...]
_REFERENCES: Final = ("Var", "RefDot", "RefBrack")


class _Rule:
    """All definitions of one name."""

    __slots__ = ("calls", "function", "levels", "place", "refers")

    def __init__(self, place: str) -> None:
        self.place = place  # file:line of the first
        self.function = False
        self.levels = 0
        self.calls: set[Path] = set()
        self.refers: set[Path] = set()


def check_calls(syntax: str) -> None:
    """Takes regorus' syntax tree of all modules, as JSON.

    Raises EnvironmentFailed("policy") if a function calls itself, directly or by way of others, or if rules and
    functions that need each other are too deep.
    """
    try:
        rules = _rules_of(json.loads(syntax))
    except RecursionError:
        raise EnvironmentFailed("policy", "the Rego is nested too deeply") from None
    functions = {path: [c for c in rule.calls if rules[c].function] for path, rule in rules.items() if rule.function}
    for ring in _rings(functions):
        if len(ring) > 1 or ring[0] in functions[ring[0]]:
            first = min(ring, key=lambda path: rules[path].place)
            through = "" if len(ring) == 1 else f" by way of {', '.join(p[-1] for p in sorted(ring) if p != first)}"
            raise EnvironmentFailed("policy", f"{rules[first].place}: the function {first[-1]} calls itself{through}")
    _check_depth(rules)


def _check_depth(rules: Mapping[Path, _Rule]) -> None:
    """Rules in a ring count as one: at most each of them is entered once (regorus refuses the second time)."""
    needs = {path: rule.calls | rule.refers for path, rule in rules.items()}
    depth: dict[Path, int] = {}
    for ring in _rings(needs):  # what is needed comes before what needs it
        inside = set(ring)
        below = max((depth[other] for path in ring for other in needs[path] if other not in inside), default=0)
        own = below + sum(rules[path].levels for path in ring)
        if own > MOST_LEVELS:
            raise EnvironmentFailed(
                "policy",
                f"{rules[ring[0]].place}: {ring[0][-1]} and what it needs are {own} levels deep;"
                f" {MOST_LEVELS} are allowed",
            )
        depth.update(dict.fromkeys(ring, own))


def _rules_of(modules: list[dict[str, Any]]) -> dict[Path, _Rule]:
    rules: dict[Path, _Rule] = {}
    written: list[tuple[_Rule, Path, dict[str, Path], dict[str, Any]]] = []
    for module in modules:
        package = ("data", *_path_of(module["ast"]["package"]["refr"]))
        imports = _imports_of(module)
        for each in module["ast"]["rules"]:
            kind, body = next(iter(each.items()))
            head = body["refr"] if kind == "Default" else next(iter(body["head"].values()))["refr"]
            path = package + _path_of(head)
            rule = rules.setdefault(path, _Rule(f"{module['source']['file']}:{body['span']['line']}"))
            rule.function |= bool(body.get("args")) if kind == "Default" else "Func" in body["head"]
            written.append((rule, package, imports, body))
    prefixes: dict[Path, set[Path]] = {}
    for path in rules:
        for length in range(1, len(path) + 1):
            prefixes.setdefault(path[:length], set()).add(path)
    for rule, package, imports, body in written:
        for called, path, levels in _mentions(body):
            rule.levels = max(rule.levels, levels)
            for full in _meanings(path, package, imports):
                found = {full[:n] for n in range(2, len(full) + 1) if full[:n] in rules}
                (rule.calls if called else rule.refers).update(found if called else found | prefixes.get(full, set()))
    return rules


def _imports_of(module: dict[str, Any]) -> dict[str, Path]:
    """Name here -> what it stands for."""
    text = module["source"]["contents"].encode()
    imports: dict[str, Path] = {}
    for each in module["ast"]["imports"]:
        path = _path_of(each["refr"])
        alias = each.get("as")
        imports[text[alias["start"] : alias["end"]].decode() if alias else path[-1]] = path
    return imports


def _path_of(reference: dict[str, Any]) -> Path:
    """The words of `a.b["c"]`, as far as they are written down; () if it does not begin with a name."""
    words: list[str] = []
    while True:
        kind, value = next(iter(reference.items()))
        if kind == "Var":
            words.append(value["value"])
            return tuple(reversed(words))
        if kind == "RefDot":
            words.append(value["field"][1])
        elif kind == "RefBrack":
            index = value["index"].get("String") or value["index"].get("RawString")
            words = [] if index is None else words
            if index is not None:
                words.append(index["value"])
        else:
            return ()
        reference = value["refr"]


def _meanings(path: Path, package: Path, imports: dict[str, Path]) -> Iterator[Path]:
    """What a name may stand for; a local variable of the same name is taken for the rule."""
    if path[0] == "data":
        yield path
    if path[0] in imports:
        yield imports[path[0]] + path[1:]
    yield package + path


def _mentions(body: dict[str, Any]) -> Iterator[tuple[bool, Path, int]]:
    """Every reference in a rule: whether it is called, its words, and how many levels down it stands."""
    stack: list[tuple[Any, int]] = [(body, 0)]
    while stack:
        node, levels = stack.pop()
        if isinstance(node, list):
            stack += [(each, levels) for each in node]
        elif isinstance(node, dict):
            below = levels + ("span" in node)
            for kind, value in node.items():
                if kind == "fcn" or kind in _REFERENCES:
                    reference = value if kind == "fcn" else {kind: value}
                    if path := _path_of(reference):
                        yield kind == "fcn", path, below
                    stack += [(index, below) for index in _indices_of(reference)]
                elif kind == "stmts":  # what follows a statement is evaluated within it
                    stack += [(each, below + place) for place, each in enumerate(value)]
                else:
                    stack.append((value, below))


def _indices_of(reference: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The expressions within a reference: what stands in its brackets, and what it begins with if that is no name."""
    while True:
        kind, value = next(iter(reference.items()))
        if kind == "Var":
            return
        if kind not in _REFERENCES:
            yield reference
            return
        if kind == "RefBrack":
            yield value["index"]
        reference = value["refr"]


def _rings(edges: Mapping[Path, Iterable[Path]]) -> Iterator[list[Path]]:
    """The strongly connected parts, each after those that it needs (Tarjan, 1972, without recursion)."""
    number: dict[Path, int] = {}
    low: dict[Path, int] = {}
    open_: list[Path] = []
    is_open: set[Path] = set()
    for root in edges:
        if root in number:
            continue
        work: list[tuple[Path, Iterator[Path]]] = [(root, iter(edges[root]))]
        number[root] = low[root] = len(number)
        open_.append(root)
        is_open.add(root)
        while work:
            path, rest = work[-1]
            for other in rest:
                if other not in number:
                    number[other] = low[other] = len(number)
                    open_.append(other)
                    is_open.add(other)
                    work.append((other, iter(edges[other])))
                    break
                if other in is_open:
                    low[path] = min(low[path], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[path])
                if low[path] == number[path]:
                    at = open_.index(path)
                    ring, open_[at:] = open_[at:], []
                    is_open.difference_update(ring)
                    yield ring
