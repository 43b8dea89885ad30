"""What may be done, by whom: Rego in process over data in YAML. Pure.

In: the texts of a policy folder; an identity token's claims, a destination, an operation. Out: a plan for principal and
destination, a verdict for an operation, an answer for a DNS name.
Always: what no rule allows is denied; an exception, an undefined or a malformed answer is a denial named
`policy-error`; an answer depends on nothing but the input that the cache is keyed by (no clock, no randomness, no
network: such built-ins are refused when the policy is loaded).

    data      the shape of data.yaml, its globs compiled
    globs     path and host patterns
    bundle    texts -> a bundle that was checked
    calls     no function calls itself, no chain of calls is too deep
    engine    Policy: plans, verdicts, names, cached
    rehearsal asks a new policy what a proxy would
    explain   why
    testing   runs `test_*` rules
"""
