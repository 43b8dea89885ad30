"""A secret in a KV store (version 1 or 2) of HashiCorp Vault or OpenBao."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hvac
import hvac.exceptions
import requests

from appliance.config.schema import FromVault
from appliance.model.errors import EnvironmentFailed
from appliance.model.secret import Secret
from appliance.vault.stores.file import FileStore
from appliance.vault.stores.value import Origin

_TIMEOUT = 5.0  # seconds, to connect and between two reads
_AT_MOST = 15.0  # seconds, all in all
# Threads of their own: a server that hangs must not hold up what else is read in threads
_threads = ThreadPoolExecutor(16, "kv")


class KvStore:
    """The token is read anew for each fetch: an agent beside us may renew it. Redirects are not followed (the
    token would go along); proxies, netrc and such of the environment are not used."""

    def __init__(self, secret: str, source: FromVault) -> None:
        self._source = source
        self._secret = secret
        self._origin = Origin(secret, f"{source.url} {source.mount}/{source.path} (KV version {source.kv})")

    async def fetch(self) -> Secret:
        token = await self._token()
        try:
            async with asyncio.timeout(_AT_MOST):
                data = await asyncio.get_running_loop().run_in_executor(_threads, self._read, token)
        except TimeoutError:
            raise self._slow(_AT_MOST) from None
        if self._source.key not in data:
            raise self._origin.unavailable(f"there is no key {self._source.key} in it", "write it, or correct the key")
        value = data[self._source.key]
        if not isinstance(value, str):
            raise self._origin.unavailable(f"key {self._source.key} is not a text", "store the credential as text")
        return self._origin.secret_of(value.encode(), line=False)

    async def _token(self) -> Secret:
        if self._source.token_file is not None:
            return await FileStore(
                self._secret,
                self._source.token_file,
                source=f"{self._source.url}, token file {self._source.token_file}",
            ).fetch()
        variable = self._source.token_environment or ""
        value = os.environb.get(os.fsencode(variable))
        if not value:
            raise self._origin.unavailable(
                f"the vault process has no variable {variable} with a token", "set it where the service is started"
            )
        return self._origin.secret_of(value, line=False)

    def _read(self, token: Secret) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self._source.ca_file if self._source.ca_file is not None else True
            client = hvac.Client(
                url=self._source.url,
                token=token.reveal().decode(),
                namespace=self._source.namespace,
                verify=session.verify,
                timeout=_TIMEOUT,
                allow_redirects=False,
                session=session,
            )
            try:
                return self._data_of(self._ask(client))
            except hvac.exceptions.Forbidden:
                raise self._forbidden(client) from None
            except Exception as error:
                # Never chained: requests' errors carry the request, and that the token. What hvac and requests
                # let through besides their own families (malformed JSON, unusable URLs) ends here too.
                raise self._failure(error) from None

    def _ask(self, client: hvac.Client) -> Any:
        if self._source.kv == 1:
            return client.secrets.kv.v1.read_secret(self._source.path, mount_point=self._source.mount)
        return client.secrets.kv.v2.read_secret_version(
            self._source.path, mount_point=self._source.mount, raise_on_deleted_version=True
        )

    def _data_of(self, answer: Any) -> dict[str, Any]:
        data = answer.get("data") if isinstance(answer, dict) else None
        if self._source.kv == 2 and isinstance(data, dict):
            if "data" not in data:
                raise self._origin.unavailable("the answer is not of KV version 2", "set kv: 1, or correct the mount")
            data = data["data"]
        if not isinstance(data, dict):
            status = getattr(answer, "status_code", None)
            raise self._origin.unavailable(
                f"the server answered with status {status}" if status else "the answer has no data",
                "name the active node of a Vault or OpenBao server in url",
            )
        return data

    def _forbidden(self, client: hvac.Client) -> EnvironmentFailed:
        """Tells a bad token from a good one without the right, which the server answers alike."""
        try:
            client.auth.token.lookup_self()
        except Exception:
            return self._origin.unavailable("the token is not valid (wrong, expired or revoked)", "give a new token")
        capability = f"{self._source.mount}/{'data/' if self._source.kv == 2 else ''}{self._source.path}"
        return self._origin.unavailable(
            "the token has no right to read it", f'give its policy capabilities = ["read"] on {capability}'
        )

    def _slow(self, seconds: float) -> EnvironmentFailed:
        return self._origin.unavailable(f"no answer within {seconds:g} s", "see whether the server is well")

    def _failure(self, error: Exception) -> EnvironmentFailed:
        match error:
            case EnvironmentFailed():
                return error
            case hvac.exceptions.InvalidPath():
                return self._origin.unavailable(
                    "there is nothing at this path", "write the secret, or correct mount, path and kv"
                )
            case hvac.exceptions.VaultDown():
                return self._origin.unavailable("the server is sealed or starting", "unseal it")
            case hvac.exceptions.VaultNotInitialized():
                return self._origin.unavailable("the server is not initialised", "initialise and unseal it")
            case hvac.exceptions.RateLimitExceeded():
                return self._origin.unavailable("the server limits our rate", "raise the secret's cache life")
            case hvac.exceptions.VaultError():
                return self._origin.unavailable(
                    f"the server refused the request ({type(error).__name__})", "see the server's log"
                )
            case requests.exceptions.SSLError():
                return self._origin.unavailable(
                    "its certificate is not trusted", "set ca_file to the authority that signed it"
                )
            case requests.exceptions.Timeout():
                return self._slow(_TIMEOUT)
            case requests.exceptions.ConnectionError():
                return self._origin.unavailable("the server cannot be reached", "start it, or correct url")
            case OSError() if not isinstance(error, requests.exceptions.RequestException):
                return self._origin.unavailable(f"ca_file {self._source.ca_file} cannot be read", "correct it")
            case _:
                return self._origin.unavailable(
                    f"the answer cannot be used ({type(error).__name__})", "see that url is a Vault or OpenBao server"
                )
