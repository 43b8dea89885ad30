"""Class "taking the secret", on the side of our processes. (Echoes, encodings and parsers are tested elsewhere.)"""

from __future__ import annotations

from tests.bypass.rows import Row

_OTHER_USER = "each process is another user, not dumpable"
_METHODS = "every method names the uids that may call it, known by SO_PEERCRED"
_DENIED = ("['EACCES']",)
_REFUSED = ("['EPERM']",)
_STRANGER = ("ipc: uid 65534",)


def _files(*names: str) -> str:
    return f"say(each(lambda path: open(path, 'rb').read(1), [f'/proc/{{p}}/{{n}}' for p in ours() for n in {names}]))"


def _folders(*names: str) -> str:
    return f"say(each(os.listdir, [f'/proc/{{p}}/{{n}}' for p in ours() for n in {names}]))"


ROWS = (
    Row("/proc/PID/mem of our processes", _OTHER_USER, _files("mem"), _DENIED),
    Row("/proc/PID/environ (a secret from the environment)", _OTHER_USER, _files("environ"), _DENIED),
    Row(
        "/proc/PID/maps, auxv, stack, syscall",
        _OTHER_USER,
        _files("maps", "smaps", "auxv", "stack", "syscall"),
        (*_DENIED, *_REFUSED, "['EACCES', 'EPERM']"),
    ),
    Row(
        "/proc/PID/fd, root, cwd, map_files",
        _OTHER_USER,
        _folders("fd", "fdinfo", "map_files", "root", "cwd"),
        (*_DENIED, "['EACCES', 'EPERM']"),
    ),
    Row("ptrace", _OTHER_USER, "say(each(lambda pid: result(libc.ptrace(16, pid, 0, 0)), ours()))", _REFUSED),
    Row(
        "process_vm_readv",
        _OTHER_USER,
        """
        class Span(ctypes.Structure):
            _fields_ = (('base', ctypes.c_void_p), ('length', ctypes.c_size_t))
        buffer = ctypes.create_string_buffer(8)
        here, there = Span(ctypes.addressof(buffer), 8), Span(0x400000, 8)
        read = lambda pid: libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        say(each(lambda pid: result(read(pid)), ours()))
        """,
        _REFUSED,
    ),
    Row(
        "pidfd_getfd",
        _OTHER_USER,
        """
        held = [(pid, number) for pid in ours() for number in range(9)]
        say(each(lambda one: call(438, os.pidfd_open(one[0]), one[1], 0), held))
        """,
        _REFUSED,
    ),
    Row(
        "perf_event_open on our processes",
        f"{_OTHER_USER}; perf takes capabilities",
        """
        cycles = struct.pack('=IIQ104x', 1, 120, 0)
        say(each(lambda pid: call(298 if X86 else 241, cycles, pid, -1, -1, 0), ours()))
        """,
        (*_DENIED, *_REFUSED, "['ENOSYS']"),
    ),
    Row(
        "a core dump of our processes",
        "no signal of another user reaches them; RLIMIT_CORE is 0 and they are not dumpable (tests/daemon)",
        "say(each(lambda pid: os.kill(pid, 11), ours()))",
        _REFUSED,
    ),
    Row(
        "kernel memory (/proc/kcore, /dev/mem, /dev/kmem)",
        "the job has no capability on the host",
        """
        places = ('/proc/kcore', '/dev/mem', '/dev/kmem', '/proc/vmcore')
        say('got it' in each(lambda path: open(path, 'rb').read(1), places))
        """,
        ("False",),
    ),
    Row(
        "the vault's files, the CA's key, the audit log",
        "folders of the process's own user, mode 0700",
        "state = RUN_DIR.rpartition('/')[0] + '/state'; say(each(os.listdir, (state + '/vault', state + '/control')))",
        _DENIED,
    ),
    Row(
        "what lies in the run folder",
        "only sockets, and the CA's certificate",
        """
        readable = []
        for folder, _, names in os.walk(RUN_DIR):
            for name in names:
                if tried(lambda: open(f'{folder}/{name}', 'rb').read()) == 'got it':
                    readable.append(name)
                    assert b'PRIVATE KEY' not in open(f'{folder}/{name}', 'rb').read()
        say(sorted(readable))
        """,
        ("['bundle.pem', 'coatcheck-ca.pem', 'truststore.p12']",),
    ),
    Row(
        "asking the vault",
        _METHODS,
        "say(ipc('vault/vault.sock', 'identify identify_pid renew lease use whose leaf grant mint forget_job jwks "
        "sign_head last_head ca status'))",
        _STRANGER,
    ),
    Row(
        "asking the kernel process",
        _METHODS,
        "say(ipc('kernel/kernel.sock', 'attest attest_pid job_create job_end jobs next_events counters state'))",
        _STRANGER,
    ),
    Row(
        "writing to the audit log as the proxy does",
        _METHODS,
        "say(ipc('control/control.sock', 'append policy metrics'))",
        _STRANGER,
    ),
    Row(
        "the map of flows by handover.sock",
        "given to the proxy's uid alone",
        """
        s = socket.socket(UNIX, socket.SOCK_SEQPACKET)
        s.connect(RUN_DIR + '/kernel/handover.sock')
        data, descriptors, _, _ = socket.recv_fds(s, 99, 9)
        say(data, descriptors)
        """,
        ("b'' []",),
    ),
    Row(
        "standing in for the vault or control at their sockets",
        "the folders are theirs; callers check the server's uid",
        """
        sockets = [f'{RUN_DIR}/{name}/{name}.sock' for name in ('vault', 'kernel', 'control')]
        say(each(lambda path: os.rename(path, path + '.old'), sockets))
        """,
        _DENIED,
    ),
)
