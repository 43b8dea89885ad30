"""Laws of the audit log: nothing half-written, nothing changed unnoticed, nothing written as a peer wrote it."""
