"""What each of the four processes holds, and what the proxy's uid cannot have. All read from the kernel."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.daemon.kernel import KEEP
from appliance.daemon.sandbox import CAPABILITIES
from tests.daemon.processes import NAMES, pids, status, times_in_memory
from tests.e2e.spine import HOST, Spine

pytestmark = pytest.mark.world

CANARY = "ghp_SeenByTheVaultAndTheProxyAlone424242"  # not the sample that the configuration shows to all four
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.fixture(scope="module")
def used() -> Iterator[Spine]:
    """An appliance that has swapped and scrubbed the secret."""
    with Spine(environment={"SERVICE_CREDENTIAL": CANARY}) as spine:
        done = spine.shell(f'curl -sS -H "Authorization: Bearer $DEMO_TOKEN" https://{HOST}/echo --data x=$DEMO_TOKEN')
        assert done.returncode == 0, done.stderr
        assert ["Authorization", f"Bearer {CANARY}"] in spine.received()[-1]["headers"]
        yield spine


@pytest.mark.parametrize("name", NAMES)
def test_capabilities(used: Spine, name: str) -> None:
    said = status(pids(used.appliance)[name])
    kept = sum(1 << CAPABILITIES[each] for each in KEEP) if name == "kernel" else 0
    wanted = {"CapInh": 0, "CapPrm": kept, "CapEff": kept, "CapBnd": kept, "CapAmb": 0}
    assert {each: int(said[each][0], 16) for each in SETS} == wanted
    assert said["NoNewPrivs"] == ["1"]


def test_accounts(used: Spine) -> None:
    """Four users, each with its own group and no other."""
    seen = {name: status(pid) for name, pid in pids(used.appliance).items()}
    for name, said in seen.items():
        assert len(set(said["Uid"])) == 1, name
        assert len(set(said["Gid"])) == 1, name
        assert said["Groups"] == [], name
    assert len({said["Uid"][0] for said in seen.values()}) == 4
    assert len({said["Gid"][0] for said in seen.values()}) == 4
    assert seen["kernel"]["Uid"][0] == "0"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_dumped(used: Spine, name: str) -> None:
    """A process that is not dumpable has its files below /proc owned by root (proc(5)); its own uid cannot trace it."""
    pid = pids(used.appliance)[name]
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0
    limits = next(each for each in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in each)
    assert limits.split()[4:6] == ["0", "0"]


def test_a_crash_leaves_no_core() -> None:
    with Spine() as spine:
        before = pids(spine.appliance)
        cwd = {name: os.readlink(f"/proc/{pid}/cwd") for name, pid in before.items()}
        os.kill(before["vault"], 6)
        time.sleep(0.3)
        for folder in {*cwd.values(), "/tmp", str(spine.world.dir)}:
            assert not [name for name in os.listdir(folder) if name.startswith("core") and str(before["vault"]) in name]


def inet_sockets(pid: int) -> list[str]:
    """Local addresses (/proc/net, hex) of the process's IPv4 and IPv6 sockets."""
    held = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if target.startswith("socket:["):
            held.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            if line.split()[9] in held:
                found.append(f"{table} {line.split()[1]}")
    return found


def test_only_the_proxy_is_on_the_network(used: Spine) -> None:
    running = pids(used.appliance)
    assert {name: inet_sockets(pid) for name, pid in running.items() if name != "proxy"} == {
        "kernel": [],
        "vault": [],
        "control": [],
    }
    assert any(each.startswith("tcp ") and each.endswith(":03EE") for each in inet_sockets(running["proxy"]))  # 1006


PROXY_TRIES = """
import ctypes, errno, os, sys
vault, kernel, control, supervisor, *paths = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def no(f):
    try:
        f()
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'got it'
def trace(pid):
    if libc.ptrace(16, int(pid), 0, 0):
        raise OSError(ctypes.get_errno(), '')
for path in paths:
    print(path, no(lambda: os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read()))
for pid in (vault, kernel, control, supervisor, os.environ['PROXY']):
    for name in ('mem', 'environ', 'maps', 'fd', 'root'):
        there = f'/proc/{pid}/{name}'
        print(there, no(lambda: os.listdir(there) if name in ('fd', 'root') else open(there, 'rb').read(1)))
    print('trace', pid, no(lambda: trace(pid)))
    if pid != os.environ['PROXY']:
        print('kill', pid, no(lambda: os.kill(int(pid), 0)))
print('bpf', no(lambda: os.open(os.environ['PINS'], os.O_RDONLY)))
print('raw', no(lambda: __import__('socket').socket(2, 3, 255)))
print('low port', no(lambda: __import__('socket').socket().bind(('127.0.0.1', 80))))
print('setuid', no(lambda: os.setuid(0)))
"""


def test_what_the_proxys_uid_cannot_have(used: Spine) -> None:
    """Another process of its uid and gid, in the same namespaces: as if the proxy had been taken over."""
    appliance, running = used.appliance, pids(used.appliance)
    said = status(running["proxy"])
    vault, control = appliance.state_dir / "vault", appliance.state_dir / "control"
    private = [str(path) for folder in (vault, control) for path in (folder, *folder.rglob("*"))]
    assert any("key" in path for path in private)
    pipes = appliance.run_dir / "control" / "records"  # records can be put in, and not be seen again
    private += [str(path) for path in (pipes, *pipes.iterdir())]
    assert appliance.process is not None
    argv = [str(running[name]) for name in ("vault", "kernel", "control")] + [str(appliance.process.pid), *private]
    done = used.world.run(
        ["/usr/bin/python3", "-c", PROXY_TRIES, *argv],
        uid=int(said["Uid"][0]),
        gid=int(said["Gid"][0]),
        env={"PROXY": str(running["proxy"]), "PINS": str(appliance.run_dir / "bpf" / "links")},
        cwd="/",
        check=True,
    )
    answers = [line.rpartition(" ") for line in done.stdout.splitlines()]
    assert len(answers) > 30
    assert {what: answer for what, _, answer in answers if answer not in ("EACCES", "EPERM")} == {}


def test_files(used: Spine) -> None:
    """Each process's state is its own user's, and nobody else's to read."""
    seen = {name: int(status(pid)["Uid"][0]) for name, pid in pids(used.appliance).items()}
    for name in ("vault", "control"):
        folder = used.appliance.state_dir / name
        for path in (folder, *folder.rglob("*")):
            found = path.stat()
            assert (found.st_uid, found.st_mode & 0o077) == (seen[name], 0), path
    pipes = used.appliance.run_dir / "control" / "records"
    assert (pipes.stat().st_uid, stat.S_IMODE(pipes.stat().st_mode)) == (seen["control"], 0o2710)
    made = [path.stat() for path in pipes.iterdir()]
    workers = int(status(pids(used.appliance)["proxy"])["Gid"][0])
    assert {(each.st_mode, each.st_uid, each.st_gid) for each in made} == {
        (stat.S_IFIFO | 0o620, seen["control"], workers)
    }
    pins = (used.appliance.run_dir / "bpf").stat()
    assert (pins.st_uid, pins.st_mode & 0o777) == (0, 0o700)
    lock = (used.appliance.run_dir / "lock").stat()
    assert stat.S_IMODE(lock.st_mode) == 0o600  # flock(2) takes no right to write


@pytest.mark.parametrize("name", ["kernel", "control"])
def test_who_never_saw_the_secret(used: Spine, name: str) -> None:
    assert times_in_memory(pids(used.appliance)[name], CANARY.encode()) == 0
    assert CANARY.encode() not in Path(f"/proc/{pids(used.appliance)[name]}/environ").read_bytes()


def test_memory_is_really_searched(used: Spine) -> None:
    assert times_in_memory(pids(used.appliance)["vault"], CANARY.encode()) > 0


def test_where_secrets_are_not(used: Spine) -> None:
    """Neither log nor audit log nor metrics, nor any file of ours but the vault's."""
    appliance = used.appliance
    texts = {
        "log": appliance.log(),
        "metrics": str(appliance.cli("status", "--json").stdout),
        "proxy's environment": Path(f"/proc/{pids(appliance)['proxy']}/environ").read_text(),
    }
    for path in (*appliance.run_dir.rglob("*"), *(appliance.state_dir / "control").rglob("*")):
        if path.is_file() and not path.is_relative_to(appliance.run_dir / "bpf"):
            texts[str(path)] = path.read_text(errors="replace")
    assert [name for name, text in texts.items() if CANARY in text] == []
