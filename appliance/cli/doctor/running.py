"""The appliance that runs, as far as it can be seen from outside."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from appliance.cli import admin
from appliance.cli.doctor.findings import Finding, unknown
from appliance.config.places import Places
from appliance.config.schema import Config
from appliance.daemon.only_one import LOCK

_SOCKET = re.compile(r"socket:\[(\d+)\]")


class Running:
    """`coatcheck up` on the configuration's run_dir; `config` None: it is not known where that would be."""

    def __init__(self, config: Config | None) -> None:
        self._places = Places(config) if config is not None else None

    @cached_property
    def pid(self) -> int:
        """Who holds the run_dir's lock (proc(5), /proc/locks); 0 if nobody, or nobody that is seen from here."""
        try:
            inode = (self._places.run / LOCK).stat().st_ino if self._places else -1
            lines = Path("/proc/locks").read_text().splitlines()
        except OSError:
            return 0
        for line in lines:
            fields = line.split()
            if "FLOCK" in fields and "->" not in fields and fields[5].rpartition(":")[2] == str(inode):
                return max(0, int(fields[4]))
        return 0

    def sockets(self) -> set[int]:
        """Inodes of the sockets that it has; none if that is not ours to see."""
        found = set()
        try:
            for name in os.listdir(f"/proc/{self.pid}/fd"):
                match = _SOCKET.fullmatch(os.readlink(f"/proc/{self.pid}/fd/{name}"))
                if match:
                    found.add(int(match[1]))
        except OSError:
            pass
        return found

    def findings(self) -> Iterator[Finding]:
        if self._places is None:
            yield unknown("daemon", "where it would be is in the configuration, which cannot be read")
            return
        socket = self._places.admin_socket
        try:
            status, health = admin.tried(socket, "/health")
        except (OSError, http.client.HTTPException, ValueError) as error:
            yield self._silent(socket, error)
            return
        if status != 200:
            yield Finding("daemon", "missing", f"{socket} answers with status {status}", "read its log, restart it")
            return
        yield Finding("daemon", "ok", f"version {health.get('version')} answers at {socket}")
        yield _status(socket)

    def _silent(self, socket: str, error: Exception) -> Finding:
        why = getattr(error, "strerror", None) or type(error).__name__
        if self.pid:
            return Finding(
                "daemon",
                "missing",
                f"pid {self.pid} runs, but {socket} does not answer ({why}): governed traffic is refused",
                "read its log; restart it",
            )
        return Finding("daemon", "optional", "it does not run: governed traffic is refused", "coatcheck up")


def _status(socket: str) -> Finding:
    try:
        status, answer = admin.tried(socket, "/status")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Finding("status", "missing", f"the daemon does not say: {error or type(error).__name__}", "read its log")
    if status != 200:
        return unknown("status", str(answer.get("detail", f"status {status}")), "ask as root or a member of the group")
    bad = [name for name, part in answer.items() if isinstance(part, dict) and not part.get("ok")]
    if not bad:
        return Finding("status", "ok", f"every part is well; {answer['jobs']} jobs")
    return Finding("status", "missing", f"not well: {', '.join(bad)}", "coatcheck status says more")
