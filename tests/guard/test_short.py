"""Short of something: room on the disk, descriptors, connections."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.processes import pids, status
from tests.e2e.spine import HOST, Spine
from tests.guard.client import Client, ask_until_refused
from tests.guard.test_killed import until

pytestmark = pytest.mark.world

PER_JOB = 40


def small(config: dict[str, Any], _policy: dict[str, Any]) -> None:
    config["limits"] = {"flows": 120, "flows_per_job": PER_JOB, "hello_timeout": 60}


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    """Its state is on a file system of 32 MB: control reserves up to 24 for what its worker's pipes may hold."""
    with Spine(small, start=False) as made:
        made.appliance.state_dir.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m,mode=755", "none", str(made.appliance.state_dir)], check=True
        )
        made.appliance.start()
        yield made


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    file = folder / "filler"
    with open(file, "wb", 0) as out:
        for size in (1 << 20, 1 << 12, 1 << 8, 1):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                continue
    return file


def test_full_disk(spine: Spine) -> None:
    """What cannot be recorded does not happen: once the room is used up that control has reserved, 503 on a connection
    that is open, and none is opened; then it goes on."""
    client = Client(spine)
    assert until(client, "200", "keep", "/secret")[-1] == "200"
    got = len(spine.received())
    filler = fill(spine.appliance.state_dir)
    try:
        answers = ask_until_refused(client, "/full")
        assert answers[-1].startswith("503 "), answers[-1]
        assert set(answers[:-1]) == {"200"}
        assert len(spine.received()) == got + len(answers) - 1
        assert client.ask("keep", "/secret").startswith("503 ")
        assert client.ask("get", "/secret") != "200"
        assert len(spine.received()) == got + len(answers) - 1
        on_record = {r["path"] for r in spine.appliance.audit() if r["type"] == "operation.decided"}
        assert {each["path"] for each in spine.received()[got:]} - on_record == set()
        before = jobs_started(spine)
        run = spine.shell("echo started")
        assert (run.stdout == "started\n") == (jobs_started(spine) > before)  # no job either without its record
    finally:
        filler.unlink()
    until(client, "200", "get", "/secret")
    assert spine.appliance.cli("audit", "verify").returncode == 0
    client.end()


def jobs_started(spine: Spine) -> int:
    return sum(record["type"] == "job.started" for record in spine.appliance.audit())


def test_one_job_cannot_take_all_connections(spine: Spine) -> None:
    greedy, other = Client(spine), Client(spine)
    greedy.ask("hold", 3 * PER_JOB)
    assert until(other, "200", "get", "/secret")[-1] == "200"
    assert greedy.ask("get", "/secret") != "200"
    refused = [r for r in spine.appliance.audit() if r["type"] == "flow.refused" and r["reason"] == "flows-per-job"]
    assert len(refused) >= PER_JOB
    greedy.ask("drop")
    until(greedy, "200", "get", "/secret")
    greedy.end()
    other.end()


def limit_descriptors(spine: Spine, pid: int, most: int) -> None:
    """Sets the soft limit, as the process's own user: that takes no capability (prlimit(2))."""
    said = status(pid)
    spine.world.run(
        ["prlimit", "--pid", str(pid), f"--nofile={most}:"],
        uid=int(said["Uid"][0]),
        gid=int(said["Gid"][0]),
        check=True,
    )


def test_large_executables_keep_nobody_waiting(spine: Spine) -> None:
    """One job runs programs of 60 GB (sparse), which would take minutes to hash; another one's new program is known
    at once."""
    folder = spine.world.dir / "large"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    make = (
        "for n in 1 2 3; do cp /usr/bin/curl {0}/$n; truncate -s {1} {0}/$n; {0}/$n -sS https://{2}/secret & done; wait"
    )
    large = spine.world.popen(
        spine.appliance.job_command(["sh", "-c", make.format(folder, "60G", HOST)]),
        cwd="/",
        env=spine.appliance.environment,
        uid=65534,
        groups=[spine.appliance.group],
        stderr=subprocess.PIPE,
    )
    done = spine.shell(f"cp /usr/bin/curl {folder}/new && {folder}/new -sS -w '%{{http_code}}' https://{HOST}/echo")
    assert done.stdout.endswith("200"), done
    large.kill()


def used_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_descriptors(spine: Spine) -> None:
    """The worker waits for some to be free again, without spinning; nothing gets past; then it goes on."""
    proxy = pids(spine.appliance)["proxy"]
    greedy, other = Client(spine), Client(spine)
    until(other, "200", "get", "/secret")
    used = {int(name) for name in os.listdir(f"/proc/{proxy}/fd")}
    limit_descriptors(spine, proxy, [number for number in range(1024) if number not in used][5])  # five are left
    try:
        greedy.ask("hold", PER_JOB - 5)
        got = len(spine.received())
        other.send("get", "/secret")
        before = used_cpu(proxy)
        time.sleep(1)
        assert used_cpu(proxy) - before < 0.5
        assert len(spine.received()) == got
        greedy.ask("drop")
        other.answer()
        until(other, "200", "get", "/secret")
    finally:
        limit_descriptors(spine, proxy, 1024)
    assert pids(spine.appliance)["proxy"] == proxy
    assert "listener.short" in {json.loads(line).get("event") for line in spine.appliance.log().splitlines() if line}
    greedy.end()
    other.end()
