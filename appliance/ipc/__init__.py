"""How the four processes speak: length-prefixed MessagePack over Unix sockets, peers known by the kernel.

In: a method's name and its parameters (msgspec types). Out: its result, or one of our error families.
Always: a server answers only peers whose uid (SO_PEERCRED, unix(7)) the method allows; a frame over
`MAX_FRAME` ends the connection; a lost server fails every waiting call with `EnvironmentFailed`, and
nothing is retried here, so that a caller decides what failing closed means.

`frame` the encoding, `server`, `client`, `handover` passing file descriptors, `record_pipe` a worker's way for its
audit records, which nobody answers.
"""
