"""The command line: one file per noun. Nothing is imported before it is needed, so that `coatcheck run` starts fast.

    main               the commands and their help
    up, run            what runs here
    asking             what is asked of the daemon: whoami, mint, jobs, status; the policy in force
    watching           connections, as they are and as they happen
    recorded           the audit log: shown, verified, also a copy without a daemon
    policies           a policy folder: checked, tested
    doctor             a package: what a host lacks
    admin              HTTP over the admin socket
    confine            what `run` takes from the program that it starts
    trust_environment  the variables by which programs trust our CA
    output, clock      tables, JSON, one-sentence errors; times as people read them

Exit statuses: 0 good; 1 the answer is no (a failed check, a broken chain); 64 usage; 69 the daemon cannot be reached;
77 not allowed; 78 the configuration has a mistake; 126 and 127 as a shell gives for a program that cannot be run.
"""
