"""What a secret's value may be, and the error that says why there is none."""

from __future__ import annotations

from appliance.model.errors import EnvironmentFailed
from appliance.model.secret import Secret

MAX_VALUE = 64 << 10  # bytes
_PRINTABLE = bytes(range(0x20, 0x7F))
_PEM = b"-----BEGIN "  # RFC 7468 2: a certificate and its key, which have lines


class Origin:
    """One secret's name and source, for errors."""

    __slots__ = ("secret", "source")

    def __init__(self, secret: str, source: str) -> None:
        self.secret = secret
        self.source = source

    def unavailable(self, problem: str, step: str) -> EnvironmentFailed:
        """The one error of all stores. `problem` and `step` are our own words: never content, never another's."""
        return EnvironmentFailed("secret-unavailable", f"secret {self.secret} from {self.source}: {problem}; {step}")

    def secret_of(self, value: bytes, *, line: bool) -> Secret:
        """The secret in `value`. `line`: drops one line end (LF or CRLF), as editors and commands add it.

        Raises EnvironmentFailed if it is empty, too long, or has a byte that cannot stand in an HTTP header (PEM aside,
        which may have lines).
        """
        if line and value.endswith(b"\n"):
            value = value[:-2] if value.endswith(b"\r\n") else value[:-1]
        if not value:
            raise self.unavailable("it is empty", "put the credential there")
        if len(value) > MAX_VALUE:
            raise self.unavailable(f"it has over {MAX_VALUE >> 10} KiB", "a credential is shorter; check the source")
        strange = value.translate(None, _PRINTABLE + b"\r\n" if value.startswith(_PEM) else _PRINTABLE)
        if strange:
            kind = "a line break" if strange[0] in b"\r\n" else f"a byte 0x{strange[0]:02x}"
            raise self.unavailable(
                f"it has {kind} where only printable ASCII may be", "store the bare credential, without other text"
            )
        return Secret(value)
