"""The vault process: holds every secret and private key, and is asked over a Unix socket by the other three.

In: keys of flows, identity tokens, jobs, host names, heads of the audit chain. Out: identity tokens,
placeholders for jobs, leases of real values for the proxy, leaf certificates, signatures.

Always: no traffic is parsed here; a real value goes out only on vault.sock, to the proxy's account, for the
secrets that a live token's job was granted and for hosts that the secret itself names; no secret, key or
placeholder is in a log, an error, a repr or (placeholders: unsealed) on a disk; whatever cannot be decided,
fetched or written is refused.

    service       the methods, and which account may call each
    issuer        a flow's key -> the kernel process's facts -> a signed token
    cloakroom     secrets and placeholders together: grant, mint, lease, use
    placeholders  the registry: narrowing, life, exact counts
    ledger        what outlives the process (SQLite; texts sealed)
    stores        where real credentials come from
    authority     the host's CA and its leaves;  certificates: the two kinds;  trust_files: what jobs trust
    keys, heads   the identity and the audit key; heads are signed forwards only
    kernel        what is asked of the kernel process
    private_files files that only we may read, written whole

Methods of vault.sock (parameters and results in `appliance.ipc.messages`):

    identify bytes -> Identity            proxy     grant GrantAsk -> list[Granted]        control
    renew str -> Identity                 proxy     mint MintAsk -> str                    control
    lease LeaseAsk -> Lease               proxy     forget_job JobId                       control
    use UseAsk                            proxy     identify_pid int -> Identity           control
    whose bytes -> PlaceholderState       proxy     jwks -> dict                           control
    leaf str -> Leaf                      proxy     sign_head Head -> SignedHead           control
    ca -> str            control, kernel            last_head -> SignedHead | None         control
    status -> VaultStatus  control, kernel
"""
