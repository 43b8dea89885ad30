"""The hooks in the kernel, the cgroups they govern, and who is behind a socket.

In: the compiled hooks (bpf/), the configuration, calls of the other three processes. Out: governed cgroups, jobs,
facts of processes, events, counters; a read-only descriptor of the `flows` map for the proxy.

    libbpf     the few functions of libbpf that are needed, by ctypes
    btf        names and layouts in the compiled object
    layouts    the bytes of the `config` and `jobs` maps; counters: names of what the hooks count
    hooks      load, pin, take over, attach, release
    pins       the file system that keeps the hooks when we are gone
    cgroups    the cgroup2 mount, ids and paths, patterns
    watch      cgroups that come, go and empty (inotify)
    jobs       jobs: made, found, ended, restored
    inherited  what a process may not bring into a job
    events     what the control process waits for
    service    the methods of kernel.sock, and of handover.sock

Methods of kernel.sock: attest, attest_pid, job_create, job_end, jobs, next_events, counters, state.

Always: a cgroup is in the `jobs` map before hooks are attached to it, and hooks before its processes are let in, as
far as it is we who make it; links and maps are pinned, so that they outlive us; a failure undoes what was begun, and
what cannot be undone refuses.
"""
