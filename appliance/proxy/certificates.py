"""The TLS contexts of a worker: one for each name that it answers for, one for all that it dials.

A leaf and its key come from the vault and are held as long as the context; the CA's key never comes here.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import OrderedDict

from appliance.config.schema import Tls
from appliance.ipc.client import IpcClient
from appliance.ipc.messages import Leaf
from appliance.model.errors import EnvironmentFailed

_RENEW_BEFORE = 3600.0  # seconds before a leaf's end
_MOST = 256  # contexts of a worker; each is some 30 kB


class Leaves:
    """Server-side contexts by host name."""

    def __init__(self, vault: IpcClient) -> None:
        self._vault = vault
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, float]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[ssl.SSLContext]] = {}
        self.minted = 0

    async def context(self, host: str) -> ssl.SSLContext:
        """The context that shows a leaf for `host`. Raises what the vault raises."""
        held = self._contexts.get(host)
        if held is not None and held[1] - _RENEW_BEFORE > time.time():
            self._contexts.move_to_end(host)
            return held[0]
        task = self._asking.get(host)
        if task is None:
            task = asyncio.ensure_future(self._make(host))
            self._asking[host] = task
            task.add_done_callback(lambda _: self._asking.pop(host, None))
        return await asyncio.shield(task)

    async def _make(self, host: str) -> ssl.SSLContext:
        leaf: Leaf = await self._vault.call("leaf", host, result=Leaf)
        self.minted += 1
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.num_tickets = 1
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1", "postgresql"])  # which of them is spoken, the ClientHello has said
        load_pair(context, leaf.key_pem + "\n" + leaf.chain_pem)
        self._contexts[host] = (context, leaf.not_after)
        while len(self._contexts) > _MOST:
            self._contexts.popitem(last=False)
        return context


def load_pair(context: ssl.SSLContext, pem: str) -> None:
    """`pem`: a key and its certificates. load_cert_chain takes paths only: the pair goes through memory
    (memfd_create(2)), never to a disk. Raises ssl.SSLError if it is no pair."""
    fd = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def upstream_context(config: Tls, protocol: str) -> ssl.SSLContext:
    """The context of upstream connections that speak `protocol` (an ALPN name, RFC 7301): verified against the system's
    roots and the configured ones.

    Raises EnvironmentFailed if a configured file cannot be used, or nothing would be trusted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([protocol])
    if config.system_roots:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    for file in config.upstream_ca_files:
        try:
            context.load_verify_locations(cafile=file)
        except (OSError, ssl.SSLError) as error:
            raise EnvironmentFailed("upstream-ca", f"tls.upstream_ca_files: {file} cannot be used: {error}") from None
    if not context.cert_store_stats()["x509"] and not config.system_roots:
        raise EnvironmentFailed("upstream-ca", "tls: no root is trusted: set system_roots or upstream_ca_files")
    return context
