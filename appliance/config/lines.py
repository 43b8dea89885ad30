"""YAML to a pydantic model, with one-sentence errors that name file, line, key and what is allowed.

Used for the configuration and for the policy's data. Safe loading, no duplicate keys, no surprises such as `NO` for
false (YAML 1.2).
"""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from appliance.model.errors import EnvironmentFailed

Model = TypeVar("Model", bound=BaseModel)


class FileError(EnvironmentFailed):
    """A file that people write has a mistake. The message is one sentence."""

    def __init__(self, message: str) -> None:
        super().__init__("configuration", message)


def model_of(text: str, name: str, model: type[Model]) -> Model:
    """`text`, the content of the file `name`, as `model`. An empty text is an empty mapping. Raises FileError."""
    tree = _parse(text, name)
    try:
        return model.model_validate(_plain(tree))
    except ValidationError as error:
        raise FileError(_sentence(name, tree, model, _most_telling(tree, error.errors()))) from None


def _parse(text: str, name: str) -> Any:
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = False
    try:
        tree = yaml.load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        what = (error.problem or "a key twice").splitlines()[0].split(" with value")[0]
        raise FileError(f"{name}:{line}: {what}; each key may be written once") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FileError(f"{name}:{mark.line + 1 if mark else 0}: this is not YAML: {error.problem}") from None
    except (YAMLError, ValueError) as error:
        raise FileError(f"{name}: this is not YAML: {str(error).splitlines()[0]}") from None
    if tree is None:
        return CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise FileError(f"{name}:1: the file must be a mapping of keys, such as `destinations:`")
    return tree


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key if isinstance(key, str) else str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    if isinstance(tree, bool) or tree is None:
        return tree
    for kind in (int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return str(tree)  # dates and the like: what was written


def _most_telling(tree: Any, errors: list[ErrorDetails]) -> ErrorDetails:
    """The first; but of a mapping that lacks a key and has an unknown one, the unknown: it is the misspelt one."""
    first = errors[0]
    above = first["loc"][:-1]
    if first["type"] == "missing" and _is_there(tree, above):
        for error in errors:
            if error["type"] == "extra_forbidden" and error["loc"][:-1] == above:
                return error
    return first


def _is_there(tree: Any, loc: tuple[int | str, ...]) -> bool:
    """Whether `loc` is a place in the file; steps into unions are not."""
    node = tree
    for step in loc:
        if not isinstance(node, (CommentedMap, CommentedSeq)):
            return False
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _sentence(name: str, tree: Any, model: type[BaseModel], error: ErrorDetails) -> str:
    line, path, node = _place(tree, error["loc"])
    where = ".".join(path) or "the file"
    kind = error["type"]
    if kind == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        near = difflib.get_close_matches(path[-1], known, 1)
        hint = (
            f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}" if known else "it is not allowed"
        )
        return f"{name}:{line}: {where}: there is no such key; {hint}"
    if kind == "missing":
        return f"{name}:{line}: {where}: this key is needed"
    message = error["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        message = f"{node!r} is not allowed; it must match {error['ctx']['pattern']}"
    elif kind != "value_error":
        message = message[:1].lower() + message[1:]
        if node is not None and not isinstance(node, (dict, list)):
            message = f"{node!r}: {message}"
    return f"{name}:{line}: {where}: {message}"


def _place(tree: Any, loc: tuple[int | str, ...]) -> tuple[int, list[str], Any]:
    """(line, key path, value) of the deepest part of `loc` that is in the file; steps of unions are passed over."""
    line, path, node = 1, [], tree
    for step in loc:
        if isinstance(node, CommentedMap) and step in node:
            line = node.lc.key(step)[0] + 1 if step in node.lc.data else line
            node = node[step]
            path.append(str(step))
        elif isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node):
            line = node.lc.item(step)[0] + 1 if step in node.lc.data else line
            node = node[step]
            path[-1:] = [f"{path[-1]}[{step}]"] if path else [f"[{step}]"]
        elif isinstance(node, CommentedMap) and step == loc[-1]:
            path.append(str(step))
            node = None
    return line, path, node


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that the mapping at `path` may have, as far as the model says it plainly."""
    found: set[str] = set()
    stack: list[tuple[Any, list[str]]] = [(model, path)]
    while stack:
        annotation, rest = stack.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {field.alias or key: field for key, field in annotation.model_fields.items()}
            if not rest:
                found.update(fields)
            elif (step := rest[0].partition("[")[0]) in fields:
                stack.append((fields[step].annotation, rest[1:]))
        else:
            stack += [(each, rest) for each in getattr(annotation, "__args__", ()) if each is not Ellipsis]
    return sorted(found)
