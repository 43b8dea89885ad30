"""A secret in a variable of the vault process."""

from __future__ import annotations

import os

from appliance.model.secret import Secret
from appliance.vault.stores.value import Origin


class EnvironmentStore:
    def __init__(self, secret: str, variable: str) -> None:
        self._variable = os.fsencode(variable)
        self._origin = Origin(secret, f"environment variable {variable}")

    async def fetch(self) -> Secret:
        value = os.environb.get(self._variable)
        if value is None:
            raise self._origin.unavailable(
                "the vault process does not have it", "set it where the service is started, and restart it"
            )
        return self._origin.secret_of(value, line=False)
