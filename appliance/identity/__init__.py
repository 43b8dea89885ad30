"""Facts of a process -> who that is -> a signed identity token. Pure: time and keys come in as arguments.

In: `ProcessFacts` that the kernel process attested, the configured workloads, an Ed25519 key. Out: a
`Principal`, a compact JWS, or its checked `Claims`.

Always: no workload, no principal; a fact that is missing never matches a rule that names it; every pattern is
anchored at both ends; a token is believed only with our type, our one algorithm, a known key and all its claims.

    globs      `*` within a path segment, `**` across; linear in the text, whoever wrote pattern and text
    workloads  facts -> principal, by the first workload whose rule holds
    tokens     claims <-> JWT (RFC 7519, RFC 8037), JWK sets (RFC 7517)
"""
