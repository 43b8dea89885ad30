"""The nouns: what every other package speaks of. Pure, frozen, valid once built.

`ids` names, `facts` of a process, `identity` tokens, `secret` values, `placeholder` bindings and leases,
`verdict` destinations, operations, plans, verdicts, `record` audit records, `errors` the four families.
"""
