"""What the PostgreSQL flows of a worker share beyond what all flows do."""

from __future__ import annotations

import ssl
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from appliance.config.schema import Limits, Tls
from appliance.lineage.catalogue import ROUTINES, Column, Routine, build, relations_query
from appliance.lineage.relations import NO_CATALOGUE, Catalogue
from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.model.verdict import Mask
from appliance.proxy.certificates import load_pair, upstream_context
from appliance.proxy.lease import CompiledLease
from appliance.proxy.postgres_cancels import Cancels
from appliance.proxy.postgres_upstream import Server
from appliance.proxy.upstream import Route
from appliance.session.postgres_judge import Judges

CATALOGUE_LIFE: Final = 30.0  # seconds; in a session, twice that at most
_CATALOGUES_MOST: Final = 256


class PostgresServices:
    def __init__(self, config: Tls) -> None:
        self.judges = Judges()
        self.cancels = Cancels()
        self._config = config
        self._context = upstream_context(config, "postgresql")
        self._catalogues: OrderedDict[tuple[object, ...], tuple[Catalogue, float]] = OrderedDict()

    def context(self, lease: CompiledLease) -> ssl.SSLContext:
        """For TLS to the server, with the lease's certificate where it has one. Raises EnvironmentFailed."""
        for secret in lease.secrets:
            if any(slot.kind == "upstream-certificate" for slot in secret.slots):
                known = lease.client_tls
                if known is None:
                    known = upstream_context(self._config, "postgresql")
                    try:
                        load_pair(known, secret.value.reveal().decode("ascii"))
                    except (ssl.SSLError, UnicodeDecodeError):
                        raise EnvironmentFailed(
                            "secret-unavailable", f"secret {secret.name} is no PEM of a certificate and its key"
                        ) from None
                    lease.client_tls = known
                return known
        return self._context

    async def catalogue(
        self, server: Server, route: Route, database: str, masks: tuple[Mask, ...], limits: Limits, codec: str
    ) -> Catalogue:
        """What the masks need to know of a database; asked of it once a minute. Raises EnvironmentFailed."""
        if not any(mask.columns or mask.names for mask in masks):
            return NO_CATALOGUE
        key = (route.host, route.address, route.port, database, masks)
        known = self._catalogues.get(key)
        now = time.monotonic()
        if known is not None and known[1] > now:
            return known[0]
        columns = await server.query(relations_query(masks), len(Column._fields), limits.response_timeout)
        routines = await server.query(ROUTINES, len(Routine._fields), limits.response_timeout)
        try:
            made = build(
                masks,
                [Column(*_texts(row, codec)) for row in columns],
                [Routine(*_texts(row, codec)) for row in routines],
            )
        except (ValueError, PeerError) as error:
            raise EnvironmentFailed("upstream-catalogue", f"the database's catalogue makes no sense: {error}") from None
        self._catalogues[key] = (made, now + CATALOGUE_LIFE)
        self._catalogues.move_to_end(key)
        while len(self._catalogues) > _CATALOGUES_MOST:
            self._catalogues.popitem(last=False)
        return made


def _texts(row: Sequence[bytes | None], codec: str) -> list[Any]:
    return [None if value is None else value.decode(codec) for value in row]
