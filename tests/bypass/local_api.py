# ruff: noqa: E501  # a row is a line
"""Class "the local API": the admin socket, used by a process that is in a job."""

from __future__ import annotations

from tests.bypass.rows import Row

_RIGHTS = "a process in a job has a job's rights: whoami, and mint for its own job"
ASK = (
    "import http.client\n"
    "def ask(method, path, body=None, headers={}, sock=None):\n"
    " h = http.client.HTTPConnection('localhost')\n"
    " h.sock = sock or socket.socket(1, 1)\n"
    " if sock is None: h.sock.connect(os.environ['COATCHECK_SOCKET'])\n"
    " h.request(method, path, None if body is None else json.dumps(body), {'content-type': 'application/json', **headers})\n"
    " r = h.getresponse(); data = r.read()\n"
    " return r.status, json.loads(data) if data[:1] in b'{[' else data\n"
)

ROWS = (
    Row("listing jobs, flows, policy, status, metrics", _RIGHTS, ASK + "say({ask('GET', p)[0] for p in ('/jobs', '/flows', '/policy', '/status', '/metrics')})", ("{403}",)),
    Row("reading or judging the audit log", _RIGHTS, ASK + "say({ask('GET', p)[0] for p in ('/audit/show', '/audit/verify')})", ("{403}",)),
    Row("reloading or explaining policy", _RIGHTS, ASK + "say({ask('POST', p, {})[0] for p in ('/policy/reload', '/policy/explain')})", ("{403}",)),
    Row("starting a job from within a job", _RIGHTS, ASK + "say(ask('POST', '/jobs', {'label': 'agent'})[0])", ("403",)),
    Row("ending another job", _RIGHTS),
    Row("a placeholder for another job", _RIGHTS),
    Row("headers that name another user, or an address", "the peer is known by SO_PEERCRED, never from the request", ASK + "h = {'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1', 'forwarded': 'for=127.0.0.1', 'x-remote-user': 'root', 'authorization': 'Basic cm9vdDpyb290', 'host': 'localhost'}\nsay(ask('GET', '/jobs', headers=h)[0], ask('GET', '/whoami', headers=h)[1]['claims']['job'] == os.environ['COATCHECK_JOB'])", ("403 True",)),
    Row("from a user namespace as root", "SO_PEERCRED has the host's uid, and the process is still in its job", ASK + "c = ctypes.CDLL(None); assert c.unshare(0x10000000) == 0; open('/proc/self/setgroups', 'w').write('deny'); open('/proc/self/uid_map', 'w').write('0 65534 1'); say(os.getuid(), ask('GET', '/jobs')[0])", ("0 403", "AssertionError")),
    Row("from a pid namespace of one's own", "SO_PEERCRED has the host's pid", ASK + "c = ctypes.CDLL(None); assert c.unshare(0x30000000) == 0\np = os.fork()\nif p == 0: os._exit(0 if ask('GET', '/jobs')[0] == 403 else 1)\nsay(os.waitpid(p, 0)[1])", ("0", "AssertionError")),
    Row("a connection whose maker has ended", "the maker must still live when its rights are judged", ASK + "a, b = socket.socketpair()\nif os.fork() == 0:\n s = socket.socket(1, 1); s.connect(os.environ['COATCHECK_SOCKET']); socket.send_fds(b, [b'x'], [s.fileno()]); os._exit(0)\n_, fds, _, _ = socket.recv_fds(a, 1, 1); os.wait(); say(ask('GET', '/jobs', sock=socket.socket(fileno=fds[0]))[0])", ("403",)),
    Row("a connection whose maker has ended and whose pid is an operator's by now", "the maker must still live when its rights are judged (by pidfd, from Linux 6.5)"),
    Row("the API over loopback TCP, from a browser, or across sites", "it is served on an AF_UNIX socket only; policy names no service on loopback", "s = socket.socket(); s.connect(('127.0.0.1', 80)); s.send(b'GET /jobs HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'); say(s.recv(12))", ("b'HTTP/1.1 403",)),
    Row("connections until nobody else is served", "a limit for each uid; root is never counted out", "held = []\nfor _ in range(80):\n s = socket.socket(1, 1); s.connect(os.environ['COATCHECK_SOCKET']); held.append(s)\ns.send(b'GET /health HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')\ntry:\n say(s.recv(12))\nexcept OSError:\n say('turned away')", ("turned away", "b''")),
)  # fmt: skip
