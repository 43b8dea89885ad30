"""Every metric, in one place. docs/metrics.md is written from this table (a test holds the two together)."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Process = Literal["kernel", "vault", "proxy", "control"]

# Seconds. From a hash look-up to a server that takes its time; each step's place in it is what matters.
STEP_BUCKETS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
)  # fmt: skip


class Metric(NamedTuple):
    """`name` is without the `_total` that a counter's sample has. `by`: the processes that may report it. A label
    `process` is filled in by control with the reporting worker's own name."""

    name: str
    kind: Kind
    help: str
    by: tuple[Process, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_EVERY: tuple[Process, ...] = ("kernel", "vault", "proxy", "control")

# ---- flows ----
FLOWS_OPENED = Metric("coatcheck_flows_opened", "counter", "Flows by what was decided.", ("proxy",), ("decision",))
FLOWS_CLOSED = Metric("coatcheck_flows_closed", "counter", "Flows that ended, by how.", ("proxy",), ("end",))
FLOWS_OPEN = Metric("coatcheck_flows_open", "gauge", "Flows now open.", ("proxy",))
FLOWS_REFUSED = Metric(
    "coatcheck_flows_refused", "counter", "Connections that never became a flow, by reason.", ("proxy",), ("reason",)
)
CONNECTIONS_OPEN = Metric(
    "coatcheck_connections_open", "gauge", "Open connections of the workers.", ("proxy",), ("side",)
)
BYTES = Metric(
    "coatcheck_bytes", "counter", "Payload bytes, sent by agents or received by them.", ("proxy",), ("direction",)
)
DIALS = Metric("coatcheck_dials", "counter", "Upstream connections: new, reused, failed.", ("proxy",), ("result",))
HANDSHAKES = Metric(
    "coatcheck_tls_handshakes", "counter", "TLS handshakes with agents, by result.", ("proxy",), ("side", "result")
)

# ---- decisions ----
VERDICTS = Metric(
    "coatcheck_verdicts",
    "counter",
    "Operations decided, by rule; those allowed under `any`.",
    ("proxy",),
    ("decision", "rule"),
)
DENIALS = Metric("coatcheck_denials", "counter", "What was denied, by reason.", ("proxy",), ("reason",))
PEER_ERRORS = Metric(
    "coatcheck_peer_errors", "counter", "Bytes that a protocol forbids, by code.", ("proxy",), ("side", "code")
)
ENVIRONMENT_ERRORS = Metric(
    "coatcheck_environment_errors", "counter", "What was needed and missing or broken, by code.", _EVERY, ("code",)
)
STEP_SECONDS = Metric(
    "coatcheck_step_seconds",
    "histogram",
    "Time of steps of a flow: identify, dial (with its TLS handshake), record, first_byte.",
    ("proxy",),
    ("step",),
    STEP_BUCKETS,
)

# ---- secrets ----
SWAPS = Metric("coatcheck_swaps", "counter", "Placeholders swapped for the secret.", ("proxy",), ("secret",))
SCRUBS = Metric("coatcheck_scrubs", "counter", "Secrets in responses made placeholders again.", ("proxy",), ("secret",))
STRAYS = Metric("coatcheck_stray_placeholders", "counter", "Placeholders where none may stand.", ("proxy",), ("place",))
SECRETS_OK = Metric("coatcheck_secret_ok", "gauge", "1 if the secret can be had.", ("control",), ("secret",))
PLACEHOLDERS = Metric("coatcheck_placeholders", "gauge", "Placeholders alive.", ("control",))
LEASES = Metric("coatcheck_leases", "counter", "Leases given to proxies, by result.", ("vault",), ("result",))
USES = Metric("coatcheck_counted_uses", "counter", "Uses of counted placeholders, by result.", ("vault",), ("result",))
TOKENS = Metric("coatcheck_identity_tokens", "counter", "Identity tokens, by result.", ("vault",), ("result",))

# ---- statements ----
ROWS_MASKED = Metric("coatcheck_rows_masked", "counter", "Rows of results of which columns are masked.", ("proxy",))
STATEMENTS_HELD = Metric(
    "coatcheck_statements_held", "counter", "Statements that waited for a person's yes.", ("proxy",)
)
STATEMENTS_WAITED = Metric(
    "coatcheck_statements_waited",
    "counter",
    "Times that statements waited because their job had used up its share of a worker's time for reading new ones.",
    ("proxy",),
)

# ---- certificates ----
LEAVES_MINTED = Metric("coatcheck_leaves_minted", "counter", "Leaf certificates minted.", ("vault",))
LEAVES = Metric("coatcheck_leaves", "gauge", "Leaf certificates in the vault's cache.", ("control",))
CA_NOT_AFTER = Metric("coatcheck_ca_not_after_seconds", "gauge", "When the CA ends, seconds since 1970.", ("control",))

# ---- names ----
DNS_QUESTIONS = Metric("coatcheck_dns_questions", "counter", "DNS questions by decision.", ("proxy",), ("decision",))

# ---- kernel ----
HOOKS = Metric("coatcheck_hook_events", "counter", "Counters of the BPF programs and maps.", ("control",), ("event",))
FLOW_MAP = Metric("coatcheck_flow_map_entries", "gauge", "Entries of the kernel's flow map.", ("control",))
JOBS = Metric("coatcheck_jobs", "gauge", "Jobs now there; managed: started by us.", ("control",), ("managed",))

# ---- audit ----
AUDIT_RECORDS = Metric("coatcheck_audit_records", "counter", "Records written since start.", ("control",))
AUDIT_FAILURES = Metric("coatcheck_audit_failures", "counter", "Batches that could not be written.", ("control",))
AUDIT_REFUSED = Metric(
    "coatcheck_audit_refused", "counter", "Batches of workers that were no records of theirs.", ("control",)
)
AUDIT_SEQUENCE = Metric("coatcheck_audit_sequence", "gauge", "Sequence of the last line.", ("control",))
AUDIT_SIZE = Metric("coatcheck_audit_segment_bytes", "gauge", "Size of the file written to.", ("control",))
AUDIT_UNSIGNED = Metric("coatcheck_audit_unsigned_records", "gauge", "Records no signed head covers.", ("control",))
AUDIT_LAG = Metric("coatcheck_audit_lag_seconds", "gauge", "Age of the oldest unsigned record.", ("control",))

# ---- policy and processes ----
POLICY_RELOADS = Metric("coatcheck_policy_reloads", "counter", "Attempts to load a policy.", ("control",), ("result",))
POLICY_INFO = Metric("coatcheck_policy_info", "gauge", "1 for the version in force.", ("control",), ("version",))
MEMORY = Metric("coatcheck_memory_bytes", "gauge", "Resident memory.", _EVERY, ("process",))
CPU = Metric("coatcheck_cpu_seconds", "counter", "Processor time.", _EVERY, ("process",))
WORKERS = Metric("coatcheck_workers", "gauge", "Workers that reported in the last seconds.", ("control",), ("process",))
METRICS_REFUSED = Metric("coatcheck_metrics_refused", "counter", "Reported samples not in the table.", ("control",))

EVERY: dict[str, Metric] = {metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)}
