"""Where real credentials come from: one file a source.

In: the source as the configuration says it. Out: `await fetch()` -> `Secret`, at every call anew.

Always: what cannot be had raises `EnvironmentFailed("secret-unavailable")` with the secret's name, the source
and what to do next, and never a byte of content or of what another program or server wrote. A value has at most
64 KiB of printable ASCII, with line breaks only in PEM; one line end of a file or command is dropped.

    value         what a value may be, and the one error
    file, environment, command, credential (systemd), kv (HashiCorp Vault, OpenBao)
    cache         a value for a time, never past it; one fetch at a time
"""

from appliance.vault.stores.sources import Store, store_of

__all__ = ["Store", "store_of"]
