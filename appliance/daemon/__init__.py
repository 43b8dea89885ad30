"""The composition roots: each of the four processes put together and run, and `coatcheck up`, which runs all four.

    kernel, vault, control, proxy   `run(config, ready)`: from root to the process's own few rights, until SIGTERM
    supervisor                      starts the four, restarts what died, ends what it started
    sandbox                         gives rights up, and proves it
    inherit                         sockets that were bound before the rights went
    notify                          says "ready" to whoever started us

`python -m appliance.daemon NAME --config FILE` starts one of them; systemd's units do the same.
"""
