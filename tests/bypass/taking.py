# ruff: noqa: E501  # a row is a line
"""Class "taking the secret", on the side of our processes. (Echoes, encodings and parsers are tested elsewhere.)"""

from __future__ import annotations

from tests.bypass.rows import Row

_OTHER_USER = "each process is another user, not dumpable"
# `ours`: pids of the supervisor and of the four, found as anybody can
OURS = (
    "def cmd(p):\n try:\n  return open(f'/proc/{p}/cmdline', 'rb').read()\n except OSError:\n  return b''\n"
    "there = os.environ['COATCHECK_SOCKET'].rpartition('/run/')[0].encode() + b'/coatcheck.yaml'\n"
    "ours = [int(p) for p in os.listdir('/proc') if p.isdigit() and there in cmd(p)]\n"
    "assert len(ours) == 5, ours\n"
    "c = ctypes.CDLL(None, use_errno=True)\n"
    "def no(r):\n return errno.errorcode[ctypes.get_errno()] if r < 0 else 'got it'\n"
    "def read(name):\n found = set()\n for p in ours:\n  try:\n   open(f'/proc/{p}/{name}', 'rb').read(1); found.add('got it')\n"
    "  except OSError as e:\n   found.add(errno.errorcode[e.errno])\n return sorted(found)\n"
    "def ls(name):\n found = set()\n for p in ours:\n  try:\n   os.listdir(f'/proc/{p}/{name}'); found.add('got it')\n"
    "  except OSError as e:\n   found.add(errno.errorcode[e.errno])\n return sorted(found)\n"
)
STATE = "d = os.environ['COATCHECK_SOCKET'].rpartition('/')[0]\n"
_EACCES = ("['EACCES']",)
_IPC = STATE + (
    "import asyncio\nfrom appliance.ipc.client import IpcClient\nfrom appliance.model.errors import Denied\n"
    "async def call(path, methods):\n c = IpcClient('x', path, os.stat(path).st_uid); found = set()\n"
    " for m in methods:\n  try:\n   await c.call(m, None); found.add('answered')\n"
    "  except Denied as e:\n   found.add(str(e).partition(' may')[0])\n return found\n"
)
_STRANGER = ("{'ipc: uid 65534'}",)
_METHODS = "every method names the uids that may call it, known by SO_PEERCRED"

ROWS = (
    Row("/proc/PID/mem of our processes", _OTHER_USER, OURS + "say(read('mem'))", _EACCES),
    Row("/proc/PID/environ (a secret from the environment)", _OTHER_USER, OURS + "say(read('environ'))", _EACCES),
    Row("/proc/PID/maps, auxv, stack, syscall", _OTHER_USER, OURS + "say({x for n in ('maps', 'smaps', 'auxv', 'stack', 'syscall') for x in read(n)} <= {'EACCES', 'EPERM'})", ("True",)),
    Row("/proc/PID/fd, root, cwd, map_files", _OTHER_USER, OURS + "say(sorted({x for n in ('fd', 'fdinfo', 'map_files', 'root', 'cwd') for x in ls(n)}))", ("['EACCES']", "['EACCES', 'EPERM']")),
    Row("ptrace", _OTHER_USER, OURS + "say({no(c.ptrace(16, p, 0, 0)) for p in ours})", ("{'EPERM'}",)),
    Row("process_vm_readv", _OTHER_USER, OURS + "class V(ctypes.Structure):\n _fields_ = (('b', ctypes.c_void_p), ('n', ctypes.c_size_t))\nb = ctypes.create_string_buffer(8)\nl = V(ctypes.addressof(b), 8)\nr = V(0x400000, 8)\nsay({no(c.process_vm_readv(p, ctypes.byref(l), 1, ctypes.byref(r), 1, 0)) for p in ours})", ("{'EPERM'}",)),
    Row("pidfd_getfd", _OTHER_USER, OURS + "say({no(c.syscall(438, os.pidfd_open(p), n, 0)) for p in ours for n in (3, 4, 5, 6)})", ("{'EPERM'}",)),
    Row("perf_event_open on our processes", "not dumpable; perf takes capabilities", OURS + "say({no(c.syscall(298 if os.uname().machine == 'x86_64' else 241, struct.pack('=IIQ104x', 1, 120, 0), p, -1, -1, 0)) for p in ours} <= {'EACCES', 'EPERM'})", ("True",)),
    Row("a core dump of our processes", "no signal of another user reaches them; RLIMIT_CORE is 0 and they are not dumpable (tests/daemon)", OURS + "def f(p):\n try:\n  os.kill(p, 11); return 'sent'\n except OSError as e:\n  return errno.errorcode[e.errno]\nsay({f(p) for p in ours})", ("{'EPERM'}",)),
    Row("kernel memory (/proc/kcore, /dev/mem, /dev/kmem)", "the job has no capability on the host", "def f(n):\n try:\n  open(n, 'rb').read(1); return 'got it'\n except OSError as e:\n  return errno.errorcode[e.errno]\nsay('got it' in {f(n) for n in ('/proc/kcore', '/dev/mem', '/dev/kmem', '/proc/vmcore')})", ("False",)),
    Row("the vault's files, the CA's key, the audit log", "folders of the process's own user, mode 0700", STATE + "s = d.rpartition('/')[0] + '/state'\ndef f(n):\n try:\n  os.listdir(n); return 'got it'\n except OSError as e:\n  return errno.errorcode[e.errno]\nsay([f(s + n) for n in ('/vault', '/control')])", ("['EACCES', 'EACCES']",)),
    Row("what lies in the run folder", "only sockets, and the CA's certificate", STATE + "found = sorted(os.path.join(b, n)[len(d) + 1:] for b, _, names in os.walk(d) for n in names)\nreadable = []\nfor n in found:\n try:\n  data = open(os.path.join(d, n), 'rb').read(); readable.append(n); assert b'PRIVATE KEY' not in data\n except OSError:\n  pass\nsay(readable)", ("['ca/bundle.pem', 'ca/coatcheck-ca.pem', 'ca/truststore.p12']",)),
    Row("asking the vault", _METHODS, _IPC + "say(asyncio.run(call(d + '/vault/vault.sock', 'identify identify_pid renew lease use whose leaf grant mint forget_job jwks sign_head last_head ca status'.split())))", _STRANGER),
    Row("asking the kernel process", _METHODS, _IPC + "say(asyncio.run(call(d + '/kernel/kernel.sock', 'attest attest_pid job_create job_end jobs next_events counters state'.split())))", _STRANGER),
    Row("writing to the audit log as the proxy does", _METHODS, _IPC + "say(asyncio.run(call(d + '/control/control.sock', 'append policy metrics'.split())))", _STRANGER),
    Row("the map of flows by handover.sock", "given to the proxy's uid alone", STATE + "s = socket.socket(1, 5); s.connect(d + '/kernel/handover.sock'); data, fds, _, _ = socket.recv_fds(s, 99, 9); say(data, fds)", ("b'' []",)),
    Row("standing in for the vault or control at their sockets", "the folders are theirs; callers check the server's uid", STATE + "def f(n):\n try:\n  os.rename(f'{d}/{n}/{n}.sock', f'{d}/{n}/x.sock'); return 'moved'\n except OSError as e:\n  return errno.errorcode[e.errno]\nsay({f(n) for n in ('vault', 'kernel', 'control')})", ("{'EACCES'}",)),
)  # fmt: skip
