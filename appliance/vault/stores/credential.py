"""A secret that systemd gives the vault's unit (systemd-creds, LoadCredentialEncrypted=).

systemd shows the credentials to the account that the unit starts as, which is root: they are read before the vault
gives that up. They do not change while the unit runs (systemd.exec(5), "CREDENTIALS").
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.config.schema import FromCredential, SecretSpec
from appliance.model.errors import EnvironmentFailed
from appliance.model.secret import Secret
from appliance.vault.stores.file import read_file
from appliance.vault.stores.value import Origin

Read = Mapping[str, Secret | EnvironmentFailed]  # by the secret's name


def read_credentials(specs: Iterable[SecretSpec]) -> Read:
    """Every credential that a secret comes from, or why it cannot be had. For the start, before rights are given up."""
    found: dict[str, Secret | EnvironmentFailed] = {}
    for spec in specs:
        if isinstance(spec.source, FromCredential):
            try:
                found[spec.name] = _read(spec.name, spec.source.credential)
            except EnvironmentFailed as error:
                found[spec.name] = error
    return found


def _read(secret: str, name: str) -> Secret:
    origin = Origin(secret, f"systemd credential {name}")
    if "/" in name or name in ("", ".", ".."):
        raise origin.unavailable("that is not a credential's name", "name one without a slash")
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise origin.unavailable(
            "systemd gave the vault process no credentials",
            f"add LoadCredentialEncrypted={name}:FILE to the vault's unit, and restart it",
        )
    path = Path(folder) / name
    if not path.exists():
        raise origin.unavailable(
            "the vault's unit does not have it", f"add LoadCredentialEncrypted={name}:FILE to it, and restart it"
        )
    return origin.secret_of(read_file(str(path), origin), line=True)


class CredentialStore:
    def __init__(self, secret: str, read: Read) -> None:
        self._secret = secret
        self._read = read

    async def fetch(self) -> Secret:
        found = self._read[self._secret]
        if isinstance(found, EnvironmentFailed):
            raise EnvironmentFailed(found.code, str(found))
        return found
