"""Coatcheck: a host appliance that takes the egress of CI jobs and agents and swaps their placeholders.

The way of a connection, one line a package:

    kernel        the hooks store who connects and whereto, and turn the connection to the proxy
    proxy         accepts the socket, reads the original destination, performs what the others decide
    attest        socket -> process facts, checked again so that a reused pid cannot lie
    identity      facts -> principal -> signed identity token
    wire          first bytes -> TLS ClientHello, HTTP/1.1, PostgreSQL, DNS messages (codecs, no I/O)
    sql           an SQL text -> its statements, in the form that policy judges (PostgreSQL's own grammar)
    lineage       a statement and a database's catalogue -> where masked columns go
    policy        principal x destination -> plan; operation -> verdict, cached by shape (Rego)
    session       per protocol: what the agent asks -> what is forwarded, refused or answered (pure)
    placeholders  placeholder -> secret in named slots; secret -> placeholder in all that comes back; logins
    masking       rows and COPY streams -> the same, with what must be hidden hidden
    vault         holds every secret and private key; mints leaves, signs tokens and audit heads
    audit         the chain of records that cannot be changed unnoticed
    control       jobs, state, the admin API, metrics
    ipc           how the four processes (kernel, vault, proxy, control) speak, peers known by the kernel
    daemon        composition roots of the four processes, and of `coatcheck up`
    cli           one file per noun
    hot           which modules are compiled
    model         the nouns; config: the configuration; metrics: names of what is counted

Imports run downwards only (import-linter, pyproject.toml). Pure packages import no asyncio, socket, ssl,
os, time, random or logging.
"""

__version__ = "0.1.0"
