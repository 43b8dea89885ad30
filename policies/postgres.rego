# What may be asked of PostgreSQL: its part of a plan, and the verdict on an SQL statement.
#
# An allowing rule must know all that a statement does; a refusing one takes one thing that it names as enough. What
# cannot be known (marks such as `dynamic`, functions that are not the server's own, text that cannot be read) is
# allowed only by a rule that names it, as soon as the destination has a rule about statements at all.
package coatcheck

import rego.v1

# ---- plan ----

postgres_plan(d) := null if not d.postgres

postgres_plan(d) := object.union(d.postgres, {"masks": masks_for(d)}) if d.postgres

masks_for(d) := [object.remove(mask, ["unless_groups", "unless_principals"]) |
	some mask in d.masks
	not is_exempt(mask)
]

is_exempt(mask) if input.principal.name in mask.unless_principals

is_exempt(mask) if {
	some group in input.principal.groups
	group in mask.unless_groups
}

# ---- verdict ----

default statement_verdict := {"decision": "deny", "rule": "default-deny", "reason": "no rule allows this statement"}

statement_verdict := object.union(
	{
		"decision": matching[0].decision,
		"rule": sprintf("%s/%s", [here.name, matching[0].name]),
		"reason": matching[0].reason,
		"ask": matching[0].ask,
	},
	limits(matching[0]),
) if {
	count(matching) > 0
} else := {"decision": "allow", "rule": sprintf("%s/session", [here.name])} if {
	is_session
	here.session == "allow"
	allows_anything
} else := {"decision": "allow", "rule": sprintf("%s/catalogue", [here.name])} if {
	is_catalogue
	here.catalogue == "allow"
	allows_anything
} else := {
	"decision": "deny",
	"rule": sprintf("%s/default-deny", [here.name]),
	"reason": why_not,
} if {
	here
}

# Rego's numbers: what a rule does not say is no limit
limits(r) := {
	"hold_seconds": object.get(r, "hold", 0),
	"max_rows": object.get(r, "max_rows", 0),
	"max_bytes": object.get(r, "max_bytes", 0),
}

why_not := sprintf("no rule of %s allows what cannot be read as SQL", [here.name]) if {
	input.operation.command == "unparsed"
} else := sprintf("no rule of %s allows %s with %s", [here.name, doing, concat(", ", unusual)]) if {
	count(unusual) > 0
} else := sprintf("no rule of %s allows %s that calls %s", [here.name, doing, concat(", ", foreign_functions)]) if {
	count(foreign_functions) > 0
} else := sprintf("no rule of %s allows %s of %s", [here.name, doing, concat(", ", relations)]) if {
	count(relations) > 0
} else := sprintf("no rule of %s allows %s", [here.name, doing])

doing := concat(", ", needed)

relations := sort({each | some each in array.concat(input.operation.reads, input.operation.writes)})

matching := [r | some r in here.rules; matches(r)]

# What only turns to the session or the server's catalogue is refused by a rule about such statements, not by one
# that refuses the rest
matches(r) if {
	not spares(r)
	is_readable
	has_command(r)
	has_listed(r, "tables", "table_patterns", relations)
	has_listed(r, "reads", "read_patterns", input.operation.reads)
	has_listed(r, "writes", "write_patterns", input.operation.writes)
	has_listed(r, "columns", "column_patterns", input.operation.columns)
	has_functions(r)
	has_where(r)
	has_marks(r)
	has_session(r)
}

# What cannot be read is allowed by a rule without conditions, if no other has one; refused, too, by one that names it
matches(r) if {
	not is_readable
	here.statement_rules == false
	has_session(r)
}

matches(r) if {
	not is_readable
	r.decision != "allow"
	has_command(r)
	is_about(r, ["commands"])
	has_session(r)
}

is_about(r, keys) if every key in r.conditions { key in keys }

is_readable if input.operation.command != "unparsed"

spares(r) if {
	r.decision != "allow"
	is_about(r, ["where"])
	is_session
	here.session == "allow"
}

spares(r) if {
	r.decision != "allow"
	is_about(r, ["where"])
	is_catalogue
	here.catalogue == "allow"
}

has_session(r) if {
	has_credentials(r)
	has_name(r, "databases", input.operation.database)
	has_name(r, "users", input.operation.user)
}

has_name(r, key, _) if not r[key]

has_name(r, key, name) if name in r[key]

has_command(r) if not r.commands

has_command(r) if {
	r.decision == "allow"
	every command in needed { is_listed(r.command_patterns, command) }
}

has_command(r) if {
	r.decision != "allow"
	some command in array.concat([input.operation.command], input.operation.inner)
	is_listed(r.command_patterns, command)
}

# What an allowing rule must know: not SELECT within something else, for what that reads is in `reads`
needed := input.operation.inner if {
	input.operation.command in data.statement_words.wrappers
	count(input.operation.inner) > 0
} else := array.concat([input.operation.command], [c | some c in input.operation.inner; c != "select"])

has_listed(r, key, _, _) if not r[key]

has_listed(r, key, _, there) if {
	count(r[key]) == 0
	count(there) == 0
}

has_listed(r, key, patterns, there) if {
	count(r[key]) > 0
	r.decision == "allow"
	every each in there { is_listed(r[patterns], each) }
}

has_listed(r, key, patterns, there) if {
	r.decision != "allow"
	some each in there
	is_listed(r[patterns], each)
}

is_listed(patterns, each) if {
	some pattern in patterns
	regex.match(pattern, each)
}

# Of the server's own functions the harmless ones need no naming
has_functions(r) if {
	r.decision == "allow"
	here.statement_rules == false
	not r.functions
}

has_functions(r) if {
	r.decision == "allow"
	every each in foreign_functions { is_listed(object.get(r, "function_patterns", []), each) }
}

has_functions(r) if {
	r.decision != "allow"
	has_listed(r, "functions", "function_patterns", input.operation.functions)
}

foreign_functions := [each | some each in input.operation.functions; not data.statement_words.functions[each]]

has_where(r) if not is_boolean(r.where)

has_where(r) if {
	r.where == input.operation.where
	some command in array.concat([input.operation.command], input.operation.inner)
	command in ["select", "update", "delete"]
}

has_marks(r) if {
	r.decision == "allow"
	here.statement_rules == false
	not r.marks
}

has_marks(r) if {
	r.decision == "allow"
	every mark in unusual { is_marked(r, mark) }
}

has_marks(r) if {
	r.decision != "allow"
	not r.marks
}

has_marks(r) if {
	r.decision != "allow"
	count(r.marks) == 0
	count(unusual) == 0
}

has_marks(r) if {
	r.decision != "allow"
	some mark in input.operation.marks
	is_marked(r, mark)
}

is_marked(r, mark) if mark in r.marks

is_marked(r, _) if "*" in r.marks

unusual := [mark | some mark in input.operation.marks; not mark in data.statement_words.harmless_marks]

# ---- what needs no rule ----

is_session if {
	input.operation.command in data.statement_words.session
	is_quiet
}

is_catalogue if {
	every command in needed { command == "select" }
	is_quiet
}

is_quiet if {
	count(unusual) == 0
	count(foreign_functions) == 0
	count(input.operation.writes) == 0
	every relation in input.operation.reads { is_known(relation) }
}

is_known(relation) if data.statement_words.catalogue[relation]

# but for those that give options of foreign servers, passwords among them
is_known(relation) if {
	startswith(relation, "information_schema.")
	not startswith(relation, "information_schema._")
	not endswith(relation, "_options")
}

allows_anything if {
	some r in here.rules
	r.decision == "allow"
	has_session(r)
}
