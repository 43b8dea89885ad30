"""The same for PostgreSQL: `python -m benchmarks postgres`.

    run          the order of things
    scenarios    what is measured, one function a measurement
    programs     pgbench and psql: what they are called with, what they answer
    targets      the appliance, pgbouncer, nothing
    setting      the server behind all of them, the names that it is asked by
    columns      what is printed, and what the project asks for

Three names lead to the one server, so that one appliance has three policies for it: `upstream.test` with rules for
statements, `free.test` without, `masked.test` with two columns masked.
"""
