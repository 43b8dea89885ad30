"""How fast the appliance is, beside others that end TLS on both sides, measured in one run on one machine.

    python -m benchmarks http|postgres [--quick] [--json FILE] [--targets coatcheck,haproxy]

In: root, two CPUs, the Debian packages that docs/benchmarks.md names. Out: a table, a plot (`out/http.png`), and with
`--json` every figure.

Of both protocols:

    __main__     the command line
    results      figures, round for round, and their medians
    setting      the two namespaces and what all targets share (Ground); HTTP's own (Setting)
    accounting   CPU seconds and memory of a tree of processes, from /proc
    targets/     one module for each thing that is measured
    report, plot what is printed, written and drawn

Of HTTP:

    run          the order of things: rounds over scenarios and targets
    scenarios    what is measured, one function a measurement
    memory       what a kept-alive connection costs while nothing happens on it
    upstream     the server behind all of them, and the certificates
    generators   the programs that make the load: what they are called with, what they answer
    hold         such a program of our own: keeps connections open (runs alone, imports nothing of ours)
    tls_memory   likewise: what OpenSSL itself takes for a connection pair
    columns      what is printed, and what the project asks for

Of PostgreSQL: `postgres/`, likewise.

Always: every target gets the same requests from the same generator in short interleaved rounds; a target and its
children are alone on one CPU, generator and upstream on the other; the upstream refuses what does not carry the real
credential, and one such refusal fails the run; at the end, also after Ctrl-C, nothing is left behind.
"""
