"""The store of each kind of source."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol, assert_never

from appliance.config.schema import FromCommand, FromCredential, FromEnvironment, FromFile, FromVault, SecretSpec
from appliance.model.secret import Secret
from appliance.vault.stores.command import CommandStore
from appliance.vault.stores.credential import CredentialStore, Read
from appliance.vault.stores.environment import EnvironmentStore
from appliance.vault.stores.file import FileStore
from appliance.vault.stores.kv import KvStore


class Store(Protocol):
    async def fetch(self) -> Secret:
        """The value as it is now. Raises EnvironmentFailed("secret-unavailable"). A cancelled fetch leaves
        nothing running but, at most, a thread that ends by its own time limit."""
        ...


def store_of(spec: SecretSpec, credentials: Read, hidden: Collection[str] = ()) -> Store:
    """The store that `spec` names. `credentials`: what systemd gave us; `hidden`: variables of ours that no command
    is given."""
    source = spec.source
    match source:
        case FromFile():
            return FileStore(spec.name, source.file)
        case FromEnvironment():
            return EnvironmentStore(spec.name, source.environment)
        case FromCommand():
            return CommandStore(spec.name, source.command, source.timeout, hidden)
        case FromCredential():
            return CredentialStore(spec.name, credentials)
        case FromVault():
            return KvStore(spec.name, source)
        case _:
            assert_never(source)


def secret_variables(specs: Iterable[SecretSpec]) -> frozenset[str]:
    """The variables of our environment that hold secrets or tokens."""
    names: set[str] = set()
    for spec in specs:
        if isinstance(spec.source, FromEnvironment):
            names.add(spec.source.environment)
        elif isinstance(spec.source, FromVault) and spec.source.token_environment:
            names.add(spec.source.token_environment)
    return frozenset(names)
