# Tests of the policy itself: `coatcheck policy test` runs every rule whose name begins with test_.
package coatcheck_test

import rego.v1

import data.coatcheck

api := {
	"name": "api", "hosts": ["api.example.com"], "exact_hosts": ["api.example.com"], "host_patterns": [], "ports": [443],
	"protocol": "http", "addresses": [], "principals": ["deploy"], "groups": ["ci"], "labels": [],
	"secrets": ["token"], "allow_range": false, "upgrade": [],
	"rules": [
		{"name": "read", "methods": ["GET"], "paths": ["/a/**"], "path_patterns": [`^/a/.*$`], "decision": "allow", "reason": "", "ask": ""},
		{"name": "no-admin", "paths": ["/admin/**"], "path_patterns": [`^/admin/.*$`], "decision": "deny", "reason": "never", "ask": ""},
	],
}

asked := {
	"principal": {"name": "deploy", "groups": []},
	"job": {"label": "agent", "launched_uid": 1000},
	"process": {"exe": "/usr/bin/curl", "exe_sha256": "", "uid": 1000, "unit": ""},
	"destination": {"host": "api.example.com", "port": 443, "address": "192.0.2.1", "name_source": "sni", "protocol": "tls", "name": "api"},
	"operation": {"method": "GET", "path": "/a/b", "query": [], "content_type": "", "upgrade": "", "credentials": []},
}

with_destination(change) := object.union(asked, {"destination": object.union(asked.destination, change)})

with_operation(change) := object.union(asked, {"operation": object.union(asked.operation, change)})

test_nothing_is_allowed_without_data if {
	coatcheck.plan.decision == "deny" with input as asked with data.destinations as []
}

test_listed_destination_is_allowed if {
	coatcheck.plan.decision == "allow" with input as asked with data.destinations as [api]
}

test_a_name_that_only_ends_alike_is_not if {
	coatcheck.plan.decision == "deny" with input as with_destination({"host": "evilapi.example.com"}) with data.destinations as [api]
}

test_a_longer_name_is_not if {
	coatcheck.plan.decision == "deny" with input as with_destination({"host": "api.example.com.evil.com"}) with data.destinations as [api]
}

test_another_port_is_not if {
	coatcheck.plan.decision == "deny" with input as with_destination({"port": 8443}) with data.destinations as [api]
}

test_plain_http_is_not if {
	coatcheck.plan.decision == "deny" with input as with_destination({"protocol": "http"}) with data.destinations as [api]
}

test_a_stranger_is_told_so if {
	plan := coatcheck.plan with input as object.union(asked, {"principal": {"name": "other", "groups": []}}) with data.destinations as [api]
	plan.decision == "deny"
	plan.rule == "api/principal"
}

test_a_group_is_enough if {
	coatcheck.plan.decision == "allow" with input as object.union(asked, {"principal": {"name": "other", "groups": ["ci"]}}) with data.destinations as [api]
}

test_rule_allows if {
	verdict := coatcheck.verdict with input as asked with data.destinations as [api]
	verdict.decision == "allow"
	verdict.rule == "api/read"
}

test_rule_denies if {
	verdict := coatcheck.verdict with input as with_operation({"path": "/admin/x"}) with data.destinations as [api]
	verdict.decision == "deny"
	verdict.rule == "api/no-admin"
}

test_no_rule_is_denied if {
	verdict := coatcheck.verdict with input as with_operation({"method": "DELETE"}) with data.destinations as [api]
	verdict.decision == "deny"
	verdict.rule == "api/default-deny"
}

guarded := object.union(api, {"rules": [
	{"name": "no-root", "credentials": ["root"], "decision": "deny", "reason": "", "ask": ""},
	{"name": "all", "credentials": ["root", "token"], "decision": "allow", "reason": "", "ask": ""},
]})

test_a_refused_credential_is_refused_beside_another if {
	verdict := coatcheck.verdict with input as with_operation({"credentials": ["root", "token"]}) with data.destinations as [guarded]
	verdict.rule == "api/no-root"
}

test_an_unknown_credential_is_not_allowed_beside_another if {
	verdict := coatcheck.verdict with input as with_operation({"credentials": ["other", "token"]}) with data.destinations as [guarded]
	verdict.rule == "api/default-deny"
}

test_a_wildcard_is_one_label if {
	wild := object.union(api, {"exact_hosts": [], "host_patterns": [`^[a-z0-9-]+\.example\.com$`]})
	coatcheck.plan.decision == "allow" with input as asked with data.destinations as [wild]
	coatcheck.plan.decision == "deny" with input as with_destination({"host": "x.api.example.com"}) with data.destinations as [wild]
}

test_trace_is_denied_everywhere if {
	verdict := coatcheck.verdict with input as with_operation({"method": "TRACE"}) with data.destinations as [object.remove(api, ["rules"])]
	verdict.rule == "no-trace"
}

test_an_upgrade_is_denied if {
	verdict := coatcheck.verdict with input as with_operation({"upgrade": "websocket"}) with data.destinations as [api]
	verdict.rule == "api/no-upgrade"
}

test_without_rules_nothing_is_allowed if {
	verdict := coatcheck.verdict with input as asked with data.destinations as [object.remove(api, ["rules"])]
	verdict.decision == "deny"
	verdict.rule == "api/default-deny"
}

test_a_rule_that_says_nothing_fits_everything if {
	verdict := coatcheck.verdict with input as asked with data.destinations as [object.union(api, {"rules": [{"name": "any", "decision": "allow", "reason": "", "ask": ""}]})]
	verdict.rule == "api/any"
}

# ---- PostgreSQL ----

shop := {
	"name": "shop", "hosts": ["db.internal"], "exact_hosts": ["db.internal"], "host_patterns": [], "ports": [5432],
	"protocol": "postgres", "addresses": [], "principals": ["deploy"], "groups": [], "labels": [],
	"secrets": ["password"], "allow_range": false, "upgrade": [], "session": "allow", "catalogue": "allow",
	"postgres": {"judged": true, "search_path": ["public"]}, "statement_rules": true,
	"masks": [{"name": "mail", "columns": ["public.customers.email"], "unless_groups": ["support"], "unless_principals": []}],
	"rules": [
		{"name": "whole", "commands": ["delete"], "command_patterns": ["^delete$"], "where": false, "conditions": ["commands", "where"], "decision": "hold", "hold": 300, "reason": "", "ask": ""},
		{"name": "read", "commands": ["select"], "command_patterns": ["^select$"], "tables": ["public.*"], "table_patterns": [`^public\.[^.]*$`], "conditions": ["commands", "tables"], "max_rows": 10, "decision": "allow", "reason": "", "ask": ""},
	],
}

words := {
	"session": ["begin"], "wrappers": ["explain"], "catalogue": {"pg_catalog.pg_type": true},
	"functions": {"pg_catalog.now": true}, "harmless_marks": ["cte"],
}

asked_sql := {
	"principal": asked.principal, "job": asked.job, "process": asked.process,
	"destination": {"host": "db.internal", "port": 5432, "address": "192.0.2.1", "name_source": "sni", "protocol": "postgres", "name": "shop"},
	"operation": {
		"kind": "sql", "dialect": "postgres", "database": "shop", "user": "app", "command": "select", "inner": [],
		"reads": ["public.orders"], "writes": [], "columns": [], "functions": [], "where": false, "marks": [], "credentials": [],
	},
}

with_statement(change) := object.union(asked_sql, {"operation": object.union(asked_sql.operation, change)})

sql_rule(change) := rule if {
	rule := coatcheck.verdict.rule with input as with_statement(change) with data.destinations as [shop] with data.statement_words as words
}

test_a_database_has_its_plan if {
	plan := coatcheck.plan with input as asked_sql with data.destinations as [shop]
	plan.mode == "postgres"
	plan.upstream_tls
	plan.postgres.masks == [{"name": "mail", "columns": ["public.customers.email"]}]
}

test_a_mask_is_lifted_for_a_group if {
	who := object.union(asked_sql, {"principal": {"name": "deploy", "groups": ["support"]}})
	plan := coatcheck.plan with input as who with data.destinations as [shop]
	plan.postgres.masks == []
}

test_tls_is_no_database if {
	at := object.union(asked_sql, {"destination": object.union(asked_sql.destination, {"protocol": "tls"})})
	coatcheck.plan.decision == "deny" with input as at with data.destinations as [shop]
}

test_a_statement_is_allowed_within_limits if {
	verdict := coatcheck.verdict with input as asked_sql with data.destinations as [shop] with data.statement_words as words
	verdict == {"decision": "allow", "rule": "shop/read", "reason": "", "ask": "", "hold_seconds": 0, "max_rows": 10, "max_bytes": 0}
}

test_every_table_must_be_known if sql_rule({"reads": ["public.orders", "secret.orders"]}) == "shop/default-deny"

test_every_function_must_be_known if {
	sql_rule({"functions": ["pg_catalog.now"]}) == "shop/read"
	sql_rule({"functions": ["pg_catalog.now", "public.f"]}) == "shop/default-deny"
}

test_every_mark_must_be_known if {
	sql_rule({"marks": ["cte"]}) == "shop/read"
	sql_rule({"marks": ["cte", "dynamic"]}) == "shop/default-deny"
}

test_what_is_within_must_be_known if {
	sql_rule({"command": "explain", "inner": ["select"]}) == "shop/read"
	sql_rule({"command": "explain", "inner": ["insert"]}) == "shop/default-deny"
	sql_rule({"inner": ["delete"]}) == "shop/whole"
}

test_what_cannot_be_read_is_denied if sql_rule({"command": "unparsed", "reads": []}) == "shop/default-deny"

test_session_and_catalogue_need_no_rule if {
	sql_rule({"command": "begin", "reads": []}) == "shop/session"
	sql_rule({"command": "begin", "reads": [], "marks": ["role"]}) == "shop/default-deny"
	sql_rule({"reads": ["pg_catalog.pg_type"]}) == "shop/catalogue"
	sql_rule({"reads": ["pg_catalog.pg_authid"]}) == "shop/default-deny"
}

test_name_follows_the_destination if {
	coatcheck.name.decision == "allow" with input as object.union(asked, {"name": "api.example.com"}) with data.destinations as [api]
	coatcheck.name.decision == "deny" with input as object.union(asked, {"name": "other.example.com"}) with data.destinations as [api]
}
