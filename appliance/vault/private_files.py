"""Files that only the vault may read, and files that everybody may: written whole, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appliance.model.errors import EnvironmentFailed


def read_private(path: Path) -> bytes | None:
    """The content, or None if there is no such file.

    Raises EnvironmentFailed if it cannot be read, is not ours, or others may read it: a key that others could
    have read or placed is not used.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFailed("vault-state", f"{path} cannot be read: {error.strerror}") from None
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            raise EnvironmentFailed(
                "vault-state",
                f"{path} must be a file of uid {os.geteuid()} with mode 0600, it has uid {info.st_uid} and "
                f"mode {stat.S_IMODE(info.st_mode):04o}: a key that others may have read is not used",
            )
        return file.read()


def write_private(path: Path, content: bytes) -> None:
    """Replaces `path`, mode 0600; after a power failure it is the old or the new one. Raises EnvironmentFailed."""
    _replace(path, content, 0o600)


def write_public(path: Path, content: bytes) -> None:
    """The same with mode 0644."""
    _replace(path, content, 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(fresh, path)
        sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentFailed("vault-state", f"{path} cannot be written: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power failure. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
