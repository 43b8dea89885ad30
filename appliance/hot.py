"""The modules that every byte or every request goes through: compiled to C by mypyc where the product is installed
(`setup.py`), and the same without, only slower.

A module may be added if it has no class that mypyc would get wrong; the build refuses one that has (`refusals`).
"""

from __future__ import annotations

import ast
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

HOT = (
    "audit.chain",
    "audit.committer",
    "audit.intake",
    "audit.log",
    "control.flows",
    "control.service",
    "ipc.client",
    "ipc.frame",
    "ipc.server",
    "masking.array_value",
    "masking.copy",
    "masking.copy_base",
    "masking.copy_binary",
    "masking.copy_csv",
    "masking.copy_text",
    "masking.detectors",
    "masking.hiding",
    "masking.json_text",
    "masking.masker",
    "masking.rows",
    "masking.values",
    "metrics.tally",
    "model.recurring",
    "placeholders.scrub",
    "placeholders.slots",
    "policy.decider",
    "proxy.channel",
    "proxy.http_exchange",
    "proxy.http_flow",
    "proxy.http_response",
    "proxy.lease",
    "proxy.mailbox",
    "proxy.postgres_flow",
    "proxy.postgres_upstream",
    "proxy.recorder",
    "proxy.shares",
    "proxy.statement_records",
    "proxy.tally",
    "proxy.upstream",
    "session.http",
    "session.postgres",
    "session.postgres_judge",
    "session.postgres_masks",
    "session.postgres_names",
    "session.postgres_output",
    "session.postgres_reports",
    "session.postgres_steps",
    "sql.normal",
    "wire.http1_body",
    "wire.http1_grammar",
    "wire.http1_read",
    "wire.http1_write",
    "wire.postgres_frames",
    "wire.postgres_messages",
    "wire.postgres_read",
    "wire.postgres_write",
    "wire.target",
)
_COMPILED = frozenset(f"{__package__}.{name}" for name in HOT)
_HERE = Path(__file__).parent
_PLAIN_BASES = frozenset(("BufferedProtocol", "Exception", "Generic", "NamedTuple", "Protocol"))


def sources() -> list[Path]:
    return [_HERE.joinpath(*name.split(".")).with_suffix(".py") for name in HOT]


def interpreted() -> list[str]:
    """Those that Python would load from their source: all or none, unless an installation went wrong."""
    specs = {name: find_spec(f"{__package__}.{name}") for name in HOT}
    return [name for name, spec in specs.items() if spec is None or (spec.origin or "").endswith(".py")]


def fingerprint() -> str:
    """Of everything that the compiled modules are made from, but for the tools."""
    digest = sha256()
    for path in (_HERE.parent / "setup.py", Path(__file__), *sources()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def refusals(source: str) -> list[str]:
    """The classes in a module's source that must not be compiled. mypyc passes over class keywords without a word, so
    that a frozen msgspec Struct would be no longer frozen; a base that is neither compiled nor
    known to be harmless may take some."""
    nodes = list(ast.walk(ast.parse(source)))
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    compiled = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module in _COMPILED]
    plain = _PLAIN_BASES.union(
        (node.name for node in classes), (alias.asname or alias.name for node in compiled for alias in node.names)
    )
    return [node.name for node in classes if node.keywords or not all(_name(base) in plain for base in node.bases)]


def _name(base: ast.expr) -> str:
    """Generic[Key] -> Generic, typing.Protocol -> Protocol."""
    return ast.unparse(base).partition("[")[0].rpartition(".")[2]
