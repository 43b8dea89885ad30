"""A secret in a file."""

from __future__ import annotations

import asyncio
import os
import stat

from appliance.model.secret import Secret
from appliance.vault.stores.value import MAX_VALUE, Origin


class FileStore:
    def __init__(self, secret: str, path: str, *, source: str = "") -> None:
        self._path = path
        self._origin = Origin(secret, source or f"file {path}")

    async def fetch(self) -> Secret:
        return self._origin.secret_of(await asyncio.to_thread(read_file, self._path, self._origin), line=True)


def read_file(path: str, origin: Origin) -> bytes:
    """The content of a regular file, as far as a secret may be long. Raises EnvironmentFailed."""
    try:
        # O_NONBLOCK: a FIFO in the file's place must not hold us up
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise origin.unavailable("there is no such file", "create it") from None
    except PermissionError:
        raise origin.unavailable(
            "the vault may not read it", f"let uid {os.geteuid()} read it and enter the folders above it"
        ) from None
    except OSError as error:
        raise origin.unavailable(f"it cannot be opened ({error.strerror})", "mend that") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise origin.unavailable("it is not a regular file", "name a file")
        value = b""
        while len(value) < MAX_VALUE + 3:  # room for a line end, and one byte that says "too long"
            chunk = os.read(fd, MAX_VALUE + 3 - len(value))
            if not chunk:
                break
            value += chunk
        return value
    except OSError as error:
        raise origin.unavailable(f"it cannot be read ({error.strerror})", "mend that") from None
    finally:
        os.close(fd)
