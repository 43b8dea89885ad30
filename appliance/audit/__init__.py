"""The chain of records that cannot be changed unnoticed.

In: batches of records as MessagePack from workers, which are not trusted to write them. Out: a log of JSON Lines,
each line bound to the one before by SHA-256, with heads that the vault signs; and a judge of such a log.

Always: what is written was decoded with the types of `appliance.model.record` and encoded by us; a batch is
written whole or not at all, in one write(2), before it is taken out of its worker's pipe; a log that does not
continue what the vault signed last is not opened; no line holds a secret or a placeholder.

    pipes      what the workers have handed over; room for it on the disk
    intake     bytes from a worker -> canonical records that it may write, or PeerError
    chain      how a line is bound to the one before (pure)
    log        the file: append, undo, rotate, open again after a crash
    committer  a batch, one write; fsync and signed heads by count and by time
    reader     lines after a sequence number, found by bisection
    verify     finds an edit, a deletion, a reordering, a truncation, a roll-back past a signed head

docs/audit.md describes the format for whoever wants to verify a log with other tools.
"""
