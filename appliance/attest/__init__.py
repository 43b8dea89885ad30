"""From a socket to the facts of the process behind it, proven to be the process that connected.

In: the address pair of an accepted connection; the kernel's `flows` map. Out: `SocketRecord`, `ProcessFacts`.

    layouts   the bytes that the hooks write: keys and records of the `flows` map
    flowmap   looks a connection up, through a descriptor (the proxy is given a read-only one)
    seen      what the proxy needs of a record; peer_socket: is it of the socket on the other end?
    procfs    what the files below /proc/PID say (parsing only)
    hashing   SHA-256 of executables, cached by what cannot change unnoticed
    process   record + /proc -> facts

Always: what is read from /proc counts only if a pidfd shows that one and the same process was alive before and
after, if its start time is the one that the hook wrote down, and if it still runs the same executable. Otherwise
the facts are those of the record alone, and `complete` is False: a reused pid cannot lend its name.
"""
