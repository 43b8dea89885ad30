"""Destinations, operations, plans and verdicts: what policy is asked and what it answers."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.model.ids import DestinationName, SecretName

Decision = Literal["allow", "deny", "hold"]
NameSource = Literal["sni", "host", "dns", "literal"]
Mode = Literal["http", "tunnel", "postgres"]


class Destination(Struct, frozen=True):
    """Where a flow wants to go, before anything was dialled."""

    host: str  # canonical: lower case, A-labels, no trailing dot; an address literal if there is no name
    port: int
    address: str  # the address that the agent dialled, text form
    name_source: NameSource
    protocol: Literal["tls", "http", "postgres", "unknown", "dns"]


class Operation(Struct, frozen=True):
    """One HTTP request in the form that policy sees. This is also the *shape* that verdicts are cached by:
    policy can depend on nothing that is not in here (plus the plan's own input)."""

    kind: Literal["http"]
    method: str
    path: str  # percent-decoding of unreserved characters only, dot segments refused before
    query: tuple[str, ...]  # names of the query parameters, sorted, without repeats
    content_type: str
    upgrade: str  # "" or lower-case protocol name
    credentials: tuple[str, ...]  # names of the secrets whose placeholder stands in a slot, sorted


class SqlOperation(Struct, frozen=True):
    """One SQL statement in the form that policy sees, and the shape that its verdict is cached by.

    Names are as the server would fold them. A relation is "schema.table"; one that was written without a schema stands
    here once for each schema of the session's search path ("?" if the agent chose that itself). A column is
    "schema.table.column"; one whose table is not known stands here once for each table, "*" is every column. Within a
    name, `.`, `%`, `*` and `?` are escaped (`appliance.policy.statements.part_of`).
    """

    kind: Literal["sql"]
    dialect: Literal["postgres"]
    database: str
    user: str
    command: str  # "select", "insert", "copy-out", "create-table", … ; "unparsed" for what cannot be read
    inner: tuple[str, ...]  # commands of the statements in it: of EXPLAIN, PREPARE, COPY (…), what a WITH may change
    reads: tuple[str, ...]  # relations, sorted, without repeats
    writes: tuple[str, ...]  # relations that are changed, made or dropped
    columns: tuple[str, ...]  # where they can be known
    functions: tuple[str, ...]  # "schema.function", "schema.operator(+)", "oid:1598" of the fast path
    where: bool  # a WHERE that names a column is there, in each UPDATE and DELETE
    marks: tuple[str, ...]  # fixed words: appliance.sql.statements
    credentials: tuple[str, ...]  # names of the secrets that the session was opened with


AnyOperation = Operation | SqlOperation


class Mask(Struct, frozen=True):
    """What of a result is hidden, and how. At least one of `columns`, `names`, `detect` is not empty."""

    name: str
    columns: tuple[str, ...] = ()  # "schema.table.column"
    names: tuple[str, ...] = ()  # globs over the names of columns, of tables and of results
    detect: tuple[str, ...] = ()  # names of detectors, over every value
    how: str = "hide"  # hide, null, partial, token
    paths: tuple[str, ...] = ()  # within JSON values: only these
    expressions: Literal["deny", "mask"] = "deny"  # what is computed from a masked column
    probing: Literal["deny", "allow"] = "deny"  # a masked column in WHERE, JOIN, GROUP BY, ORDER BY, …
    absent: Literal["deny", "allow"] = "deny"  # sessions with a database that does not have one of `columns`


class PostgresPlan(Struct, frozen=True):
    """What a plan says of PostgreSQL beyond what it says of every protocol."""

    judged: bool = True  # statements are parsed and judged; False: every rule allows everything
    databases: tuple[str, ...] = ()  # empty: any
    users: tuple[str, ...] = ()
    login: Literal["scram-sha-256", "md5", "password"] = "scram-sha-256"  # asked of the agent
    upstream_login: tuple[str, ...] = ("scram-sha-256-plus", "scram-sha-256")  # what the server may ask for
    search_path: tuple[str, ...] = ("public",)  # set at the start and locked; empty: the agent's to choose
    role: str = ""  # SET ROLE, locked
    replication: bool = False
    record: Literal["shape", "text", "values"] = "shape"  # of each statement: without constants, whole, with parameters
    masks: tuple[Mask, ...] = ()
    opaque_functions: tuple[str, ...] = ()  # with masks: functions, beside the server's own, that may be called


class Plan(Struct, frozen=True):
    """What policy says of a principal and a destination, once per pair and policy version."""

    decision: Decision
    rule: str
    reason: str = ""
    destination: DestinationName = DestinationName("")
    mode: Mode = "http"
    secrets: tuple[SecretName, ...] = ()
    upstream_tls: bool = True  # False only for a destination that policy names as plain HTTP
    allow_range: bool = False  # let Range requests through although responses are scrubbed
    addresses: tuple[str, ...] = ()  # CIDRs that the dialled address must be in; empty: DNS must agree
    postgres: PostgresPlan | None = None  # for mode "postgres"


class Verdict(Struct, frozen=True):
    decision: Decision
    rule: str
    reason: str = ""
    ask: str = ""  # how to ask for what was refused
    hold_seconds: float = 0.0  # how long "hold" waits before it becomes a denial
    max_rows: int = 0  # of one statement; 0: as many as there are
    max_bytes: int = 0
