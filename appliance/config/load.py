"""Reads the configuration file, and holds it against the policy's data."""

from __future__ import annotations

from pathlib import Path

from appliance.config import DEFAULT_PATH
from appliance.config.lines import FileError, model_of
from appliance.config.places import accounts
from appliance.config.schema import Config

__all__ = ["DEFAULT_PATH", "FileError", "load"]

MOST_BYTES = 1 << 20


def load(path: str | Path) -> Config:
    """The configuration in the file `path`. Raises FileError, one sentence, for whatever is wrong with it."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path}: the configuration cannot be read: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise FileError(f"{path}: the configuration is over {MOST_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: the configuration is not UTF-8 at byte {error.start}") from None
    config = model_of(text, str(path), Config)
    try:
        accounts(config)
    except ValueError as error:
        raise FileError(f"{path}: processes: {error}") from None
    return config
