"""The shape of `data.yaml`. Unknown keys are errors: a misspelt restriction must not restrict nothing."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from appliance.config.schema import seconds_of
from appliance.masking.detectors import chosen
from appliance.policy.globs import host_pattern, path_pattern
from appliance.policy.server_functions import HARMLESS
from appliance.policy.statements import (
    CATALOGUE,
    HARMLESS_MARKS,
    SESSION,
    WRAPPERS,
    column_pattern,
    command_pattern,
    commands_of,
    function_pattern,
    mark_of,
    part_of,
    relation_pattern,
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Method = Annotated[str, Field(pattern=r"^[A-Z]{1,32}$")]
Identifier = Annotated[str, Field(min_length=1, max_length=63)]  # PostgreSQL: NAMEDATALEN - 1
Hold = Annotated[float, BeforeValidator(seconds_of), Field(gt=0, le=86400.0)]
Limit = Annotated[int, Field(ge=1)]

HOLD = 300.0  # seconds that a statement is held if its rule says nothing of it
_HTTP_KEYS = ("methods", "paths", "content_types", "query")
STATEMENT_KEYS = ("commands", "tables", "reads", "writes", "columns", "functions", "where", "marks")
_SESSION_KEYS = ("databases", "users")
_LIMIT_KEYS = ("hold", "max_rows", "max_bytes")
_POSTGRES = ("postgres", "plain-postgres")
# What the server may ask for; `none`: nothing, for it knows us by a certificate (or trusts everybody)
UpstreamLogin = Literal["scram-sha-256-plus", "scram-sha-256", "md5", "password", "none"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Part):
    """Of a destination's rules the first that fits decides. What is not written fits all."""

    name: Name
    methods: tuple[Method, ...] | None = None
    paths: tuple[str, ...] | None = None
    content_types: tuple[str, ...] | None = None
    credentials: tuple[Name, ...] | None = None  # allow: all in use are among these; else: one is; []: none is
    query: tuple[str, ...] | None = None  # allow: all parameters are among these; else: one is; []: none is
    # of a statement; of each list an allowing rule must know all that is there, a refusing one takes one as enough
    commands: tuple[str, ...] | None = None
    tables: tuple[str, ...] | None = None  # read or written
    reads: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    functions: tuple[str, ...] | None = None
    where: bool | None = None
    marks: tuple[Annotated[str, AfterValidator(mark_of)], ...] | None = None
    databases: tuple[Identifier, ...] | None = None
    users: tuple[Identifier, ...] | None = None
    decision: Literal["allow", "deny", "hold"] = "allow"
    hold: Hold | None = None  # seconds
    max_rows: Limit | None = None
    max_bytes: Limit | None = None
    reason: str = ""
    ask: str = ""

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for glob in value or ():
            path_pattern(glob)
        return value

    @field_validator("commands")
    @classmethod
    def _commands(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for word in commands_of(value or ()):
            command_pattern(word)
        return value

    @field_validator("tables", "reads", "writes")
    @classmethod
    def _relations(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for glob in value or ():
            relation_pattern(glob)
        return value

    @field_validator("columns")
    @classmethod
    def _columns(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for glob in value or ():
            column_pattern(glob)
        return value

    @field_validator("functions")
    @classmethod
    def _functions(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for glob in value or ():
            function_pattern(glob)
        return value

    @model_validator(mode="after")
    def _limits(self) -> Rule:
        if self.hold is not None and self.decision != "hold":
            raise ValueError("hold is for a rule whose decision is hold")
        if self.decision != "allow" and (self.max_rows is not None or self.max_bytes is not None):
            raise ValueError("max_rows and max_bytes are for a rule that allows")
        return self

    def written(self, keys: tuple[str, ...]) -> list[str]:
        """Which of these conditions it has."""
        return [key for key in keys if getattr(self, key) is not None]


class MaskSpec(_Part):
    """What of results is hidden, and from whom not. See `appliance.model.verdict.Mask`."""

    name: Name
    columns: tuple[str, ...] = ()  # "schema.table.column", no patterns
    names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    detect: tuple[str, ...] = ()
    how: Literal["hide", "null", "partial", "token"] = "hide"
    paths: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    expressions: Literal["deny", "mask"] = "deny"
    probing: Literal["deny", "allow"] = "deny"
    absent: Literal["deny", "allow"] = "deny"
    unless_groups: tuple[Name, ...] = ()
    unless_principals: tuple[Name, ...] = ()

    @field_validator("columns")
    @classmethod
    def _columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for column in value:
            column_pattern(column)
            if "*" in column:
                raise ValueError(f"{column!r}: a column here is no pattern; names takes patterns of column names")
        return value

    @field_validator("detect")
    @classmethod
    def _detect(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        chosen(value)
        return value

    @model_validator(mode="after")
    def _something(self) -> MaskSpec:
        if not (self.columns or self.names or self.detect):
            raise ValueError("a mask needs columns, names or detect: what it hides")
        return self


class DestinationSpec(_Part):
    """Where somebody may go, and what they may do there."""

    name: Name
    hosts: tuple[str, ...] = Field(min_length=1)
    protocol: Literal["http", "plain-http", "tunnel", "postgres", "plain-postgres"] = "http"
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        default_factory=lambda data: (5432,) if data.get("protocol") in _POSTGRES else (443,)
    )
    addresses: tuple[str, ...] = ()
    principals: tuple[Name, ...] = ()
    groups: tuple[Name, ...] = ()
    labels: tuple[Name, ...] = ()
    secrets: tuple[Name, ...] = ()
    allow_range: bool = False
    upgrade: tuple[str, ...] = ()
    # of PostgreSQL
    databases: tuple[Identifier, ...] = ()
    users: tuple[Identifier, ...] = ()
    login: Literal["scram-sha-256", "md5", "password"] = "scram-sha-256"
    upstream_login: tuple[UpstreamLogin, ...] = Field(("scram-sha-256-plus", "scram-sha-256"), min_length=1)
    search_path: tuple[Identifier, ...] | None = None  # None: public if statements are judged, else the agent's
    role: Annotated[str, Field(max_length=63)] = ""
    replication: bool = False
    record: Literal["shape", "text", "values"] = "shape"
    session: Literal["allow", "deny"] = "allow"
    catalogue: Literal["allow", "deny"] = "allow"
    masks: tuple[MaskSpec, ...] = ()
    opaque_functions: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            host_pattern(host)
        return value

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(
                    f"{network!r} is not a network: write for example 10.0.0.0/8 or 2001:db8::/32"
                ) from None
        return value

    @field_validator("rules")
    @classmethod
    def _rules_of_protocol(cls, value: tuple[Rule, ...], info: ValidationInfo) -> tuple[Rule, ...]:
        is_sql = info.data.get("protocol") in _POSTGRES
        foreign = _HTTP_KEYS if is_sql else STATEMENT_KEYS + _SESSION_KEYS + _LIMIT_KEYS
        own = STATEMENT_KEYS if is_sql else _HTTP_KEYS
        for rule in value:
            for key in rule.written(foreign):
                raise ValueError(
                    f"rule {rule.name} has {key}, which protocol {info.data.get('protocol')} does not know;"
                    f" its conditions are {', '.join(own)}"
                )
        return value

    @field_validator("masks")
    @classmethod
    def _masks(cls, value: tuple[MaskSpec, ...]) -> tuple[MaskSpec, ...]:
        names = [mask.name for mask in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"there are two masks named {name}")
        return value

    @field_validator("opaque_functions")
    @classmethod
    def _opaque(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for glob in value:
            function_pattern(glob)
        return value

    @field_validator("upstream_login")
    @classmethod
    def _upstream_login(cls, value: tuple[UpstreamLogin, ...], info: ValidationInfo) -> tuple[UpstreamLogin, ...]:
        if info.data.get("protocol") == "plain-postgres" and "password" in value:
            raise ValueError("a password is not sent in the clear: use protocol postgres, or another method")
        return value

    @property
    def is_sql(self) -> bool:
        return self.protocol in _POSTGRES

    @property
    def statement_rules(self) -> bool:
        """Whether a statement must be known for its verdict, or for what is locked and hidden beside it."""
        conditional = any(rule.written(STATEMENT_KEYS) for rule in self.rules)
        return conditional or bool(self.masks or self.role or self.search_path)

    @property
    def judged(self) -> bool:
        """False if every statement is allowed, whatever it is: then none need be asked about."""
        return (
            self.statement_rules
            or not self.rules
            or any(
                rule.decision != "allow" or rule.written((*_SESSION_KEYS, *_LIMIT_KEYS, "credentials"))
                for rule in self.rules
            )
        )


class Data(_Part):
    """The whole file."""

    destinations: tuple[DestinationSpec, ...] = ()

    @field_validator("destinations")
    @classmethod
    def _unique(cls, value: tuple[DestinationSpec, ...]) -> tuple[DestinationSpec, ...]:
        names = [each.name for each in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"there are two destinations named {name}")
        for each in value:
            if each.protocol == "tunnel" and (each.secrets or each.rules):
                raise ValueError(f"{each.name}: a tunnel is not ended, so it can have neither secrets nor rules")
            for key in sorted(each.model_fields_set & (_OF_HTTP if each.is_sql else _OF_POSTGRES)):
                raise ValueError(f"{each.name}: {key} is not for protocol {each.protocol}")
        return value


def compiled(data: Data) -> dict[str, Any]:
    """The data as Rego sees it: as it was written, with `exact_hosts` and `host_patterns` (of those with a
    wildcard) beside `hosts`, and patterns beside the globs of rules. `statement_words` is what Rego knows of SQL."""
    plain: dict[str, Any] = data.model_dump(mode="json", exclude_none=True)
    for destination, spec in zip(plain["destinations"], data.destinations, strict=True):
        destination["exact_hosts"] = [host for host in destination["hosts"] if not host.startswith("*.")]
        destination["host_patterns"] = [host_pattern(host) for host in destination["hosts"] if host.startswith("*.")]
        for rule in destination.get("rules", ()):
            _compile_rule(rule)
        if spec.is_sql:
            destination["postgres"] = _compile_postgres(spec)
            destination["statement_rules"] = spec.statement_rules
        else:
            for key in _OF_POSTGRES:
                destination.pop(key, None)
    if any(spec.is_sql for spec in data.destinations):
        plain["statement_words"] = {
            "session": SESSION,
            "wrappers": WRAPPERS,
            "catalogue": {f"pg_catalog.{part_of(name)}": True for name in CATALOGUE},
            "functions": {f"pg_catalog.{name}": True for name in HARMLESS},
            "harmless_marks": sorted(HARMLESS_MARKS),
        }
    return plain


def _compile_rule(rule: dict[str, Any]) -> None:
    refuses = rule["decision"] != "allow"
    if "paths" in rule:
        rule["path_patterns"] = [path_pattern(glob, refuses) for glob in rule["paths"]]
    if "commands" in rule:
        rule["command_patterns"] = [command_pattern(word) for word in commands_of(tuple(rule["commands"]))]
    for key, pattern in (
        ("tables", relation_pattern),
        ("reads", relation_pattern),
        ("writes", relation_pattern),
        ("columns", column_pattern),
        ("functions", function_pattern),
    ):
        if key in rule:
            rule[f"{key.removesuffix('s')}_patterns"] = [pattern(glob, refuses) for glob in rule[key]]
    rule["conditions"] = [key for key in STATEMENT_KEYS if key in rule]
    if rule["decision"] == "hold":
        rule.setdefault("hold", HOLD)


def _compile_postgres(spec: DestinationSpec) -> dict[str, Any]:
    """`PostgresPlan` without what depends on the principal."""
    search_path = spec.search_path
    if search_path is None:
        search_path = ("public",) if spec.judged else ()
    return {
        "judged": spec.judged,
        "databases": spec.databases,
        "users": spec.users,
        "login": spec.login,
        "upstream_login": spec.upstream_login,
        "search_path": search_path,
        "role": spec.role,
        "replication": spec.replication,
        "record": spec.record,
        "opaque_functions": spec.opaque_functions,
    }


_OF_HTTP = frozenset({"allow_range", "upgrade"})
_OF_POSTGRES = frozenset(
    {
        "databases", "users", "login", "upstream_login", "search_path", "role", "replication", "record", "session",
        "catalogue", "masks", "opaque_functions",
    }
)  # fmt: skip
