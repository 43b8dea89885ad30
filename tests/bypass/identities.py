"""Class "other identities": being taken for another program, process, user or job."""

from __future__ import annotations

from tests.bypass.rows import Row

_RUNS = "the path is that of the file that runs"

ROWS = (
    Row(
        "comm and argv of another program (setproctitle)",
        "workload rules go by the executable's file; `cmdline` may narrow a rule, never make one",
    ),
    Row("a copy of an allowed executable at another path", _RUNS),
    Row("a symbolic link of an allowed name to another program", _RUNS),
    Row("the dynamic loader started with an allowed program as its argument", "the file that runs is the loader"),
    Row(
        "another file mounted over the allowed path, in a mount namespace of one's own",
        "a path that leads to another file on the host is no fact",
    ),
    Row(
        "another executable by prctl(PR_SET_MM) in a user namespace",
        "seccomp filter of `coatcheck run`",
        "result(libc.prctl(35, 15, ctypes.byref(ctypes.c_uint()), 0, 0))  # PR_SET_MM_MAP_SIZE: else for everybody",
        ("EPERM",),
    ),
    Row(
        "execve of the allowed program after connecting",
        "what runs must be what connected: else the facts are incomplete",
    ),
    Row(
        "a changed copy, where the rule names a digest",
        "SHA-256 of the file that runs, read through the process itself",
    ),
    Row("uid 0 in a user namespace", "the record has the host's uid"),
    Row(
        "another job named in the environment",
        "the job is the cgroup's",
        """
        own = os.environ['COATCHECK_JOB']
        os.environ['COATCHECK_JOB'] = 'j-0000000000000000'
        say(admin('GET', '/whoami')[1]['claims']['job'] == own)
        """,
        ("True",),
    ),
    Row("a placeholder of another job", "placeholders are bound to their job"),
    Row(
        "pid reuse between connect and look-up",
        "pidfd, start time and executable are compared with the kernel's record",
        elsewhere="tests/attest/test_process.py::test_a_reused_pid_does_not_lend_its_name",
    ),
    Row(
        "an unchanged copy, where the rule names a digest",
        "it is the same program: a digest says what runs, not from where. Name `exe` as well",
        holds=False,
    ),
    Row(
        "LD_PRELOAD or ptrace into an allowed program of the same user",
        "a user may change its own processes. Rules by executable tell programs apart, not intentions; give what "
        "needs other rights another user or job",
        holds=False,
    ),
)
