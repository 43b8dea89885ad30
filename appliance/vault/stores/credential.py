"""A secret that systemd gives the vault's unit (systemd-creds, LoadCredentialEncrypted=)."""

from __future__ import annotations

import os

from appliance.model.secret import Secret
from appliance.vault.stores.file import FileStore
from appliance.vault.stores.value import Origin


class CredentialStore:
    def __init__(self, secret: str, name: str) -> None:
        self._secret = secret
        self._name = name
        self._source = f"systemd credential {name}"

    async def fetch(self) -> Secret:
        origin = Origin(self._secret, self._source)
        if "/" in self._name or self._name in ("", ".", ".."):
            raise origin.unavailable("that is not a credential's name", "name one without a slash")
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")  # systemd.exec(5), "CREDENTIALS"
        if not folder:
            raise origin.unavailable(
                "systemd gave the vault process no credentials",
                f"add LoadCredentialEncrypted={self._name}:FILE to the vault's unit",
            )
        path = os.path.join(folder, self._name)
        if not os.path.exists(path):
            raise origin.unavailable(
                "the vault's unit does not have it", f"add LoadCredentialEncrypted={self._name}:FILE to the unit"
            )
        return await FileStore(self._secret, path, source=self._source).fetch()
