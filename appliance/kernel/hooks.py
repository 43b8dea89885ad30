"""The hooks: loaded, taken over from an earlier run, attached to cgroups, kept by pins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from appliance.kernel import btf, counters, libbpf, pins
from appliance.kernel.layouts import (
    ID_SIZE,
    INDEX_ZERO,
    JOB_SIZE,
    LAYOUT,
    SIZES,
    JobValue,
    pack_cgroup_id,
    pack_config,
    pack_job,
    parse_cgroup_id,
    parse_job,
)
from appliance.model.errors import EnvironmentFailed

OBJECT = Path(__file__).resolve().parents[2] / "bpf" / "build" / "coatcheck.bpf.o"


class Hooks:
    """Loaded and configured hooks. Every method raises EnvironmentFailed.

    `object_path`: the compiled hooks. `folder`: where the pins are. Ports are those of the proxy and the DNS
    forwarder on loopback, in the network namespace whose cookie is `host_netns`.
    """

    def __init__(
        self, folder: Path, host_netns: int, proxy_port: int, dns_port: int, *, object_path: Path = OBJECT
    ) -> None:
        if not object_path.exists():
            raise EnvironmentFailed("hooks", f"{object_path} is missing: run make in bpf/")
        pins.mount(folder)
        self._maps = folder / f"maps-{LAYOUT}"
        self._links = folder / "links"
        self._links.mkdir(exist_ok=True, mode=0o700)
        self._ports = (host_netns, proxy_port, dns_port)
        self._object = libbpf.BpfObject(str(object_path), str(self._maps))
        try:
            self._check()
            self._cpus = counters.possible_cpus()
            self._carry_jobs(folder)
            self.configure(deny_all=False)
        except BaseException:
            self._object.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._object.programs))

    def close(self) -> None:
        """Frees our descriptors. What is attached stays attached."""
        self._object.close()

    def configure(self, *, deny_all: bool) -> None:
        """`deny_all`: every governed connection is refused and every packet dropped, until it is taken back."""
        libbpf.update(self._object.maps["config"], INDEX_ZERO, pack_config(*self._ports, deny_all))

    # ---- cgroups ----

    def take_over(self, path_of: Callable[[int], str], mount: Path) -> list[int]:
        """Puts our programs in the place of those that an earlier run left attached, without a gap; the ids of the
        cgroups. Pins of cgroups that are gone are removed."""
        taken = []
        for folder in self._links.iterdir():
            cgroup_id = int(folder.name)
            path = path_of(cgroup_id)
            if not path:
                self._unpin(folder)
                continue
            self.attach(cgroup_id, mount / path.lstrip("/"))
            taken.append(cgroup_id)
        return taken

    def attach(self, cgroup_id: int, path: Path) -> None:
        """Attaches every hook to the cgroup, or replaces those that are attached. All or nothing for new ones."""
        folder = self._links / str(cgroup_id)
        fresh = not folder.exists()
        folder.mkdir(exist_ok=True, mode=0o700)
        try:
            cgroup = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._unpin(folder)
            raise EnvironmentFailed("cgroup", f"{path}: {error.strerror}") from None
        try:
            for name, program in self._object.programs.items():
                self._attach_one(name, program, cgroup, folder / name)
            for stale in folder.iterdir():
                if stale.name not in self._object.programs:
                    stale.unlink()  # a hook that this version does not have
        except BaseException:
            if fresh:
                self._unpin(folder)
            raise
        finally:
            os.close(cgroup)

    def detach(self, cgroup_id: int) -> None:
        """For cgroups that are gone, and for those that the configuration no longer governs."""
        folder = self._links / str(cgroup_id)
        if folder.exists():
            self._unpin(folder)

    # ---- jobs ----

    def put_job(self, cgroup_id: int, job: JobValue) -> None:
        libbpf.update(self._object.maps["jobs"], pack_cgroup_id(cgroup_id), pack_job(job))

    def drop_job(self, cgroup_id: int) -> None:
        libbpf.delete(self._object.maps["jobs"], pack_cgroup_id(cgroup_id))

    def jobs(self) -> dict[int, JobValue]:
        return _jobs(self._object.maps["jobs"])

    # ---- what is told ----

    @property
    def flows_fd(self) -> int:
        return self._object.maps["flows"]

    def open_flows_read_only(self) -> int:
        """A descriptor of the `flows` map for another process: it cannot write through it."""
        return libbpf.open_pinned(str(self._maps / "flows"), read_only=True)

    def counted(self) -> dict[str, int]:
        return counters.read(self._object.maps["counters"], self._cpus)

    # ---- within ----

    def _check(self) -> None:
        found = btf.layouts(self._object.btf)
        for name, size in SIZES.items():
            if name not in found or found[name].size != size:
                raise EnvironmentFailed("hooks", f"struct {name} of the compiled hooks is not ours: build them anew")

    def _carry_jobs(self, folder: Path) -> None:
        """From the maps of an earlier layout; these then go, with the last link that uses them."""
        for old in folder.glob("maps-*"):
            if old == self._maps:
                continue
            fd = libbpf.open_pinned(str(old / "jobs"))
            try:
                for cgroup_id, job in _jobs(fd).items():
                    self.put_job(cgroup_id, job)
            finally:
                os.close(fd)
            self._unpin(old)

    @staticmethod
    def _attach_one(name: str, program: libbpf.Program, cgroup: int, pinned: Path) -> None:
        if pinned.exists():
            link = libbpf.open_pinned(str(pinned))
            try:
                libbpf.replace(link, program, name)
            finally:
                os.close(link)
            return
        link = libbpf.attach(program, cgroup, name)
        try:
            libbpf.pin(link, str(pinned))
        finally:
            os.close(link)

    @staticmethod
    def _unpin(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _jobs(fd: int) -> dict[int, JobValue]:
    found = {}
    for key in libbpf.keys(fd, ID_SIZE):
        value = libbpf.lookup(fd, key, JOB_SIZE)
        if value is not None:
            found[parse_cgroup_id(key)] = parse_job(value)
    return found
