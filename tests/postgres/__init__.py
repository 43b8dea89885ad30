"""PostgreSQL for real: servers, clients, drivers' own test suites and the server's regression SQL.

`server` starts a PostgreSQL server in the outside of a world; `programs/` has one program for each client library, all
of which say the same; `session` is where a program runs: directly (nothing of ours in between) or as a job of a
running appliance, so that every test asks both ways for the same.
"""
