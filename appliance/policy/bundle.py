"""The texts of a policy folder -> a bundle that every process can trust: parsed, bounded, free of what is forbidden."""

from __future__ import annotations

import hashlib
import re

import msgspec

from appliance.config.lines import FileError, model_of
from appliance.ipc.messages import PolicyBundle
from appliance.policy.data import Data, compiled

DATA_FILE = "data.yaml"

# Built-ins whose answer depends on more than their arguments, or that reach out: a cached verdict would not be sound
_FORBIDDEN = re.compile(
    r"\b(?:time\.now_ns|rand\.intn|uuid\.rfc4122|http\.send|net\.lookup_ip_addr|opa\.runtime|print|trace)\b"
)
_COMMENT = re.compile(r"#[^\n]*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`')


def parse_data(text: str, name: str = DATA_FILE) -> Data:
    """data.yaml. Raises FileError naming line, key and what is allowed."""
    return model_of(text, name, Data)


def make_bundle(modules: dict[str, str], data: Data) -> PolicyBundle:
    """The bundle of these modules ({file name: Rego}). Raises FileError for a forbidden built-in; whether the Rego
    compiles is `engine.Policy`'s to say."""
    for name, text in sorted(modules.items()):
        code = _COMMENT.sub("", _STRING.sub('""', text))
        match = _FORBIDDEN.search(code)
        if match is not None:
            line = code[: match.start()].count("\n") + 1
            raise FileError(
                f"{name}:{line}: {match[0]} is not allowed: an answer may depend on the input and data only"
            )
    rendered = msgspec.json.encode(compiled(data), order="deterministic").decode()
    digest = hashlib.sha256(msgspec.msgpack.encode([sorted(modules.items()), rendered])).hexdigest()
    return PolicyBundle(version=digest, modules=modules, data=rendered)
