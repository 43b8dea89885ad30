"""The whole world: namespaces, cgroup, folder, and the programs that run in them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.world.cgroup import cgroup2_mount, remove_tree
from tests.world.leftovers import PREFIX, remove_leftovers
from tests.world.namespaces import HOST4, HOST6, OUTSIDE4, OUTSIDE6, Namespaces, Where, ip

__all__ = ["HOST4", "HOST6", "OUTSIDE4", "OUTSIDE6", "World"]

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parents[2]
_ENTER_CGROUP = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
_BIND = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@"'


class World:
    """`with World() as world:`. Attributes (all valid within the `with`):

    `name`      unique, a prefix of everything that is made
    `dir`       temporary folder, 0755; anything mounted below it is unmounted at the end
    `cgroup`    the world's cgroup, an absolute path; `cgroup_name` the same below the cgroup2 mount
    `free`      a cgroup in it that nothing governs: where programs run unless told otherwise
    """

    def __init__(self) -> None:
        if os.geteuid():
            raise RuntimeError("a world needs root: it makes network namespaces and cgroups")
        for program in ("ip", "nsenter", "unshare", "setpriv", "mount"):
            if shutil.which(program) is None:
                raise RuntimeError(f"{program} is missing: apt-get install iproute2 util-linux mount")
        self.name = f"{PREFIX}-{os.getpid()}-{os.urandom(3).hex()}"
        self.cgroup_name = self.name
        self.cgroup = cgroup2_mount() / self.name
        self.free = self.cgroup / "free"
        self._namespaces = Namespaces(self.name)
        self._processes: list[subprocess.Popen[Any]] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> World:
        remove_leftovers()
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.dir.chmod(0o755)
        try:
            self.free.mkdir(parents=True)
            self._namespaces.make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes everything; each step is tried even if one before it failed, and the first failure is raised."""
        steps: list[Callable[[], object]] = [sock.close for sock in self._sockets]
        steps += [lambda: remove_tree(self.cgroup), self._reap, self._unmount, self._namespaces.remove]
        steps.append(self._remove_dir)
        failures: list[BaseException] = []
        for step in steps:
            try:
                step()
            except BaseException as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    # ---- programs ----

    def command(
        self,
        argv: Sequence[str],
        *,
        where: Where = "host",
        cgroup: str | Path | None = None,
        uid: int | None = None,
        gid: int | None = None,
        groups: Sequence[int] = (),
        mounts: Mapping[str, str] | None = None,
        private_mounts: bool = False,
    ) -> list[str]:
        """The argument list that runs `argv` there: for what wants to start the process itself.

        `mounts`: {path: what is bind-mounted over it} in a mount namespace of its own; `private_mounts` makes
        one without any. `gid` is `uid` unless given; `groups` are the supplementary ones.
        """
        full = ["sh", "-c", _ENTER_CGROUP, str(cgroup or self.free)]
        full += ["nsenter", f"--net={self._namespaces.path(where)}", "--"]
        if mounts or private_mounts:
            pairs = [word for target, source in (mounts or {}).items() for word in (source, target)]
            full += ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _BIND, "sh", *pairs, "--"]
        if uid is not None:
            extra = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
            full += ["setpriv", f"--reuid={uid}", f"--regid={uid if gid is None else gid}", extra, "--"]
        return [*full, *argv]

    def popen(
        self,
        argv: Sequence[str],
        *,
        where: Where = "host",
        cgroup: str | Path | None = None,
        uid: int | None = None,
        gid: int | None = None,
        groups: Sequence[int] = (),
        mounts: Mapping[str, str] | None = None,
        private_mounts: bool = False,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Starts `argv`; the pid is the program's own. `options` go to subprocess.Popen; the current folder is
        the repository unless given. It is killed when the world ends."""
        full = self.command(
            argv,
            where=where,
            cgroup=cgroup,
            uid=uid,
            gid=gid,
            groups=groups,
            mounts=mounts,
            private_mounts=private_mounts,
        )
        options.setdefault("cwd", REPOSITORY)
        process = subprocess.Popen(full, **options)
        self._processes.append(process)
        return process

    def run(
        self,
        argv: Sequence[str],
        *,
        where: Where = "host",
        cgroup: str | Path | None = None,
        uid: int | None = None,
        check: bool = False,
        timeout: float = 30.0,
        input: str | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `argv` to its end and captures both outputs as text. Raises TimeoutExpired, having killed it;
        with `check`, RuntimeError with what it wrote."""
        process = self.popen(
            argv,
            where=where,
            cgroup=cgroup,
            uid=uid,
            text=True,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        finally:
            self._processes.remove(process)
        if check and process.returncode:
            raise RuntimeError(f"{argv}: exit {process.returncode}: {out}{err}")
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def python(self, code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`run` of this Python with `-c code`."""
        return self.run([sys.executable, "-c", code, *arguments], **options)

    # ---- network ----

    def ip(self, where: Where, *arguments: str) -> str:
        """ip(8) within a namespace, for example `world.ip("outside", "addr", "add", "192.0.2.1/32", "dev", "v1")`."""
        return ip("-n", self._namespaces.names[where], *arguments)

    def inside(self, where: Where, function: Callable[[], T]) -> T:
        """Calls `function` on a thread in the namespace. Sockets that it makes stay in that namespace."""
        return self._namespaces.inside(where, function)

    def listener(self, where: Where, address: str, port: int = 0, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A bound socket of this process in the namespace (listening if it is a stream), closed at the end."""

        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
            return sock

        sock = self.inside(where, make)
        self._sockets.append(sock)
        return sock

    # ---- folders and cgroups ----

    def new_cgroup(self, name: str) -> Path:
        """A cgroup below the world's own, parents included."""
        path = self.cgroup / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    # ---- end ----

    def _reap(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _mounts(self) -> list[str]:
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [mount for mount in mounts if mount.startswith(f"{self.dir}/")]

    def _unmount(self) -> None:
        for mount in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", mount], check=True)

    def _remove_dir(self) -> None:
        if self._mounts():  # never delete through a mount
            raise RuntimeError(f"{self.dir} still has mounts below it")
        shutil.rmtree(self.dir)
