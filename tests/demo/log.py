"""The audit log at the end: whole, and a copy in which one word was changed is found out."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.demo.seen import Log
from tests.demo.setting import Setting


def log(setting: Setting) -> Log:
    setting.appliance.settle()
    text = (setting.appliance.state_dir / "control" / "audit.jsonl").read_text()
    verified = setting.appliance.cli("audit", "verify", "--json")
    folder = setting.world.dir / "copy"
    folder.mkdir()
    copy, keys = folder / "audit.jsonl", folder / "jwks.json"
    keys.write_text(setting.admin("/jwks"))
    copy.write_text(text.replace('"decision":"deny"', '"decision":"allow"', 1))
    forged = setting.appliance.cli("audit", "verify", "--json", "--file", str(copy), "--jwks", str(keys))
    return Log(
        verified=_report(verified),
        exit=verified.returncode,
        text=text,
        forged=_report(forged),
        forged_exit=forged.returncode,
    )


def _report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return {"ok": None, "findings": [], "error": f"{done.stdout}{done.stderr}"}
    return found if isinstance(found, dict) else {}
