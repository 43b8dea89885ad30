"""Class "the local API": the admin socket, used by a process that is in a job."""

from __future__ import annotations

from tests.bypass.rows import Row

_RIGHTS = "a process in a job has a job's rights: whoami, and mint for its own job"

ROWS = (
    Row(
        "listing jobs, flows, policy, status, metrics",
        _RIGHTS,
        "say({admin('GET', path)[0] for path in ('/jobs', '/flows', '/policy', '/status', '/metrics')})",
        ("{403}",),
    ),
    Row(
        "reading or judging the audit log",
        _RIGHTS,
        "say({admin('GET', path)[0] for path in ('/audit/show', '/audit/verify')})",
        ("{403}",),
    ),
    Row(
        "reloading or explaining policy",
        _RIGHTS,
        "say({admin('POST', path, {})[0] for path in ('/policy/reload', '/policy/explain')})",
        ("{403}",),
    ),
    Row("starting a job from within a job", _RIGHTS, "say(admin('POST', '/jobs', {'label': 'agent'})[0])", ("403",)),
    Row("ending another job", _RIGHTS),
    Row("a placeholder for another job", _RIGHTS),
    Row(
        "headers that name another user, or an address",
        "the peer is known by SO_PEERCRED, never from the request",
        """
        headers = {'x-forwarded-for': '127.0.0.1', 'forwarded': 'for=127.0.0.1', 'x-remote-user': 'root',
                   'authorization': 'Basic cm9vdDpyb290', 'host': 'localhost'}
        own = admin('GET', '/whoami', headers=headers)[1]['claims']['job']
        say(admin('GET', '/jobs', headers=headers)[0], own == os.environ['COATCHECK_JOB'])
        """,
        ("403 True",),
    ),
    Row(
        "from a user namespace as root",
        "SO_PEERCRED has the host's uid, and the process is still in its job",
        """
        unshare(NEWUSER)
        uid_0()
        say(os.getuid(), admin('GET', '/jobs')[0])
        """,
        ("0 403", "EPERM", "ENOSPC"),
    ),
    Row(
        "from a pid namespace of one's own",
        "SO_PEERCRED has the host's pid",
        """
        unshare(NEWUSER | NEWPID)
        if os.fork() == 0:
            os._exit(admin('GET', '/jobs')[0] == 403)
        say(os.wait()[1] >> 8)
        """,
        ("1", "EPERM", "ENOSPC"),
    ),
    Row(
        "a connection whose maker has ended",
        "the maker must still live when its rights are judged",
        """
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            s = socket.socket(UNIX)
            s.connect(os.environ['COATCHECK_SOCKET'])
            socket.send_fds(theirs, [b'x'], [s.fileno()])
            os._exit(0)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        os.wait()
        say(admin('GET', '/jobs', sock=socket.socket(fileno=descriptors[0]))[0])
        """,
        ("403",),
    ),
    Row(
        "a connection whose maker has ended and whose pid is an operator's by now",
        "the maker must still live when its rights are judged (by pidfd, from Linux 6.5)",
    ),
    Row(
        "the API over loopback TCP, from a browser, or across sites",
        "it is served on an AF_UNIX socket only; policy names no service on loopback",
        r"""
        s = socket.create_connection(('127.0.0.1', 80))
        say(answer_of(s, b'GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n'))
        """,
        ("b'HTTP/1.1 403",),
    ),
    Row(
        "connections until nobody else is served",
        "a limit for each uid; root is never counted out",
        r"""
        held = [socket.socket(UNIX) for _ in range(80)]
        for s in held:
            s.connect(os.environ['COATCHECK_SOCKET'])
        try:
            say(answer_of(held[-1], b'GET /health HTTP/1.1\r\nhost: x\r\n\r\n'))
        except (BrokenPipeError, ConnectionResetError):
            say('turned away')
        """,
        ("turned away", "b''"),
    ),
)
