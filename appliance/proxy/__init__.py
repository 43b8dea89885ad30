"""The way of a connection: accepted, attested, identified, decided, recorded, carried. Everything here does I/O.

In: sockets that the hooks turned here, DNS questions; what the other three processes answer. Out: connections to
destinations, answers to agents, audit records, counts.

    worker        puts one worker together and runs it
    listener      accepts, and hands each connection to the spine in a task of its own
    spine         the steps of a connection in their order; each can end it, none can skip the next
    peek, detect  the first bytes, read without taking them: TLS, HTTP/1, or unknown
    identities    record of a connection -> signed identity token (of the vault, kept for the process)
    flow          one connection: who, whereto, its plan, what is on record of it
    certificates  the TLS contexts: a leaf for each name, one for all that is dialled
    channel       one end of a connection: plaintext in and out, with or without TLS
    http_flow     HTTP/1.1 on it: requests judged, recorded, forwarded, answered; http_exchange, http_response
    upgraded      what HTTP became (WebSocket)
    tunnel        what policy lets through unread: spliced in the kernel
    leases        secrets of one job at one destination, for seconds, compiled to swap and to scrub
    upstream      dials, verifies, keeps connections for the next request of the same principal and job
    forwarder     DNS; asker: who asks, may they, the record; answers: which name gave which address to which job
    recorder      hands audit records over to control in batches, and tells who waits for that
    policy_watch  the policy in force; services: what all flows of a worker share
    tally         what is counted; readiness: waiting for a raw socket

Always: nothing goes to a destination before the record of it is handed over; a secret stands in a request only for a
destination that it names, and in nothing that goes back; what cannot be asked, decided, verified or written is refused.
"""
