"""What the PostgreSQL flows of a worker share beyond what all flows do."""

from __future__ import annotations

import hashlib
import math
import ssl
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from appliance.config.schema import Limits, Tls
from appliance.lineage.catalogue import ROUTINES, TYPES, Column, Made, Routine, build, relations_query
from appliance.lineage.relations import NO_CATALOGUE, Catalogue
from appliance.model.errors import EnvironmentFailed, PeerError
from appliance.model.verdict import Mask
from appliance.proxy.certificates import load_pair, upstream_context
from appliance.proxy.lease import CompiledLease
from appliance.proxy.postgres_cancels import Cancels
from appliance.proxy.postgres_upstream import Server
from appliance.proxy.shares import Shares
from appliance.session.postgres_judge import Judges

CATALOGUE_LIFE: Final = 20.0  # seconds
_READING: Final = 5.0  # seconds that a catalogue is used beyond that while somebody reads it anew
# Whatever search path the agent has begun with: its own operators must not answer for the server's
_SURELY: Final = "BEGIN; SET LOCAL search_path TO pg_catalog; {}; COMMIT"
_CATALOGUES_MOST: Final = 256


class Database(NamedTuple):
    """What a catalogue is of."""

    host: str
    address: str
    port: int
    name: str
    masks: tuple[Mask, ...]


class Known(NamedTuple):
    catalogue: Catalogue
    until: float  # of the monotonic clock
    digest: bytes  # of the rows that it was made from


_NOTHING: Final = Known(NO_CATALOGUE, math.inf, b"")


class PostgresServices:
    def __init__(self, config: Tls, kept_per_job: int) -> None:
        """`kept_per_job`: bytes, as in the configuration's limits."""
        self.judges = Judges(time.perf_counter)
        self.cancels = Cancels()
        self.shares = Shares(kept_per_job)
        self._config = config
        self._context = upstream_context(config, "postgresql")
        self._catalogues: OrderedDict[Database, Known] = OrderedDict()

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

    def catalogue(self, database: Database) -> Known | None:
        """What is known of a database, if it need not be asked again. To one of those who use it while it is too old it
        is not given: that one reads it anew, the others go on with it meanwhile."""
        if not any(mask.columns or mask.names for mask in database.masks):
            return _NOTHING
        known = self._catalogues.get(database)
        now = time.monotonic()
        if known is not None and known.until <= now:
            self._catalogues[database] = known._replace(until=now + _READING)
            return None
        return known

    async def read_catalogue(self, server: Server, database: Database, limits: Limits, codec: str) -> Known:
        """Asks the database, on a connection that no statement of an agent has been on. Raises EnvironmentFailed."""
        query, masks, wait = relations_query(database.masks), database.masks, limits.response_timeout
        columns = await server.query(_SURELY.format(query), len(Column._fields), wait)
        routines = await server.query(_SURELY.format(ROUTINES), len(Routine._fields), wait)
        types = await server.query(_SURELY.format(TYPES), len(Made._fields), wait)
        before = self._catalogues.get(database)
        digest = hashlib.sha256(repr((columns, routines, types)).encode()).digest()
        try:
            if before is not None and before.digest == digest:
                made = before.catalogue  # and so the judges that know it stay
            else:
                made = build(
                    masks,
                    [Column(*_texts(row, codec)) for row in columns],
                    [Routine(*_texts(row, codec)) for row in routines],
                    [Made(*_texts(row, codec)) for row in types],
                )
        except (ValueError, PeerError) as error:
            raise EnvironmentFailed("upstream-catalogue", f"the database's catalogue makes no sense: {error}") from None
        known = Known(made, time.monotonic() + CATALOGUE_LIFE, digest)
        self._catalogues[database] = known
        self._catalogues.move_to_end(database)
        while len(self._catalogues) > _CATALOGUES_MOST:
            self._catalogues.popitem(last=False)
        return known


def _texts(row: Sequence[bytes | None], codec: str) -> list[Any]:
    return [None if value is None else value.decode(codec) for value in row]
