"""Facts to change one at a time."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.model.facts import Ancestor, ProcessFacts
from appliance.model.ids import JobId

SHA = "ab" * 32
BASE = ProcessFacts(
    pid=4711,
    start_ticks=123456,
    uid=1000,
    gid=1000,
    groups=(1000, 27),
    exe="/usr/bin/curl",
    exe_inode=99,
    exe_device=8 << 20 | 1,
    exe_sha256=SHA,
    cmdline=("curl", "-s", "https://api.example.test/"),
    comm="curl",
    cgroup="/coatcheck.slice/j-00112233445566aa",
    cgroup_id=12345,
    unit="actions.runner.one.service",
    netns=4026531840,
    ancestors=(Ancestor(1, "/usr/lib/systemd/systemd", "systemd"), Ancestor(0, "", "swapper")),
    job=JobId("j-00112233445566aa"),
    job_label="ci",
    launched_uid=1000,
    complete=True,
)


def facts(**changes: Any) -> ProcessFacts:
    return msgspec.structs.replace(BASE, **changes)
