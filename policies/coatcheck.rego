# What may be done, by whom. Coatcheck asks three questions:
#
#   plan     input: principal, job, process, destination              once per principal and destination
#   verdict  the same, with destination.name and operation            per shape of a request or an SQL statement
#   name     principal, job, process, name                            per name that somebody asks DNS for
#
# All that is not allowed here is denied. The data (data.yaml) says what is; docs/policy.md is its reference.
package coatcheck

import rego.v1

# ---- plan ----

default plan := {
	"decision": "deny",
	"rule": "default-deny",
	"reason": "no destination in the policy has this host, port and protocol",
}

plan := {
	"decision": "allow",
	"rule": chosen.name,
	"destination": chosen.name,
	"mode": modes[chosen.protocol],
	"secrets": chosen.secrets,
	"upstream_tls": is_encrypted(chosen),
	"allow_range": chosen.allow_range,
	"addresses": chosen.addresses,
	"postgres": postgres_plan(chosen),
} if {
	chosen := permitted[0]
}

plan := {
	"decision": "deny",
	"rule": sprintf("%s/principal", [covering[0].name]),
	"reason": sprintf("%s may not go to %s", [input.principal.name, covering[0].name]),
} if {
	count(covering) > 0
	count(permitted) == 0
}

covering := [d | some d in data.destinations; covers(d)]

permitted := [d | some d in covering; permits(d)]

covers(d) if {
	is_host(d, input.destination.host)
	input.destination.port in d.ports
	input.destination.protocol in protocols[d.protocol]
}

# What a destination's protocol may look like on the wire
protocols := {
	"http": ["tls"],
	"plain-http": ["http"],
	"tunnel": ["tls", "unknown"],
	"postgres": ["postgres"],
	"plain-postgres": ["postgres"],
}

modes := {
	"http": "http",
	"plain-http": "http",
	"tunnel": "tunnel",
	"postgres": "postgres",
	"plain-postgres": "postgres",
}

default is_encrypted(_) := true

is_encrypted(d) := false if d.protocol in ["plain-http", "plain-postgres"]

is_host(d, host) if host in d.exact_hosts

is_host(d, host) if {
	some pattern in d.host_patterns
	regex.match(pattern, host)
}

# Named by principal or by group, and with the right label where labels are asked for
permits(d) if {
	named(d)
	labelled(d)
}

named(d) if input.principal.name in d.principals

named(d) if {
	some group in input.principal.groups
	group in d.groups
}

labelled(d) if count(d.labels) == 0

labelled(d) if input.job.label in d.labels

# ---- verdict ----

default verdict := {"decision": "deny", "rule": "default-deny", "reason": "no rule allows this request"}

verdict := statement_verdict if { # postgres.rego
	input.operation.kind == "sql"
} else := {"decision": "deny", "rule": "no-trace", "reason": "TRACE and CONNECT are never let through"} if {
	input.operation.method in ["TRACE", "CONNECT"]
} else := {
	"decision": "deny",
	"rule": sprintf("%s/no-upgrade", [here.name]),
	"reason": sprintf("an upgrade to %s is not allowed at %s", [input.operation.upgrade, here.name]),
} if {
	input.operation.upgrade != ""
	not input.operation.upgrade in here.upgrade
} else := {
	"decision": fitting[0].decision,
	"rule": sprintf("%s/%s", [here.name, fitting[0].name]),
	"reason": fitting[0].reason,
	"ask": fitting[0].ask,
} if {
	count(fitting) > 0
} else := {
	"decision": "deny",
	"rule": sprintf("%s/default-deny", [here.name]),
	"reason": sprintf("no rule of %s allows %s %s", [here.name, input.operation.method, input.operation.path]),
} if {
	here
}

here := d if {
	some d in data.destinations
	d.name == input.destination.name
}

fitting := [r | some r in here.rules; fits(r)]

fits(r) if {
	has_method(r)
	has_path(r)
	has_type(r)
	has_credentials(r)
	has_query(r)
}

has_method(r) if not r.methods

has_method(r) if input.operation.method in r.methods

has_path(r) if not r.paths

has_path(r) if {
	some pattern in r.path_patterns
	regex.match(pattern, input.operation.path)
}

has_type(r) if not r.content_types

has_type(r) if input.operation.content_type in r.content_types

# A list of credentials or parameters. What allows must know all that is there, what refuses takes one as enough:
# otherwise something harmless beside it would get a request past the refusal. An empty list: none is there.
has_credentials(r) if not r.credentials

has_credentials(r) if {
	count(r.credentials) == 0
	count(input.operation.credentials) == 0
}

has_credentials(r) if {
	r.decision == "allow"
	count(input.operation.credentials) > 0
	every used in input.operation.credentials { used in r.credentials }
}

has_credentials(r) if {
	r.decision != "allow"
	some used in input.operation.credentials
	used in r.credentials
}

has_query(r) if not r.query

has_query(r) if {
	count(r.query) == 0
	count(input.operation.query) == 0
}

has_query(r) if {
	r.decision == "allow"
	every parameter in input.operation.query { parameter in r.query }
}

has_query(r) if {
	r.decision != "allow"
	some parameter in input.operation.query
	parameter in r.query
}

# ---- name ----

default name := {"decision": "deny", "rule": "default-deny", "reason": "no destination in the policy has this name"}

name := {"decision": "allow", "rule": knowing[0].name} if count(knowing) > 0

knowing := [d | some d in data.destinations; is_host(d, input.name); permits(d)]
