"""Jobs, the policy in force, the audit log, the admin API: the process that people and jobs talk to.

In: calls of the other three processes (control.sock), HTTP over the admin socket from people and jobs. Out: answers,
records in the chain, calls to kernel and vault. Control never sees a secret's value; placeholders pass through it
once, on their way to a job, and are neither kept nor logged.

    neighbours    the calls that control makes to kernel and vault, typed
    service       the methods of control.sock
    jobs          jobs: started, governed ones noticed, ended; nothing stays behind when a start fails
    policy_files  a folder of Rego and data -> a bundle that compiles and passes its own tests, swapped as a whole
    checking      is a policy whole: compiles, passes its tests; explaining: what it would say, and why
    trial         a child process that a new policy is tried in, since Rego can end or stall the process that loads it
    flows         the live table of flows, from the records that go by
    peers         who is behind an admin connection: pid, uid, groups as the kernel knows them
    rights        what that peer may do
    api           the routes; problems: errors as application/problem+json; requests: bodies, read within limits
    judging       verifies the live log beside the appends
    overview      status and metrics of all four processes
    admin         the HTTP server on the admin socket (and for metrics on TCP, if configured)

Methods of control.sock:

    append (list[Record]) -> int           proxy, vault, kernel   records; answered once they are written
    policy (str) -> PolicyBundle           proxy                  long poll: at once if the version given is not current
    metrics (WorkerMetrics) -> None        proxy, vault, kernel

Always: a peer is who the kernel says, whatever it sends; a process inside a job has a job's rights, even if it is
root's or a member's; what must be on record is on record before it happens.
"""
